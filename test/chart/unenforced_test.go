package chart

import (
	"slices"
	"testing"

	"github.com/tierwall/tierwall/internal/unenforced"
)

// The webhook may list the policies of other engines that are known, and nothing else of
// their groups.
func TestWebhookCountsPoliciesOfOtherEngines(t *testing.T) {
	forEveryVariant(t, func(t *testing.T, all []object) {
		known := map[string][]string{}
		for _, r := range unenforced.Resources() {
			known[r.Group] = append(known[r.Group], r.Plural)
		}
		found := map[string][]string{}
		for _, o := range all {
			rules, everywhere := rulesOf(o)
			for _, rule := range rules {
				if !everywhere || !slices.Equal(rule.Verbs, []string{"list"}) || len(known[rule.APIGroups[0]]) == 0 {
					continue
				}
				for _, r := range rule.Resources {
					if rule.APIGroups[0] != "policy.networking.k8s.io" || r != "clusternetworkpolicies" { // those are enforced
						found[rule.APIGroups[0]] = append(found[rule.APIGroups[0]], r)
					}
				}
			}
		}
		for group, want := range known {
			if slices.Sort(want); !slices.Equal(slices.Sorted(slices.Values(found[group])), want) {
				t.Errorf("%s: the accounts may list %q, want %q", group, found[group], want)
			}
		}
	})
}
