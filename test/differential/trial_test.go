package differential

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/tierwall/tierwall/policy"
)

// who is the judge that a disagreement is with.
func who(disagreement string) string {
	judge, _, _ := strings.Cut(disagreement, ":")
	return judge
}

// shrink makes the trial as small as it can be while the judge still disagrees about it.
func (c *trial) shrink(judge string) {
	Shrink(c, func() bool {
		return c.possible() && who(c.run(func(policy.Flow, opinion) {})) == judge
	})
}

// possible reports whether the trial is one that a cluster can be in: every pod runs on a node
// that is there, within the node's pod network.
func (c *trial) possible() bool {
	if c.Cluster == nil {
		return false
	}
	return !slices.ContainsFunc(c.Cluster.Pods, func(p *corev1.Pod) bool {
		return !slices.ContainsFunc(c.Cluster.Nodes, func(n *corev1.Node) bool { return n.Name == p.Spec.NodeName })
	})
}
