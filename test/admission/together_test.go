//go:build admission

package admission

import (
	"fmt"
	"testing"

	"github.com/tierwall/tierwall/policy"
)

// defaultActions are those of namespaces that are not Deny.
func defaultActions() map[string]policy.Verdict {
	out := openNamespaces()
	for _, name := range []string{"open-roles", "open-taken", "open-dry-run", "open-quota", "open-refused",
		"open-np", "open-cnp", "open-tr", "open-np-last", "open-cnp-last", "open-tr-last"} {
		out[name] = policy.Allow
	}
	return out
}

// openNamespaces are those of this test, whose default action is Allow.
func openNamespaces() map[string]policy.Verdict {
	out := map[string]policy.Verdict{}
	for i := range 10 {
		out[fmt.Sprintf("open-%d", i)] = policy.Allow
	}
	return out
}

// Two policies isolate a pod. Either can go, but not both, however close together they go.
func TestPoliciesThatGoTogetherAreJudgedTogether(t *testing.T) {
	for namespace := range openNamespaces() {
		deletesOneOfTwo(t, isolateTwice(t, namespace))
	}
}
