package admit

import (
	"fmt"
	"strings"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/tierwall/tierwall/api/v1alpha1"
)

// unboundedPeer matches more combinations of labels than an effect is computed for.
func unboundedPeer() networkingv1.NetworkPolicyPeer {
	s := &metav1.LabelSelector{}
	for k := range 12 {
		e := metav1.LabelSelectorRequirement{Key: fmt.Sprintf("k%d", k), Operator: metav1.LabelSelectorOpIn}
		for v := range 20 {
			e.Values = append(e.Values, fmt.Sprintf("v%d", v))
		}
		s.MatchExpressions = append(s.MatchExpressions, e)
	}
	return networkingv1.NetworkPolicyPeer{PodSelector: s}
}

// clusterCreation is of a ClusterNetworkPolicy for every pod, about all other pods.
func clusterCreation(name string, action policyv1alpha2.ClusterNetworkPolicyRuleAction) admission.Request {
	req := newRequest("CREATE", "ClusterNetworkPolicy", "", nil, &policyv1alpha2.ClusterNetworkPolicy{
		TypeMeta:   metav1.TypeMeta{APIVersion: "policy.networking.k8s.io/v1alpha2", Kind: "ClusterNetworkPolicy"},
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: policyv1alpha2.ClusterNetworkPolicySpec{Tier: policyv1alpha2.AdminTier, Priority: 1,
			Subject: policyv1alpha2.ClusterNetworkPolicySubject{Namespaces: &metav1.LabelSelector{}},
			Ingress: []policyv1alpha2.ClusterNetworkPolicyIngressRule{{Action: action,
				From: []policyv1alpha2.ClusterNetworkPolicyIngressPeer{{Namespaces: &metav1.LabelSelector{}}}}}}})
	req.Name = name
	return req
}

// A tenant's stored policy is why the effect is not complete.
func TestClosingChangeNeedsNoCompleteEffect(t *testing.T) {
	stored := networkPolicy(networkingv1.NetworkPolicyIngressRule{From: []networkingv1.NetworkPolicyPeer{unboundedPeer()}})
	update := func(was, is *networkingv1.NetworkPolicy) admission.Request {
		return newRequest("UPDATE", "NetworkPolicy", "shop", was, is)
	}
	more := networkPolicy(append([]networkingv1.NetworkPolicyIngressRule{fromBlock("10.0.0.0/8")}, stored.Spec.Ingress...)...)
	less := networkPolicy(stored.Spec.Ingress...)
	for _, c := range []struct {
		name    string
		stored  *networkingv1.NetworkPolicy
		request admission.Request
		allowed bool
		message string
	}{
		{"a ClusterNetworkPolicy that denies", stored, clusterCreation("emergency", policyv1alpha2.ClusterNetworkPolicyRuleActionDeny), true, ""},
		{"a ClusterNetworkPolicy that denies, of a name that is forbidden", stored,
			clusterCreation("forbidden", policyv1alpha2.ClusterNetworkPolicyRuleActionDeny), false, "Guardrail names"},
		{"a NetworkPolicy that allows less", more, update(more, less), true, ""},
		{"a NetworkPolicy that allows more", less, update(less, more), false, "Guardrail default-deny-stays"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newShopCluster()
			w.snapshot.NetworkPolicies = []*networkingv1.NetworkPolicy{c.stored}
			stays := &v1alpha1.Guardrail{ObjectMeta: metav1.ObjectMeta{Name: "default-deny-stays", UID: types.UID("1"), Generation: 1},
				Spec: v1alpha1.GuardrailSpec{Library: "default-deny-stays"}}
			h := newPolicyHandler(w, newLoadedStore(t, stays, newGuardrail("names", "deny", `input.request.name == "forbidden"`)))
			got := h.Handle(t.Context(), c.request)
			assertResponse(t, got, c.allowed, c.message)
			if warned := strings.Join(got.Warnings, "\n"); c.allowed && !strings.Contains(warned, "admitted because it can only close") {
				t.Errorf("warnings %q", warned)
			}
		})
	}
}
