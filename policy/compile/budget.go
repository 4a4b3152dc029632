package compile

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/tierwall/tierwall/policy"
)

// Budgets of sets, in sets that one pod can be a member of (setsPerPod). In a cluster with 10,000 pods, 100 of them
// have a million members at most.
const (
	// MaxPolicySetsPerPod is what the peers of one policy may come to in one direction.
	MaxPolicySetsPerPod = 100
	// MaxClassSetsPerPod is what the NetworkPolicies that select a pod may come to in one direction.
	MaxClassSetsPerPod = 100
	// MaxNamespaceSetsPerPod is what the NetworkPolicies of a namespace may come to.
	MaxNamespaceSetsPerPod = 200
	// MaxNodeSetsPerPod is what the namespaces of a node's pods may come to together, beyond what is usual of each.
	MaxNodeSetsPerPod = 400
	// usualSetsPerPod is what a namespace comes to where it is not counted for its nodes.
	usualSetsPerPod = 20
)

// Budgets of entries, beside those of a policy and a class.
const (
	// MaxNamespaceSize is what the NetworkPolicies of a namespace may come to.
	MaxNamespaceSize = 100000
	// MaxNodeSize is what the different classes of a node's pods may come to, as far as NetworkPolicies make them.
	MaxNodeSize = 500000
)

// budgetLimits are the budgets above and in size.go, but for MaxPolicySize.
type budgetLimits struct {
	policySets, classSets, namespaceSets, nodeSets, usualSets int
	classSize, namespaceSize, nodeSize                        int
}

// limits are the budgets in force; tests lower them.
var limits = budgetLimits{
	policySets: MaxPolicySetsPerPod, classSets: MaxClassSetsPerPod, namespaceSets: MaxNamespaceSetsPerPod,
	nodeSets: MaxNodeSetsPerPod, usualSets: usualSetsPerPod,
	classSize: MaxClassSize, namespaceSize: MaxNamespaceSize, nodeSize: MaxNodeSize,
}

const closedNamespace = "the pods of the namespace are isolated and no NetworkPolicy allows them anything"

// namespaceID is the object that problems of a namespace's policies as a whole are reported of.
func namespaceID(namespace string) policy.RuleID {
	return policy.RuleID{Kind: NetworkPolicyKind, Namespace: namespace}
}

func reportSetsPerPod(d policy.Direction, rules []rule, r *reporter) (over bool) {
	sets := setsPerPodOver(limits.policySets, slices.Values(rules))
	if sets <= limits.policySets {
		return false
	}
	r.report(fieldOf(d), "the peers are different selectors, %d of which can match one pod; at most %d are allowed: write them as fewer selectors, with several values of a label in each", sets, limits.policySets)
	return true
}

// rulesOf are the rules of policies, in the directions.
func rulesOf(policies []*networkPolicy, directions ...policy.Direction) iter.Seq[rule] {
	return func(yield func(rule) bool) {
		for _, np := range policies {
			for _, d := range directions {
				for _, r := range np.rules[d] {
					if !yield(r) {
						return
					}
				}
			}
		}
	}
}

// classSize is the number of entries of the rules that select an endpoint together.
func classSize(d policy.Direction, policies []*networkPolicy) int {
	size := 0
	for _, np := range policies {
		size += np.size[d]
	}
	return size
}

// classProblem reports NetworkPolicies that select one endpoint and come to more than a budget of a class.
func classProblem(d policy.Direction, policies []*networkPolicy) *policy.Problem {
	if size := classSize(d, policies); size > limits.classSize {
		largest := slices.MaxFunc(policies, func(a, b *networkPolicy) int { return a.size[d] - b.size[d] })
		return &policy.Problem{ID: namespaceID(largest.id.Namespace), Message: fmt.Sprintf("%d policies that select the same pods come to %d entries for %s, the largest is %s with %d; at most %d are allowed: these pods are isolated and nothing is allowed",
			len(policies), size, d, largest.id.Name, largest.size[d], limits.classSize)}
	}
	if sets := setsPerPodOver(limits.classSets, rulesOf(policies, d)); sets > limits.classSets {
		return &policy.Problem{ID: namespaceID(policies[0].id.Namespace), Message: fmt.Sprintf("%d policies that select the same pods have different selectors as peers for %s, %d of which can match one pod; at most %d are allowed: these pods are isolated and nothing is allowed",
			len(policies), d, sets, limits.classSets)}
	}
	return nil
}

// classCost is what a class counts on its node.
func classCost(d policy.Direction, policies []*networkPolicy) int {
	if size := classSize(d, policies); size <= limits.classSize {
		return size
	}
	return 0
}

// namespaceSizeProblem reports a namespace of whose policies too much was written.
func namespaceSizeProblem(namespace string, policies, written int) *policy.Problem {
	if written <= limits.namespaceSize {
		return nil
	}
	return &policy.Problem{ID: namespaceID(namespace), Message: fmt.Sprintf("%d policies come to %d rules, peers, ports, networks, exceptions and label values; at most %d are allowed in a namespace: %s",
		policies, written, limits.namespaceSize, closedNamespace)}
}

// namespaceSets are the sets of a namespace's policies that one pod can be a member of. Few are not counted, as far as
// that makes no difference for the node, or without a name for the namespace alone.
func namespaceSets(node string, policies []*networkPolicy) int {
	most := limits.usualSets
	if node == "" {
		most = limits.namespaceSets
	}
	return setsPerPodOver(most, rulesOf(policies, policy.Directions[:]...))
}

// namespaceSetsProblem reports a namespace whose policies have too many selectors as peers.
func namespaceSetsProblem(namespace string, sets int) *policy.Problem {
	if sets <= limits.namespaceSets {
		return nil
	}
	return &policy.Problem{ID: namespaceID(namespace), Message: fmt.Sprintf("the policies have different selectors as peers, %d of which can match one pod; at most %d are allowed in a namespace: %s",
		sets, limits.namespaceSets, closedNamespace)}
}

// nodeCost is what a namespace counts on a node that pods of it are on.
type nodeCost struct {
	namespace string
	size      int // of its classes
	sets      int // beyond what is usual
}

// unusualSets is how far the sets of a namespace are beyond what is usual.
func unusualSets(sets int) int { return max(0, sets-limits.usualSets) }

// nodeProblems reports the namespaces that a node has no room for, by name: those that cost most, until the others
// are within the budgets of a node.
func nodeProblems(costs []nodeCost) map[string]*policy.Problem {
	out := map[string]*policy.Problem{}
	limit(costs, limits.nodeSets, func(c nodeCost) int { return c.sets }, func(c nodeCost) {
		out[c.namespace] = &policy.Problem{ID: namespaceID(c.namespace), Message: fmt.Sprintf("the policies have different selectors as peers, %d of which can match one pod, and are among those with most on this node; at most %d beyond %d of each namespace are allowed on a node: %s",
			c.sets+limits.usualSets, limits.nodeSets, limits.usualSets, closedNamespace)}
	})
	limit(costs, limits.nodeSize, func(c nodeCost) int { return c.size }, func(c nodeCost) {
		out[c.namespace] = &policy.Problem{ID: namespaceID(c.namespace), Message: fmt.Sprintf("the rules of the different pods on this node come to %d entries, and are among the largest; at most %d are allowed on a node: %s",
			c.size, limits.nodeSize, closedNamespace)}
	})
	return out
}

// limit closes the largest until the rest is at most max.
func limit(costs []nodeCost, most int, of func(nodeCost) int, closeOne func(nodeCost)) {
	total := 0
	for _, c := range costs {
		total += of(c)
	}
	if total <= most {
		return
	}
	slices.SortFunc(costs, func(a, b nodeCost) int {
		return cmp.Or(cmp.Compare(of(b), of(a)), strings.Compare(a.namespace, b.namespace))
	})
	for _, c := range costs {
		if total <= most {
			return
		}
		closeOne(c)
		total -= of(c)
	}
}
