package compile

import (
	"net/netip"

	"github.com/tierwall/tierwall/policy"
)

// LeftAtMost lets tests have policies put back sooner.
var LeftAtMost = &leftAtMost

// LowerBudgets has budgets that ordinary policies of tests exceed, until the function that it returns is called.
func LowerBudgets() (undo func()) {
	before := limits
	limits = budgetLimits{policySets: 2, classSets: 1, namespaceSets: 3, nodeSets: 2, usualSets: 0, classSize: 14, namespaceSize: 40, nodeSize: 14}
	return func() { limits = before }
}

// AddressProblems are those of the snapshot for a node, found from scratch.
func AddressProblems(s *Snapshot, node string) []policy.Problem {
	n := NewNodeNetworks(s.Nodes)
	owners := n.owners(s.Pods)
	var out []policy.Problem
	for _, p := range s.Pods {
		if node == "" || p.Node == node || n.nodes[p.Node] == nil {
			out = append(out, addressProblems(p, n, func(a netip.Addr) *Pod { return owners[a].Pod })...)
		}
	}
	return boundProblems(out)
}
