package admit

import (
	"fmt"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tierwall/tierwall/api/v1alpha1"
)

// Two policies exceed the budget of selectors of a class, which closes their pods. Deleting one of them opens the other,
// and is not admitted as a change that can only close.
func TestDeletionThatLiftsBudgetNeedsCompleteEffect(t *testing.T) {
	named := func(name string, rules ...networkingv1.NetworkPolicyIngressRule) *networkingv1.NetworkPolicy {
		np := networkPolicy(rules...)
		np.Name, np.UID = name, types.UID("uid-"+name)
		return np
	}
	wide := func(name string) *networkingv1.NetworkPolicy {
		var rule networkingv1.NetworkPolicyIngressRule
		for i := range 60 {
			rule.From = append(rule.From, networkingv1.NetworkPolicyPeer{PodSelector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
				{Key: fmt.Sprint(name, i), Operator: metav1.LabelSelectorOpNotIn, Values: []string{"x"}}}}})
		}
		return named(name, rule)
	}
	first, second := wide("wide-0"), wide("wide-1")
	second.Spec.Ingress[0].From = append(second.Spec.Ingress[0].From, unboundedPeer()) // its effect is not complete
	for _, c := range []struct {
		name    string
		stored  []*networkingv1.NetworkPolicy
		deleted *networkingv1.NetworkPolicy
		allowed bool
		message string
	}{
		{"over the budget", []*networkingv1.NetworkPolicy{named("isolated"), first, second}, second, false, "Guardrail default-deny-stays"},
		{"within the budget", []*networkingv1.NetworkPolicy{named("isolated"), second}, second, true, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newShopCluster()
			w.snapshot.NetworkPolicies = c.stored
			stays := &v1alpha1.Guardrail{ObjectMeta: metav1.ObjectMeta{Name: "default-deny-stays", UID: types.UID("1"), Generation: 1},
				Spec: v1alpha1.GuardrailSpec{Library: "default-deny-stays"}}
			h := newPolicyHandler(w, newLoadedStore(t, stays))
			req := newRequest("DELETE", "NetworkPolicy", "shop", c.deleted, nil)
			req.Name = c.deleted.Name
			assertResponse(t, h.Handle(t.Context(), req), c.allowed, c.message)
		})
	}
}
