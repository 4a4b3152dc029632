package compile

import (
	"context"
	"maps"

	"github.com/tierwall/tierwall/policy"
)

// localPod is a pod of the node, with the policies that select it.
type localPod struct {
	*pod
	selecting
}

// selectLocal are the pods of the node, or of all nodes, and what is wrong with those of their namespaces that are
// over a budget.
func (c *Cluster) selectLocal(ctx context.Context, ps *policies) ([]localPod, map[string]*policy.Problem, error) {
	out := make([]localPod, 0, len(c.pods))
	sets, over := map[string]int{}, map[string]*policy.Problem{}
	for _, p := range c.pods {
		if c.node != "" && p.Node != c.node {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		if _, known := sets[p.Namespace]; !known {
			sets[p.Namespace], over[p.Namespace] = namespaceBudget(c.node, p.Namespace, ps.namespaced[p.Namespace])
		}
		l := localPod{pod: p, selecting: ps.selecting(p, c.namespaces[p.Namespace], over[p.Namespace] != nil)}
		out = append(out, l)
	}
	if c.node != "" {
		c.limitNode(out, sets, over)
	}
	maps.DeleteFunc(over, func(_ string, p *policy.Problem) bool { return p == nil })
	return out, over, nil
}

// namespaceBudget is what the policies of a namespace come to, and what is wrong with it.
func namespaceBudget(node, namespace string, policies []*networkPolicy) (sets int, over *policy.Problem) {
	written := 0
	for _, np := range policies {
		written += np.written
	}
	if over = namespaceSizeProblem(namespace, len(policies), written); over != nil {
		return 0, over
	}
	sets = namespaceSets(node, policies)
	return sets, namespaceSetsProblem(namespace, sets)
}

// limitNode adds the namespaces that the node has no room for.
func (c *Cluster) limitNode(pods []localPod, sets map[string]int, over map[string]*policy.Problem) {
	sizes := map[string]int{}
	var known [2]map[string]bool
	for d := range known {
		known[d] = map[string]bool{}
	}
	for _, l := range pods {
		for _, d := range policy.Directions {
			key := classBuilder{d, c.classes.defaults}.key(subject{namespace: l.Namespace, ports: l.Ports}, l.selecting)
			if !known[d][key] {
				known[d][key] = true
				sizes[l.Namespace] += classCost(d, l.namespaced)
			}
		}
	}
	var costs []nodeCost
	for namespace, n := range sets {
		if over[namespace] == nil {
			costs = append(costs, nodeCost{namespace, sizes[namespace], unusualSets(n)})
		}
	}
	maps.Copy(over, nodeProblems(costs))
}
