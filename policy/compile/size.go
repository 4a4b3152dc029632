package compile

import (
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/tierwall/tierwall/policy"
)

// Budgets, in entries as NetworkPolicySize and ClusterNetworkPolicySize count them. Ordinary
// policies have a few dozen entries; a list of 1,000 networks has 1,000.
const (
	// MaxPolicySize is what one policy may come to.
	MaxPolicySize = 20000
	// MaxClassSize is what all NetworkPolicies that select a pod may come to in one direction.
	MaxClassSize = 50000
)

// NetworkPolicySize is the number of entries of a policy: rules, peers, ports, networks with their
// exceptions, and the requirements of selectors with their values. What a policy costs is linear in it.
func NetworkPolicySize(np *networkingv1.NetworkPolicy) int {
	size := selectorSize(&np.Spec.PodSelector) + len(np.Spec.PolicyTypes)
	for i := range np.Spec.Ingress {
		size += networkRuleSize(np.Spec.Ingress[i].From, np.Spec.Ingress[i].Ports)
	}
	for i := range np.Spec.Egress {
		size += networkRuleSize(np.Spec.Egress[i].To, np.Spec.Egress[i].Ports)
	}
	return size
}

func networkRuleSize(peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort) int {
	size := 1 + len(peers) + len(ports)
	for i := range peers {
		p := &peers[i]
		size += selectorSize(p.PodSelector) + selectorSize(p.NamespaceSelector)
		if p.IPBlock != nil {
			size += len(p.IPBlock.Except)
		}
	}
	return size
}

// ClusterNetworkPolicySize is the number of entries of a policy, as NetworkPolicySize counts them.
func ClusterNetworkPolicySize(cnp *policyv1alpha2.ClusterNetworkPolicy) int {
	spec := &cnp.Spec
	size := selectorSize(spec.Subject.Namespaces) + namespacedPodSize(spec.Subject.Pods)
	for i := range spec.Ingress {
		in := &spec.Ingress[i]
		size += 1 + len(in.From) + len(in.Protocols)
		for _, p := range in.From {
			size += selectorSize(p.Namespaces) + namespacedPodSize(p.Pods)
		}
	}
	for i := range spec.Egress {
		eg := &spec.Egress[i]
		size += 1 + len(eg.To) + len(eg.Protocols)
		for _, p := range eg.To {
			size += selectorSize(p.Namespaces) + namespacedPodSize(p.Pods) + selectorSize(p.Nodes) + len(p.Networks) + len(p.DomainNames)
		}
	}
	return size
}

func selectorSize(s *metav1.LabelSelector) int {
	if s == nil {
		return 0
	}
	size := len(s.MatchLabels) + len(s.MatchExpressions)
	for i := range s.MatchExpressions {
		size += len(s.MatchExpressions[i].Values)
	}
	return size
}

func namespacedPodSize(p *policyv1alpha2.NamespacedPod) int {
	if p == nil {
		return 0
	}
	return selectorSize(&p.NamespaceSelector) + selectorSize(&p.PodSelector)
}

// reportSize reports a policy that is over its budget.
func reportSize(size int, r *reporter) (over bool) {
	if size <= MaxPolicySize {
		return false
	}
	r.report("/spec", "the policy comes to %d rules, peers, ports, networks, exceptions and label values; at most %d are allowed: split it, or use fewer and wider networks and selectors", size, MaxPolicySize)
	return true
}

// closedNetworkPolicy is a policy that isolates whom another isolates and allows nothing.
func closedNetworkPolicy(np *networkingv1.NetworkPolicy) *networkingv1.NetworkPolicy {
	out := &networkingv1.NetworkPolicy{}
	out.Namespace, out.Name = np.Namespace, np.Name
	if selectorSize(&np.Spec.PodSelector) <= MaxPolicySize { // else it may be meant for any pod
		out.Spec.PodSelector = np.Spec.PodSelector
	}
	_, isolates := policyTypes(np, &reporter{})
	for _, d := range policy.Directions {
		if isolates[d] {
			out.Spec.PolicyTypes = append(out.Spec.PolicyTypes, typeOf(d))
		}
	}
	return out
}

// denyAll has the policy deny everything in the directions in which it has rules.
func (p *clusterPolicy) denyAll(spec *policyv1alpha2.ClusterNetworkPolicySpec) {
	for d, rules := range [2]int{policy.Ingress: len(spec.Ingress), policy.Egress: len(spec.Egress)} {
		id := p.id
		id.Field = fieldOf(policy.Direction(d))
		if p.rules[d] = nil; rules > 0 {
			p.rules[d] = []rule{{id: id, verdict: policy.Deny, anyPeer: true, anyPort: true}}
		}
	}
}
