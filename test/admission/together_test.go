//go:build admission

package admission

import (
	"errors"
	"fmt"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tierwall/tierwall/policy"
)

// defaultActions are those of namespaces that are not Deny.
func defaultActions() map[string]policy.Verdict {
	out := openNamespaces()
	out["open-roles"] = policy.Allow
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
	ctx := t.Context()
	for namespace := range openNamespaces() {
		if err := makeNamespace(ctx, namespace); err != nil {
			t.Fatal(err)
		}
		create(t, pod(namespace, "db", "default"))
		var policies []*networkingv1.NetworkPolicy
		for _, name := range []string{"a", "b"} {
			p := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
				Spec: networkingv1.NetworkPolicySpec{PolicyTypes: []networkingv1.PolicyType{"Ingress"}}}
			if err := world.admin.Create(ctx, p); err != nil {
				t.Fatal(err)
			}
			policies = append(policies, p)
		}
		becomes(t, "known", func() error {
			return errors.Join(world.admin.Delete(ctx, policies[0], client.DryRunAll), world.admin.Delete(ctx, policies[1], client.DryRunAll))
		})
		answers := make(chan error, 2)
		for _, p := range policies {
			go func() { answers <- world.admin.Delete(ctx, p) }()
		}
		first, second := <-answers, <-answers
		if first == nil {
			first, second = second, first
		}
		refusedWith(t, first, "Guardrail default-deny-stays")
		if second != nil {
			t.Errorf("namespace %s: both are refused: %v", namespace, second)
		}
	}
}
