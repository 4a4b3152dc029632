package effect

import (
	"net/netip"
	"reflect"
	"slices"

	networkingv1 "k8s.io/api/networking/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
)

// CanOnlyClose reports whether the form of a change alone shows that no flow is newly allowed, whatever pods there
// are. It is fast, and false wherever the form does not tell.
//
// It is true if only policies change, and each of them in one of these ways. A ClusterNetworkPolicy gets more Deny
// rules, loses Accept rules, gets a stricter action in a rule, or only denies and gets a higher precedence. A
// NetworkPolicy is added without rules, allows less for the same pods, or is deleted while another one isolates its
// pods.
//
// A policy, class or namespace over its budget is closed, and opens when a change brings it within the budget. So a
// NetworkPolicy that changes or is deleted opens nothing only if none of these budgets was exceeded before. Budgets
// of nodes do not matter: effects ignore them, so that what they close was reviewed as open.
func CanOnlyClose(before, after *compile.Snapshot) bool {
	if !onlyPolicies(before, after) {
		return false
	}
	c := newClosingCheck(before, after)
	return c.networkPoliciesOnlyClose() && c.clusterPoliciesOnlyClose()
}

// closingCheck compares the policies before and after a change by their form.
type closingCheck struct {
	before, after *compile.Snapshot
	// unchanged holds the NetworkPolicies that are the same before and after, by namespace.
	unchanged map[string][]*networkingv1.NetworkPolicy
	// withinBudgets holds, by namespace, whether the policies before the change exceed no budget.
	withinBudgets map[string]bool
}

func newClosingCheck(before, after *compile.Snapshot) *closingCheck {
	return &closingCheck{before: before, after: after, withinBudgets: map[string]bool{}}
}

// changedObjects returns the objects that differ, before and after; nil is absent. It returns false if a name occurs
// twice.
func changedObjects[T any](before, after []*T, key func(*T) string, same func(a, b *T) bool) (changed [][2]*T, ok bool) {
	if sameList(before, after) {
		return nil, true
	}
	was := make(map[string]*T, len(before))
	for _, o := range before {
		was[key(o)] = o
	}
	if len(was) != len(before) {
		return nil, false
	}
	seen := make(map[string]bool, len(after))
	for _, o := range after {
		k := key(o)
		if seen[k] {
			return nil, false
		}
		seen[k] = true
		if old := was[k]; old != o && (old == nil || !same(old, o)) {
			changed = append(changed, [2]*T{old, o})
		}
	}
	for k, o := range was {
		if !seen[k] {
			changed = append(changed, [2]*T{o, nil})
		}
	}
	return changed, true
}

func (c *closingCheck) networkPoliciesOnlyClose() bool {
	changed, ok := changedObjects(c.before.NetworkPolicies, c.after.NetworkPolicies,
		func(np *networkingv1.NetworkPolicy) string { return np.Namespace + "/" + np.Name },
		func(a, b *networkingv1.NetworkPolicy) bool { return apiequality.Semantic.DeepEqual(a.Spec, b.Spec) })
	return ok && !slices.ContainsFunc(changed, func(p [2]*networkingv1.NetworkPolicy) bool {
		return !c.networkPolicyOnlyCloses(p[stateBefore], p[stateAfter])
	})
}

// networkPolicyOnlyCloses reports whether the change of one policy only closes. A policy that was invalid or over a
// budget was closed, so that any change of it may open something.
func (c *closingCheck) networkPolicyOnlyCloses(old, now *networkingv1.NetworkPolicy) bool {
	switch {
	case old == nil:
		return len(now.Spec.Ingress)+len(now.Spec.Egress) == 0
	case len(compile.ValidateNetworkPolicy(old)) > 0 || !c.isWithinBudgets(old.Namespace):
		return false
	case now == nil:
		return c.isolatedWithout(old, policy.Ingress) && c.isolatedWithout(old, policy.Egress)
	}
	sameSubject := apiequality.Semantic.DeepEqual(old.Spec.PodSelector, now.Spec.PodSelector)
	for _, d := range policy.Directions {
		var ok bool
		switch had, has := isolatesDirection(old, d), isolatesDirection(now, d); {
		case !has:
			ok = c.isolatedWithout(old, d)
		case !sameSubject:
			return false
		case had:
			ok = allowsNoMore(rulesOf(old, d), rulesOf(now, d))
		default:
			ok = len(rulesOf(now, d)) == 0
		}
		if !ok {
			return false
		}
	}
	return true
}

// isolatedWithout reports whether another policy isolates the pods of a policy, before and after, or this one does
// not.
func (c *closingCheck) isolatedWithout(np *networkingv1.NetworkPolicy, d policy.Direction) bool {
	if !isolatesDirection(np, d) {
		return true
	}
	return slices.ContainsFunc(c.unchangedPolicies(np.Namespace), func(o *networkingv1.NetworkPolicy) bool {
		s := o.Spec.PodSelector
		return isolatesDirection(o, d) && len(compile.ValidateNetworkPolicy(o)) == 0 &&
			(len(s.MatchLabels)+len(s.MatchExpressions) == 0 || apiequality.Semantic.DeepEqual(s, np.Spec.PodSelector))
	})
}

// isWithinBudgets reports whether the policies of a namespace exceed no budget of the namespace or of a class before
// the change.
func (c *closingCheck) isWithinBudgets(namespace string) bool {
	within, known := c.withinBudgets[namespace]
	if !known {
		within = isWithinBudgets(c.before, namespace)
		c.withinBudgets[namespace] = within
	}
	return within
}

func (c *closingCheck) unchangedPolicies(namespace string) []*networkingv1.NetworkPolicy {
	if c.unchanged == nil {
		c.unchanged = map[string][]*networkingv1.NetworkPolicy{}
		there := make(map[*networkingv1.NetworkPolicy]bool, len(c.before.NetworkPolicies))
		for _, np := range c.before.NetworkPolicies {
			there[np] = true
		}
		for _, np := range c.after.NetworkPolicies {
			if there[np] {
				c.unchanged[np.Namespace] = append(c.unchanged[np.Namespace], np)
			}
		}
	}
	return c.unchanged[namespace]
}

// isolatesDirection reports whether a policy isolates its pods in a direction (NetworkPolicySpec, policyTypes).
func isolatesDirection(np *networkingv1.NetworkPolicy, d policy.Direction) bool {
	if len(np.Spec.PolicyTypes) > 0 {
		return slices.Contains(np.Spec.PolicyTypes, policyTypes[d])
	}
	return d == policy.Ingress || len(np.Spec.Egress) > 0
}

var policyTypes = map[policy.Direction]networkingv1.PolicyType{policy.Ingress: networkingv1.PolicyTypeIngress, policy.Egress: networkingv1.PolicyTypeEgress}

// allowance is a rule of a NetworkPolicy. Without peers it allows every peer, and without ports every port.
type allowance struct {
	peers []networkingv1.NetworkPolicyPeer
	ports []networkingv1.NetworkPolicyPort
}

func rulesOf(np *networkingv1.NetworkPolicy, d policy.Direction) []allowance {
	var out []allowance
	if d == policy.Ingress {
		for _, r := range np.Spec.Ingress {
			out = append(out, allowance{r.From, r.Ports})
		}
		return out
	}
	for _, r := range np.Spec.Egress {
		out = append(out, allowance{r.To, r.Ports})
	}
	return out
}

// maxFormPairs bounds the comparisons of rules, peers and ports.
const maxFormPairs = 100_000

// allowsNoMore reports whether each rule allows no more than one of the old rules.
func allowsNoMore(old, now []allowance) bool {
	pairs := 0
	return eachWithin(now, old, &pairs, func(n, o allowance) bool {
		return (len(o.peers) == 0 || len(n.peers) > 0 && eachWithin(n.peers, o.peers, &pairs, peerWithin)) &&
			(len(o.ports) == 0 || len(n.ports) > 0 && eachWithin(n.ports, o.ports, &pairs, deepEqual[networkingv1.NetworkPolicyPort]))
	})
}

// eachWithin reports whether each element is within one of old. It starts after the last match, because the order is
// mostly kept.
func eachWithin[T any](now, old []T, pairs *int, within func(n, o T) bool) bool {
	next := 0
	for _, n := range now {
		found := false
		for i := range old {
			if *pairs++; *pairs > maxFormPairs {
				return false
			}
			if at := (next + i) % len(old); within(n, old[at]) {
				found, next = true, at+1
				break
			}
		}
		if !found {
			return false
		}
	}
	return true
}

func deepEqual[T any](a, b T) bool { return apiequality.Semantic.DeepEqual(a, b) }

// peerWithin reports whether a peer is equal to another one, or a part of its network.
func peerWithin(now, old networkingv1.NetworkPolicyPeer) bool {
	if deepEqual(now, old) {
		return true
	}
	if now.IPBlock == nil || old.IPBlock == nil {
		return false
	}
	inner, err := netip.ParsePrefix(now.IPBlock.CIDR)
	outer, outerErr := netip.ParsePrefix(old.IPBlock.CIDR)
	return err == nil && outerErr == nil && outer.Bits() <= inner.Bits() && outer.Overlaps(inner) &&
		!slices.ContainsFunc(old.IPBlock.Except, func(e string) bool { return !slices.Contains(now.IPBlock.Except, e) })
}

func (c *closingCheck) clusterPoliciesOnlyClose() bool {
	changed, ok := changedObjects(c.before.ClusterNetworkPolicies, c.after.ClusterNetworkPolicies,
		func(p *policyv1alpha2.ClusterNetworkPolicy) string { return p.Name },
		func(a, b *policyv1alpha2.ClusterNetworkPolicy) bool {
			return apiequality.Semantic.DeepEqual(a.Spec, b.Spec)
		})
	return ok && !slices.ContainsFunc(changed, func(p [2]*policyv1alpha2.ClusterNetworkPolicy) bool {
		return !clusterPolicyOnlyCloses(p[stateBefore], p[stateAfter])
	})
}

func clusterPolicyOnlyCloses(old, now *policyv1alpha2.ClusterNetworkPolicy) bool {
	var none policyv1alpha2.ClusterNetworkPolicy
	switch {
	case old == nil:
		old = &none
	case len(compile.ValidateClusterNetworkPolicy(old)) > 0:
		return false
	case now == nil:
		now = &none
	case now.Spec.Tier != old.Spec.Tier || !apiequality.Semantic.DeepEqual(now.Spec.Subject, old.Spec.Subject),
		now.Spec.Priority > old.Spec.Priority || now.Spec.Priority < old.Spec.Priority && !onlyDenies(old):
		return false
	}
	return decidesStricter(ingressRules(old), ingressRules(now)) && decidesStricter(egressRules(old), egressRules(now))
}

func onlyDenies(p *policyv1alpha2.ClusterNetworkPolicy) bool {
	for _, r := range slices.Concat(ingressRules(p), egressRules(p)) {
		if r.action != denyAction {
			return false
		}
	}
	return true
}

const (
	acceptAction = policyv1alpha2.ClusterNetworkPolicyRuleActionAccept
	denyAction   = policyv1alpha2.ClusterNetworkPolicyRuleActionDeny
)

// actionRule is a rule of a ClusterNetworkPolicy: what it matches, and its action.
type actionRule struct {
	action policyv1alpha2.ClusterNetworkPolicyRuleAction
	match  any
}

func ingressRules(p *policyv1alpha2.ClusterNetworkPolicy) []actionRule {
	var out []actionRule
	for _, r := range p.Spec.Ingress {
		d := actionRule{action: r.Action}
		r.Action, r.Name = "", ""
		d.match = r
		out = append(out, d)
	}
	return out
}

func egressRules(p *policyv1alpha2.ClusterNetworkPolicy) []actionRule {
	var out []actionRule
	for _, r := range p.Spec.Egress {
		d := actionRule{action: r.Action}
		r.Action, r.Name = "", ""
		d.match = r
		out = append(out, d)
	}
	return out
}

// decidesStricter reports whether rules follow from others by these steps alone: removing Accept, adding Deny, or
// changing Accept to Pass or Deny and Pass to Deny.
func decidesStricter(old, now []actionRule) bool {
	for len(old) > 0 || len(now) > 0 {
		switch {
		case len(old) > 0 && len(now) > 0 && reflect.DeepEqual(old[0].match, now[0].match) &&
			(old[0].action == now[0].action || old[0].action == acceptAction || now[0].action == denyAction):
			old, now = old[1:], now[1:]
		case len(old) > 0 && old[0].action == acceptAction:
			old = old[1:]
		case len(now) > 0 && now[0].action == denyAction:
			now = now[1:]
		default:
			return false
		}
	}
	return true
}
