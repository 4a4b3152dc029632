package compile

import (
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/tierwall/tierwall/policy"
)

// NamespaceWithinBudgets reports whether the NetworkPolicies of one namespace exceed neither its budgets nor those of
// any class, whatever pods there are. It ignores the budget of a single policy, which ValidateNetworkPolicy checks.
//
// It is exact for entries and counts every distinct selector as one that a pod can match. So it may be false of a
// namespace within its budgets, but is never true of one that exceeds them.
func NamespaceWithinBudgets(policies []*networkingv1.NetworkPolicy) bool {
	written, peers := 0, 0
	for _, np := range policies {
		if written += NetworkPolicySize(np); written > limits.namespaceSize {
			return false
		}
		peers += countPeers(np)
	}
	const largestGrowth = 4 // an entry as it is written comes to at most three as it is compiled
	if largestGrowth*written <= limits.classSize && peers <= min(limits.classSets, limits.namespaceSets) {
		return true
	}
	read := readAll(policies)
	for _, d := range policy.Directions {
		if classSize(d, read) > limits.classSize || len(podSets(rulesOf(read, d))) > limits.classSets {
			return false
		}
	}
	return len(podSets(rulesOf(read, policy.Directions[:]...))) <= limits.namespaceSets
}

func countPeers(np *networkingv1.NetworkPolicy) int {
	peers := 0
	for i := range np.Spec.Ingress {
		peers += len(np.Spec.Ingress[i].From)
	}
	for i := range np.Spec.Egress {
		peers += len(np.Spec.Egress[i].To)
	}
	return peers
}
