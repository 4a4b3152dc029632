// Package oracle says what policies do to a flow, read naively from the text of the
// APIs, object by object and flow by flow. It works on the objects as the API server shows
// them, is slow and obvious, and shares no code with what reads, compiles or
// evaluates them, so that a comparison with it means something.
package oracle

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/tierwall/tierwall/policy"
)

// Answer is the verdict of one side of a flow, and what led to it.
type Answer struct {
	Verdict policy.Verdict
	// Tier is the tier that decided; empty where no pod is judged.
	Tier policy.TierName
	// Rules are those that decided: the first of a ClusterNetworkPolicy that matches, every
	// rule of NetworkPolicies that allows, or the isolating policies themselves if none does.
	Rules []policy.RuleID
	// Passed are the rules that left the decision to a later tier.
	Passed []policy.RuleID
}

// Decide is the verdict on a flow: the egress of its source and the ingress of its
// destination must both let it pass.
func Decide(c *Cluster, f policy.Flow) policy.Verdict { return both(Egress(c, f), Ingress(c, f)) }

func both(egress, ingress policy.Verdict) policy.Verdict {
	if letsPass(egress) && letsPass(ingress) {
		return policy.Allow
	}
	return policy.Deny
}

func letsPass(v policy.Verdict) bool { return v == policy.Allow || v == policy.Audit }

// Audited are the directions in which a flow with these verdicts is reported as one
// that Deny would have dropped. Egress goes first: what it drops is not seen by ingress.
func Audited(egress, ingress policy.Verdict) (out []policy.Direction) {
	if egress == policy.Audit {
		out = append(out, policy.Egress)
	}
	if letsPass(egress) && ingress == policy.Audit {
		out = append(out, policy.Ingress)
	}
	return out
}

// Egress is the verdict of the source's side of the flow.
func Egress(c *Cluster, f policy.Flow) policy.Verdict { return ExplainEgress(c, f).Verdict }

// Ingress is the verdict of the destination's side of the flow.
func Ingress(c *Cluster, f policy.Flow) policy.Verdict { return ExplainIngress(c, f).Verdict }

// ExplainEgress is the verdict of the source's side of the flow, with what led to it.
func ExplainEgress(c *Cluster, f policy.Flow) Answer {
	if neverJudged(c, f) {
		return Answer{Verdict: policy.Allow}
	}
	source := PodAt(c, f.Source)
	if source == nil {
		return Answer{Verdict: notAPod(c, f.Source)}
	}
	return judge(c, f, policy.Egress, source)
}

// ExplainIngress is the verdict of the destination's side of the flow, with what led to it.
func ExplainIngress(c *Cluster, f policy.Flow) Answer {
	if neverJudged(c, f) {
		return Answer{Verdict: policy.Allow}
	}
	destination := PodAt(c, f.Destination)
	for _, n := range c.Nodes { // a node reaches its own pods
		if !has(c, n, f.Source) {
			continue
		}
		if destination != nil && destination.Spec.NodeName == n.Name {
			return Answer{Verdict: policy.Allow}
		}
		if destination == nil && inPodNetwork(n, f.Destination) {
			return Answer{Verdict: policy.Allow}
		}
	}
	if destination == nil {
		return Answer{Verdict: notAPod(c, f.Destination)}
	}
	return judge(c, f, policy.Ingress, destination)
}

// ToItself is the verdict on a flow that a pod sends to itself by way of a Service, which
// policy applies to as to any other, and the directions in which it is reported.
func ToItself(c *Cluster, f policy.Flow) (policy.Verdict, []policy.Direction) {
	own := PodAt(c, f.Source)
	egress, ingress := judge(c, f, policy.Egress, own).Verdict, judge(c, f, policy.Ingress, own).Verdict
	return both(egress, ingress), Audited(egress, ingress)
}

// neverJudged: a valid message of IPv6 neighbour discovery passes, and so does what a pod sends to an
// address of its own. Valid is one of RFC 4861 (sections 6.1, 7.1 and 8.1) with code 0 and the hop
// limit 255, which no routed packet has.
func neverJudged(c *Cluster, f policy.Flow) bool {
	if f.Protocol == policy.ICMPv6 && f.ICMPType >= 133 && f.ICMPType <= 137 && f.ICMPCode == 0 && f.HopLimit == 255 {
		return true
	}
	source, destination := PodAt(c, f.Source), PodAt(c, f.Destination)
	return source != nil && source == destination
}

// notAPod is the verdict for an address that no known pod has: a pod that is not known yet if
// it is in a node's pod network.
func notAPod(c *Cluster, a netip.Addr) policy.Verdict {
	if NodeAt(c, a) == nil && PodNetworkOf(c, a) != nil && c.Defaults.Action == policy.Deny {
		return policy.Deny
	}
	return policy.Allow
}

// judge asks the tiers in turn: Admin, NetworkPolicy, Baseline, and last the default.
func judge(c *Cluster, f policy.Flow, d policy.Direction, own *corev1.Pod) Answer {
	var passed []policy.RuleID
	for _, tier := range []func() Answer{
		func() Answer { return clusterTier(c, f, d, own, policy.AdminTier) },
		func() Answer { return networkPolicies(c, f, d, own) },
		func() Answer { return clusterTier(c, f, d, own, policy.BaselineTier) },
	} {
		answer := tier()
		if answer.Verdict != policy.Pass {
			answer.Passed = passed
			return answer
		}
		passed = append(passed, answer.Rules...)
	}
	return Answer{Verdict: defaultOf(c, own.Namespace), Tier: policy.DefaultTier, Rules: []policy.RuleID{{Kind: "Default"}}, Passed: passed}
}

func defaultOf(c *Cluster, namespace string) policy.Verdict {
	if slices.Contains(c.Defaults.Exempt, namespace) {
		return policy.Allow
	}
	if v, ok := c.Defaults.Namespaces[namespace]; ok {
		return v
	}
	return c.Defaults.Action
}

// peer is the address of the other side.
func peer(f policy.Flow, d policy.Direction) netip.Addr {
	if d == policy.Ingress {
		return f.Source
	}
	return f.Destination
}
