package compile

import (
	"slices"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/roles"
)

// ExceededBudgets are the budgets of a namespace, and of classes of its pods, that are exceeded after the change of a
// NetworkPolicy, and by more than before it. There are none where the policy is gone or has no rules after it.
func ExceededBudgets(before, after *Snapshot, namespace, name string) []policy.Problem {
	now := policiesOf(after, namespace)
	at := slices.IndexFunc(now, func(np *networkingv1.NetworkPolicy) bool { return np.Name == name })
	if at < 0 || len(now[at].Spec.Ingress)+len(now[at].Spec.Egress) == 0 {
		return nil
	}
	was := policiesOf(before, namespace)
	written, peers := writtenSize(now)
	writtenBefore, _ := writtenSize(was)
	if over := namespaceSizeProblem(namespace, len(now), written); over != nil {
		if written <= writtenBefore {
			return nil
		}
		return []policy.Problem{*over}
	}
	if written <= limits.classSize && peers <= limits.classSets {
		return nil
	}
	g := growth{was: readAll(was), now: readAll(now)}
	if sets, before := namespaceSets("", g.now), namespaceSets("", g.was); sets > before {
		if over := namespaceSetsProblem(namespace, sets); over != nil {
			return []policy.Problem{*over}
		}
	}
	return g.classProblems(after, g.now[at])
}

func policiesOf(s *Snapshot, namespace string) (out []*networkingv1.NetworkPolicy) {
	for _, np := range s.NetworkPolicies {
		if np.Namespace == namespace {
			out = append(out, np)
		}
	}
	return out
}

// writtenSize is what is kept of policies, in entries, and how many peers they have.
func writtenSize(policies []*networkingv1.NetworkPolicy) (entries, peers int) {
	for _, np := range policies {
		size := NetworkPolicySize(np)
		if size > MaxPolicySize {
			np = closedNetworkPolicy(np)
			size = NetworkPolicySize(np)
		}
		entries += size
		for i := range np.Spec.Ingress {
			peers += len(np.Spec.Ingress[i].From)
		}
		for i := range np.Spec.Egress {
			peers += len(np.Spec.Egress[i].To)
		}
	}
	return entries, peers
}

func readAll(policies []*networkingv1.NetworkPolicy) []*networkPolicy {
	out := make([]*networkPolicy, len(policies))
	for i, np := range policies {
		out[i], _ = parseNetworkPolicy(np)
	}
	return out
}

// growth is the policies of a namespace before and after a change.
type growth struct{ was, now []*networkPolicy }

// classProblems are the budgets that classes of the policy's pods exceed by more than before.
func (g growth) classProblems(s *Snapshot, changed *networkPolicy) []policy.Problem {
	tierRoles := roles.New(s.TierRoles)
	known := map[string]bool{}
	var out []policy.Problem
	for _, p := range s.Pods {
		if p.Namespace != changed.id.Namespace || p.HostNetwork || p.Ended {
			continue
		}
		own := labels.Set(tierRoles.Of(p.Namespace, p.ServiceAccount, p.Labels).Apply(p.Labels))
		text := own.String()
		if known[text] || !changed.subject.matches(own) {
			continue
		}
		known[text] = true
		was, now := matching(g.was, own), matching(g.now, own)
		for _, d := range policy.Directions {
			if over := classProblem(d, now); over != nil && hasGrown(d, was, now) {
				out = append(out, *over)
			}
		}
	}
	return joinProblems(nil, out)
}

// matching are the policies that select a pod with the labels.
func matching(policies []*networkPolicy, of labels.Set) (out []*networkPolicy) {
	for _, np := range policies {
		if np.subject.matches(of) {
			out = append(out, np)
		}
	}
	return out
}

func hasGrown(d policy.Direction, was, now []*networkPolicy) bool {
	return classSize(d, now) > classSize(d, was) ||
		setsPerPodOver(0, rulesOf(now, d)) > setsPerPodOver(0, rulesOf(was, d))
}
