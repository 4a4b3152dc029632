package compile

import (
	"cmp"
	"slices"
	"strings"

	"github.com/tierwall/tierwall/policy"
)

// policies are the policies of a snapshot, read and in order.
type policies struct {
	namespaced map[string][]*networkPolicy // by namespace, sorted by name
	cluster    []*clusterPolicy            // by priority, then name
}

// selecting is the policies that select one pod, in order.
type selecting struct {
	namespaced []*networkPolicy
	cluster    []*clusterPolicy
}

func parsePolicies(s *Snapshot) (*policies, []policy.Problem) {
	var problems []policy.Problem
	nps := make([]*networkPolicy, 0, len(s.NetworkPolicies))
	for _, np := range s.NetworkPolicies {
		p, found := parseNetworkPolicy(np)
		nps, problems = append(nps, p), append(problems, found...)
	}
	cnps := make([]*clusterPolicy, 0, len(s.ClusterNetworkPolicies))
	for _, cnp := range s.ClusterNetworkPolicies {
		p, found := parseClusterNetworkPolicy(cnp)
		cnps, problems = append(cnps, p), append(problems, found...)
	}
	slices.SortFunc(nps, compareNetworkPolicies)
	slices.SortFunc(cnps, compareClusterPolicies)
	sortProblems(problems)
	out := &policies{namespaced: map[string][]*networkPolicy{}, cluster: cnps}
	for i, p := range nps {
		p.number = uint64(i)
		out.namespaced[p.id.Namespace] = append(out.namespaced[p.id.Namespace], p)
	}
	for i, p := range cnps {
		p.number = uint64(i)
	}
	return out, problems
}

// sortProblems orders problems by object; those of one object keep their order.
func sortProblems(problems []policy.Problem) {
	slices.SortStableFunc(problems, func(a, b policy.Problem) int { return compareObjects(a.ID, b.ID) })
}

// joinProblems are the problems of policies and of classes, sorted; classes have many alike.
func joinProblems(ofPolicies, ofClasses []policy.Problem) []policy.Problem {
	slices.SortFunc(ofClasses, func(a, b policy.Problem) int {
		return cmp.Or(compareObjects(a.ID, b.ID), strings.Compare(a.Message, b.Message))
	})
	out := slices.Concat(ofPolicies, slices.Compact(ofClasses))
	sortProblems(out)
	return out
}

func compareNetworkPolicies(a, b *networkPolicy) int { return compareObjects(a.id, b.id) }

func compareObjects(a, b policy.RuleID) int {
	return cmp.Or(
		strings.Compare(a.Kind, b.Kind),
		strings.Compare(a.Namespace, b.Namespace),
		strings.Compare(a.Name, b.Name))
}

// selecting are the policies whose subject the pod is, without the NetworkPolicies where these are over a budget.
func (ps *policies) selecting(p *pod, ns *namespace, over bool) selecting {
	var out selecting
	for _, np := range ps.namespaced[p.Namespace] {
		if !over && np.subject.matches(p.labels) {
			out.namespaced = append(out.namespaced, np)
		}
	}
	for _, cp := range ps.cluster {
		if cp.namespaces.matches(ns.labels) && cp.pods.matches(p.labels) {
			out.cluster = append(out.cluster, cp)
		}
	}
	return out
}
