package differential

import (
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/test/oracle"
)

// sight is a flow with everything that led to its verdict.
type sight struct {
	objects             *oracle.Cluster
	flow                policy.Flow
	opinion             opinion
	source, destination *corev1.Pod
	// sides are those on which a pod is judged.
	sides []side
}

// side is one direction of a flow in which a pod is judged.
type side struct {
	direction policy.Direction
	answer    oracle.Answer
	own, peer *corev1.Pod
	address   netip.Addr // of the peer
}

func newSight(c *oracle.Cluster, f policy.Flow, o opinion) *sight {
	s := &sight{objects: c, flow: f, opinion: o, source: oracle.PodAt(c, f.Source), destination: oracle.PodAt(c, f.Destination)}
	if o.egress.Tier != "" {
		s.sides = append(s.sides, side{policy.Egress, o.egress, s.source, s.destination, f.Destination})
	}
	if o.ingress.Tier != "" {
		s.sides = append(s.sides, side{policy.Ingress, o.ingress, s.destination, s.source, f.Source})
	}
	return s
}

func (s *sight) any(is func(side) bool) bool { return slices.ContainsFunc(s.sides, is) }

// s is a bias about a side of a flow.
func s(is func(*sight, side) bool) func(*sight) bool {
	return func(s *sight) bool { return s.any(func(x side) bool { return is(s, x) }) }
}

func (s *sight) allowed() bool { return s.opinion.decision.Verdict == policy.Allow }

// rulesOf are the rules that decided the side; where policies isolate, all of theirs in the direction.
func (s *sight) rulesOf(x side) []rule {
	var out []rule
	for _, id := range x.answer.Rules {
		out = append(out, rulesAt(s.objects, x.direction, id)...)
	}
	return out
}

func anyRuleSide(is func(*sight, side, rule) bool) func(*sight) bool {
	return s(func(s *sight, x side) bool {
		return slices.ContainsFunc(s.rulesOf(x), func(r rule) bool { return is(s, x, r) })
	})
}

func anyRule(is func(*sight, rule) bool) func(*sight) bool {
	return anyRuleSide(func(s *sight, _ side, r rule) bool { return is(s, r) })
}

// matchedRule is about a rule that matched.
func matchedRule(is func(*sight, rule) bool) func(*sight) bool {
	return anyRuleSide(func(s *sight, x side, r rule) bool {
		isolated := x.answer.Tier == policy.NetworkPolicyTier && x.answer.Verdict == policy.Deny
		return !isolated && is(s, r)
	})
}

func anyBlock(is func(*sight, side, block) bool) func(*sight) bool {
	return anyRuleSide(func(s *sight, x side, r rule) bool {
		return slices.ContainsFunc(r.blocks, func(b block) bool { return is(s, x, b) })
	})
}

func anyRange(is func(port, first, last int32) bool) func(*sight) bool {
	return anyRule(func(s *sight, r rule) bool {
		return slices.ContainsFunc(r.ranges, func(x portRange) bool {
			return x.protocol == s.flow.Protocol.String() && is(int32(s.flow.DestinationPort), x.first, x.last)
		})
	})
}

// anyPair is about a selector of a rule that decided, and the labels that it was held against.
func anyPair(is func(pair) bool) func(*sight) bool {
	return anyRuleSide(func(s *sight, x side, r rule) bool {
		return slices.ContainsFunc(r.pairs(s.objects, x), is)
	})
}

// named reports whether the destination has a container port, of a name that the rule asks for,
// for which that is so.
func (s *sight) named(r rule, is func(corev1.ContainerPort) bool) bool {
	return slices.ContainsFunc(runningPorts(s.destination, true), func(p corev1.ContainerPort) bool {
		return slices.Contains(r.portNames, p.Name) && is(p)
	})
}

func (s *sight) isPort(p corev1.ContainerPort) bool {
	return p.ContainerPort == int32(s.flow.DestinationPort) && protocolOf(p) == s.flow.Protocol.String()
}

func (s *sight) resolves(r rule) bool { return s.named(r, s.isPort) }

func (s *sight) onlyOfSidecar(r rule) bool {
	return !slices.ContainsFunc(runningPorts(s.destination, false), func(p corev1.ContainerPort) bool {
		return slices.Contains(r.portNames, p.Name) && s.isPort(p)
	})
}

func (s *sight) onlyOfEnded(r rule) bool {
	if s.destination == nil || s.resolves(r) {
		return false
	}
	return slices.ContainsFunc(s.destination.Spec.InitContainers, func(c corev1.Container) bool {
		return !isSidecar(c) && slices.ContainsFunc(c.Ports, func(p corev1.ContainerPort) bool {
			return slices.Contains(r.portNames, p.Name) && s.isPort(p)
		})
	})
}

func isSidecar(c corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

func runningPorts(p *corev1.Pod, sidecars bool) []corev1.ContainerPort {
	var out []corev1.ContainerPort
	if p == nil {
		return nil
	}
	for _, c := range p.Spec.Containers {
		out = append(out, c.Ports...)
	}
	for _, c := range p.Spec.InitContainers {
		if sidecars && isSidecar(c) {
			out = append(out, c.Ports...)
		}
	}
	return out
}

func protocolOf(p corev1.ContainerPort) string {
	if p.Protocol == "" {
		return "TCP"
	}
	return string(p.Protocol)
}

// policyOf is the ClusterNetworkPolicy of a rule, or nil.
func (s *sight) policyOf(id policy.RuleID) *policyv1alpha2.ClusterNetworkPolicy {
	for _, p := range s.objects.ClusterNetworkPolicies {
		if id.Kind == "ClusterNetworkPolicy" && p.Name == id.Name {
			return p
		}
	}
	return nil
}

// passed reports whether a rule of the tier left the decision to a later one.
func (s *sight) passed(tier policy.TierName) bool {
	return s.any(func(x side) bool {
		return slices.ContainsFunc(x.answer.Passed, func(id policy.RuleID) bool { return string(s.policyOf(id).Spec.Tier) == string(tier) })
	})
}

// contested reports whether, without the policy of the tier that decided, the next of the
// tier (of the same priority) would decide otherwise.
func (s *sight) contested(tier policy.TierName, samePriority bool) bool {
	return s.any(func(x side) bool {
		if x.answer.Tier != tier {
			return false
		}
		first := s.policyOf(x.answer.Rules[0])
		next := s.without(x, first)
		if next.Tier != tier || next.Verdict == x.answer.Verdict {
			return false
		}
		return !samePriority || s.policyOf(next.Rules[0]).Spec.Priority == first.Spec.Priority
	})
}

// without is the answer if there were not the policy.
func (s *sight) without(x side, p *policyv1alpha2.ClusterNetworkPolicy) oracle.Answer {
	rest := *s.objects
	rest.ClusterNetworkPolicies = slices.DeleteFunc(slices.Clone(rest.ClusterNetworkPolicies), func(o *policyv1alpha2.ClusterNetworkPolicy) bool { return o == p })
	if x.direction == policy.Egress {
		return oracle.ExplainEgress(&rest, s.flow)
	}
	return oracle.ExplainIngress(&rest, s.flow)
}

// overruled reports whether Admin decided against what the NetworkPolicies say.
func (s *sight) overruled() bool {
	return s.any(func(x side) bool {
		if x.answer.Tier != policy.AdminTier {
			return false
		}
		next := s.without(x, s.policyOf(x.answer.Rules[0]))
		return next.Tier == policy.NetworkPolicyTier && next.Verdict != x.answer.Verdict
	})
}

// unknownPeer reports whether a rule with the action denied for a peer that has no field that is known.
func (s *sight) unknownPeer(action policyv1alpha2.ClusterNetworkPolicyRuleAction) bool {
	return anyRule(func(s *sight, r rule) bool {
		return r.action == action && r.unknownPeer && !s.allowed()
	})(s)
}

// unknownAccept reports whether a flow of a cluster with an Accept rule for an unknown peer
// was denied where the rule would be asked next.
func (s *sight) unknownAccept() bool {
	return s.any(func(x side) bool {
		return x.answer.Verdict == policy.Deny && slices.ContainsFunc(s.objects.ClusterNetworkPolicies, func(p *policyv1alpha2.ClusterNetworkPolicy) bool {
			return slices.ContainsFunc(clusterRules(p, x.direction), func(r rule) bool { return r.action == "Accept" && r.unknownPeer })
		})
	})
}

func onlyFamily(p *corev1.Pod, family int) bool {
	if p == nil || len(p.Status.PodIPs) != 1 {
		return false
	}
	return strings.Contains(p.Status.PodIPs[0].IP, ":") == (family == 6)
}

func mapped(p *corev1.Pod) bool {
	return p != nil && slices.ContainsFunc(p.Status.PodIPs, func(ip corev1.PodIP) bool { return strings.HasPrefix(ip.IP, "::ffff:") })
}

func ended(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

// claimant reports whether there is a pod, with an address of the flow among its own, for which
// that and the owner of the address that is so.
func (s *sight) claimant(is func(p, owner *corev1.Pod) bool) bool {
	for _, a := range []netip.Addr{s.flow.Source, s.flow.Destination} {
		owner := oracle.PodAt(s.objects, a)
		for _, p := range s.objects.Pods {
			claims := slices.ContainsFunc(p.Status.PodIPs, func(ip corev1.PodIP) bool { return netip.MustParseAddr(ip.IP).Unmap() == a })
			if claims && !p.Spec.HostNetwork && is(p, owner) {
				return true
			}
		}
	}
	return false
}

// claimed is claimant about addresses without an owner.
func (s *sight) claimed(is func(*corev1.Pod) bool) bool {
	return s.claimant(func(p, owner *corev1.Pod) bool { return owner == nil && is(p) })
}

func (s *sight) unknown(a netip.Addr) bool {
	return oracle.PodAt(s.objects, a) == nil && oracle.NodeAt(s.objects, a) == nil && oracle.PodNetworkOf(s.objects, a) != nil
}

func (s *sight) node(a netip.Addr) bool { return oracle.NodeAt(s.objects, a) != nil }

func (s *sight) bridge(a netip.Addr) bool {
	return oracle.NodeAt(s.objects, a) != nil && oracle.PodNetworkOf(s.objects, a) != nil
}

func (s *sight) world(a netip.Addr) bool {
	return len(s.sides) > 0 && endOf(s.objects, a) == end{}
}

func (s *sight) meets(hook string) bool {
	return slices.ContainsFunc(s.opinion.hops, func(h hop) bool { return h.hook == hook })
}

// probe reports whether a node reaches a pod of its own although policies would deny it from elsewhere.
func (s *sight) probe() bool {
	if s.destination == nil || !s.meets("OUTPUT") || len(s.opinion.hops) != 1 {
		return false
	}
	elsewhere := s.flow
	elsewhere.Source = netip.MustParseAddr("203.0.113.1")
	if s.flow.Source.Is6() {
		elsewhere.Source = netip.MustParseAddr("2001:db8::1")
	}
	return oracle.Ingress(s.objects, elsewhere) == policy.Deny
}
