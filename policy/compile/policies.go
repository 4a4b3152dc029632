package compile

import (
	"cmp"
	"slices"
	"strings"

	"github.com/tierwall/tierwall/policy"
)

// policies are the policies of a snapshot, read and in order.
type policies struct {
	namespaced map[string][]indexed[*networkPolicy] // by namespace, sorted by name
	cluster    []indexed[*clusterPolicy]            // by priority, then name
}

// indexed is a policy with its number in the order of all of its kind.
type indexed[P any] struct {
	policy P
	index  int
	named  [2]bool // some rule of the direction goes by port name
}

// selecting is the policies that select one pod, in order.
type selecting struct {
	namespaced []indexed[*networkPolicy]
	cluster    []indexed[*clusterPolicy]
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
	slices.SortFunc(nps, func(a, b *networkPolicy) int { return compareObjects(a.id, b.id) })
	slices.SortFunc(cnps, compareClusterPolicies)
	slices.SortStableFunc(problems, func(a, b policy.Problem) int { return compareObjects(a.ID, b.ID) })
	out := &policies{namespaced: map[string][]indexed[*networkPolicy]{}}
	for i, p := range nps {
		ns := p.id.Namespace
		out.namespaced[ns] = append(out.namespaced[ns], indexed[*networkPolicy]{p, i, named(p.rules)})
	}
	for i, p := range cnps {
		out.cluster = append(out.cluster, indexed[*clusterPolicy]{p, i, named(p.rules)})
	}
	return out, problems
}

func named(rules [2][]rule) [2]bool {
	return [2]bool{slices.ContainsFunc(rules[0], rule.named), slices.ContainsFunc(rules[1], rule.named)}
}

func compareObjects(a, b policy.RuleID) int {
	return cmp.Or(
		strings.Compare(a.Kind, b.Kind),
		strings.Compare(a.Namespace, b.Namespace),
		strings.Compare(a.Name, b.Name))
}

// selecting are the policies whose subject the pod is.
func (ps *policies) selecting(p *pod, ns *namespace) selecting {
	var out selecting
	for _, np := range ps.namespaced[p.Namespace] {
		if np.policy.subject.matches(p.labels) {
			out.namespaced = append(out.namespaced, np)
		}
	}
	for _, cp := range ps.cluster {
		if cp.policy.namespaces.matches(ns.labels) && cp.policy.pods.matches(p.labels) {
			out.cluster = append(out.cluster, cp)
		}
	}
	return out
}
