package differential

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/test/oracle"
)

// coverage counts how many flows were about each thing that implementations get wrong.
type coverage struct {
	mu    sync.Mutex
	flows map[string]int
}

func newCoverage() *coverage { return &coverage{flows: map[string]int{}} }

func (c *coverage) note(objects *oracle.Cluster, f policy.Flow, o opinion) {
	s := newSight(objects, f, o)
	var about []string
	for _, b := range biases {
		if b.isAbout(s) {
			about = append(about, b.name)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range about {
		c.flows[name]++
	}
}

// missing are the biases that no flow was about.
func (c *coverage) missing() []string {
	var out []string
	for _, b := range biases {
		if c.flows[b.name] == 0 {
			out = append(out, b.name)
		}
	}
	return out
}

func (c *coverage) String() string {
	var b strings.Builder
	for _, bias := range biases {
		fmt.Fprintf(&b, "%8d %s\n", c.flows[bias.name], bias.name)
	}
	return b.String()
}

// bias is something that implementations get wrong, and whether a flow is about it.
type bias struct {
	name    string
	isAbout func(*sight) bool
}

var biases = slices.Concat(selectorBiases, portBiases, blockBiases, tierBiases, addressBiases, placeBiases)

var selectorBiases = []bias{
	{"NotIn, and the label is missing", anyPair(func(p pair) bool {
		return p.asks(func(key, op string, _ []string) bool { _, has := p.labels[key]; return op == "NotIn" && !has })
	})},
	{"NotIn with an empty value", anyPair(func(p pair) bool {
		return p.asks(func(_, op string, values []string) bool { return op == "NotIn" && slices.Contains(values, "") })
	})},
	{"In with an empty value, and the label is empty", anyPair(func(p pair) bool {
		return p.asks(func(key, op string, values []string) bool {
			value, has := p.labels[key]
			return op == "In" && has && value == "" && slices.Contains(values, "")
		})
	})},
	{"In with an empty value, and the label is missing", anyPair(func(p pair) bool {
		return p.asks(func(key, op string, values []string) bool {
			_, has := p.labels[key]
			return op == "In" && !has && slices.Contains(values, "")
		})
	})},
	{"DoesNotExist", anyPair(func(p pair) bool {
		return p.asks(func(_, op string, _ []string) bool { return op == "DoesNotExist" })
	})},
	{"a role in a selector, and the pod holds one that its labels do not show", anyPair(func(p pair) bool {
		return p.asksForRole() && p.role != "" && p.shownRole() != p.role
	})},
	{"a role in a selector, and the pod shows one that it does not hold", anyPair(func(p pair) bool {
		return p.asksForRole() && p.shownRole() != "" && p.shownRole() != p.role
	})},
	{"a namespace that has no object", func(s *sight) bool {
		return s.any(func(side) bool { return true }) && (inGhost(s.source) || inGhost(s.destination))
	}},
}

func inGhost(p *corev1.Pod) bool { return p != nil && p.Namespace == "ghost" }

var portBiases = []bias{
	{"a named port, resolved", matchedRule(func(s *sight, r rule) bool { return s.resolves(r) })},
	{"a named port that the destination has with another number", anyRule(func(s *sight, r rule) bool {
		return s.named(r, func(p corev1.ContainerPort) bool { return p.ContainerPort != int32(s.flow.DestinationPort) })
	})},
	{"a named port that the destination has twice", anyRule(func(s *sight, r rule) bool {
		n := 0
		s.named(r, func(corev1.ContainerPort) bool { n++; return false })
		return n > 1 && s.resolves(r)
	})},
	{"a named port of another protocol", anyRule(func(s *sight, r rule) bool {
		return s.named(r, func(p corev1.ContainerPort) bool {
			return p.ContainerPort == int32(s.flow.DestinationPort) && protocolOf(p) != s.flow.Protocol.String()
		})
	})},
	{"a named port of a sidecar", matchedRule(func(s *sight, r rule) bool { return s.resolves(r) && s.onlyOfSidecar(r) })},
	{"a named port of an init container that has ended", anyRule(func(s *sight, r rule) bool { return s.onlyOfEnded(r) })},
	{"a named port, and the destination is no pod", anyRule(func(s *sight, r rule) bool {
		return s.destination == nil && len(r.portNames) > 0
	})},
	{"an edge of a range", anyRange(func(port, first, last int32) bool { return last > first && (port == first || port == last) })},
	{"beside an edge of a range", anyRange(func(port, first, last int32) bool {
		return last > first && (port == first-1 || port == last+1)
	})},
	{"a range that begins at 1", anyRange(func(port, first, last int32) bool { return first == 1 && last > 1 && port <= last })},
	{"a range that ends at 65535", anyRange(func(port, first, last int32) bool { return last == 65535 && first < last && port >= first })},
	{"endPort equals port", anyRule(func(s *sight, r rule) bool {
		return slices.ContainsFunc(r.endPorts, func(e [2]int32) bool { return e[0] == e[1] && s.flow.DestinationPort == uint16(e[0]) })
	})},
	{"a protocol that policies cannot name, denied", func(s *sight) bool {
		return s.flow.Protocol == 47 && s.any(func(x side) bool { return x.answer.Tier == policy.NetworkPolicyTier && x.answer.Verdict == policy.Deny })
	}},
	{"a rule of one protocol and the port, and a flow of another", anyRule(func(s *sight, r rule) bool {
		return slices.ContainsFunc(r.ranges, func(x portRange) bool {
			return x.protocol != s.flow.Protocol.String() && x.first <= int32(s.flow.DestinationPort) && int32(s.flow.DestinationPort) <= x.last
		})
	})},
	{"SCTP, and a rule that names it", matchedRule(func(s *sight, r rule) bool {
		return s.flow.Protocol == policy.SCTP && slices.ContainsFunc(r.ranges, func(x portRange) bool { return x.protocol == "SCTP" })
	})},
	{"echo, and the peer is allowed on some ports", anyRule(func(s *sight, r rule) bool {
		return isEcho(s.flow) && len(r.ranges)+len(r.portNames) > 0
	})},
	{"echo, allowed by a policy", func(s *sight) bool {
		return isEcho(s.flow) && s.any(func(x side) bool {
			return x.answer.Tier == policy.NetworkPolicyTier && x.answer.Verdict == policy.Allow
		})
	}},
	{"neighbour discovery", func(s *sight) bool { return s.flow.IsNeighbourDiscovery() }},
	{"what looks like neighbour discovery and was forwarded", func(s *sight) bool {
		return s.flow.ICMPType == 135 && s.flow.ICMPCode == 0 && s.flow.HopLimit != 255
	}},
	{"what looks like neighbour discovery and has a code", func(s *sight) bool { return s.flow.ICMPType == 135 && s.flow.ICMPCode != 0 }},
}

func isEcho(f policy.Flow) bool {
	return f.Protocol == policy.ICMP || f.Protocol == policy.ICMPv6 && f.ICMPType == 0
}

var blockBiases = []bias{
	{"an ipBlock and a pod in it", anyBlock(func(_ *sight, x side, b block) bool { return x.peer != nil && b.holds(x.address) })},
	{"an ipBlock and a node in it", anyBlock(func(s *sight, x side, b block) bool {
		return oracle.NodeAt(s.objects, x.address) != nil && b.holds(x.address)
	})},
	{"an except and an address in it", anyBlock(func(_ *sight, x side, b block) bool { return b.excepted(x.address) > 0 })},
	{"excepts within one another and an address in both", anyBlock(func(_ *sight, x side, b block) bool { return b.excepted(x.address) > 1 })},
	{"the address beside an except", anyBlock(func(_ *sight, x side, b block) bool {
		return b.excepted(x.address) == 0 && (b.excepted(x.address.Next()) > 0 || b.excepted(x.address.Prev()) > 0)
	})},
	{"an excepted address that another peer holds", anyRuleSide(func(_ *sight, x side, r rule) bool {
		in := func(b block) bool { return b.holds(x.address) }
		out := func(b block) bool { return b.excepted(x.address) > 0 }
		return slices.ContainsFunc(r.blocks, in) && slices.ContainsFunc(r.blocks, out)
	})},
	{"an ipBlock of the other IP family", anyBlock(func(_ *sight, x side, b block) bool { return b.cidr.Addr().Is4() != x.address.Is4() })},
	{"overlapping networks of a ClusterNetworkPolicy", anyRuleSide(func(_ *sight, x side, r rule) bool {
		n := 0
		for _, p := range r.networks {
			if p.Contains(x.address) {
				n++
			}
		}
		return n > 1
	})},
	{"a nodes peer and a node", anyRuleSide(func(s *sight, x side, r rule) bool { return r.nodes && oracle.NodeAt(s.objects, x.address) != nil })},
}

var tierBiases = []bias{
	{"Pass in Admin", func(s *sight) bool { return s.passed(policy.AdminTier) }},
	{"Pass in Baseline", func(s *sight) bool { return s.passed(policy.BaselineTier) }},
	{"Pass in both tiers", func(s *sight) bool { return s.any(func(x side) bool { return len(x.answer.Passed) == 2 }) }},
	{"several Baseline policies, and the next would decide otherwise", func(s *sight) bool { return s.contested(policy.BaselineTier, false) }},
	{"several Admin policies, and the next would decide otherwise", func(s *sight) bool { return s.contested(policy.AdminTier, false) }},
	{"equal priorities, and the next would decide otherwise", func(s *sight) bool {
		return s.contested(policy.AdminTier, true) || s.contested(policy.BaselineTier, true)
	}},
	{"Admin allows what NetworkPolicies deny, or denies what they allow", func(s *sight) bool { return s.overruled() }},
	{"an unknown peer in a Deny rule", func(s *sight) bool { return s.unknownPeer("Deny") }},
	{"an unknown peer in a Pass rule", func(s *sight) bool { return s.unknownPeer("Pass") }},
	{"an unknown peer in an Accept rule, and denied", func(s *sight) bool { return s.unknownAccept() }},
	{"a policy without rules isolates", func(s *sight) bool {
		return s.any(func(x side) bool {
			return x.answer.Tier == policy.NetworkPolicyTier && x.answer.Verdict == policy.Deny && len(s.rulesOf(x)) == 0
		})
	}},
	{"a default action of the namespace", s(func(s *sight, x side) bool {
		_, set := s.objects.Defaults.Namespaces[x.own.Namespace]
		return x.answer.Tier == policy.DefaultTier && set
	})},
	{"Audit, and reported in one direction", func(s *sight) bool { return len(directionsOf(s.opinion.decision)) == 1 }},
	{"Audit, and reported in both", func(s *sight) bool { return len(directionsOf(s.opinion.decision)) == 2 }},
	{"Audit, and denied at the other side", func(s *sight) bool {
		return s.opinion.egress.Verdict == policy.Audit && s.opinion.decision.Verdict == policy.Deny
	}},
	{"an exempt namespace", s(func(s *sight, x side) bool {
		return x.answer.Tier == policy.DefaultTier && slices.Contains(s.objects.Defaults.Exempt, x.own.Namespace)
	})},
	{"the cluster's default action", s(func(s *sight, x side) bool {
		_, set := s.objects.Defaults.Namespaces[x.own.Namespace]
		return x.answer.Tier == policy.DefaultTier && !set && !slices.Contains(s.objects.Defaults.Exempt, x.own.Namespace)
	})},
}

var addressBiases = []bias{
	{"a pod with an IPv4 address alone", s(func(_ *sight, x side) bool { return onlyFamily(x.own, 4) || onlyFamily(x.peer, 4) })},
	{"a pod with an IPv6 address alone", s(func(_ *sight, x side) bool { return onlyFamily(x.own, 6) || onlyFamily(x.peer, 6) })},
	{"IPv6", s(func(s *sight, _ side) bool { return s.flow.Source.Is6() })},
	{"an IPv4-mapped address", s(func(_ *sight, x side) bool { return mapped(x.own) || mapped(x.peer) })},
	{"the address of a pod that has ended", func(s *sight) bool { return s.claimed(ended) && (s.source == nil || s.destination == nil) }},
	{"the address of a pod that has ended, which another has now", func(s *sight) bool {
		return s.claimant(func(p, owner *corev1.Pod) bool { return ended(p) && owner != nil })
	}},
	{"the address of a pod that is ending", func(s *sight) bool {
		return s.claimant(func(p, owner *corev1.Pod) bool { return p == owner && p.DeletionTimestamp != nil })
	}},
	{"an address that an ending pod and another claim", func(s *sight) bool {
		return s.claimant(func(p, owner *corev1.Pod) bool {
			return p != owner && !ended(p) && p.DeletionTimestamp != nil && owner != nil && owner.DeletionTimestamp == nil
		})
	}},
	{"an address that an older pod and a newer claim", func(s *sight) bool {
		return s.claimant(func(p, owner *corev1.Pod) bool {
			return p != owner && owner != nil && !ended(p) && p.DeletionTimestamp == nil && owner.CreationTimestamp.Before(&p.CreationTimestamp)
		})
	}},
	{"an address that a pod of the network's node and one of another claim", func(s *sight) bool {
		return s.claimant(func(p, owner *corev1.Pod) bool {
			return owner != nil && p != owner && !ended(p) && p.Spec.NodeName != owner.Spec.NodeName
		})
	}},
	{"a node's address that a pod claims", func(s *sight) bool {
		return s.claimant(func(p, owner *corev1.Pod) bool { return owner == nil && !ended(p) }) && (s.node(s.flow.Source) || s.node(s.flow.Destination))
	}},
	{"an address outside of the networks of its pod's node", s(func(s *sight, x side) bool {
		n := oracle.PodNetworkOf(s.objects, x.address)
		return x.peer != nil && (n == nil || n.Name != x.peer.Spec.NodeName)
	})},
	{"an address of nobody known in a pod network", func(s *sight) bool { return s.unknown(s.flow.Source) || s.unknown(s.flow.Destination) }},
	{"a node's address within its pod network", func(s *sight) bool { return s.bridge(s.flow.Source) || s.bridge(s.flow.Destination) }},
	{"the world", func(s *sight) bool { return s.world(s.flow.Source) || s.world(s.flow.Destination) }},
}

var placeBiases = []bias{
	{"pods on one node", s(func(s *sight, x side) bool { return x.peer != nil && x.peer != x.own && len(s.opinion.hops) == 1 })},
	{"pods on two nodes, judged by both", func(s *sight) bool {
		return s.source != nil && s.destination != nil && s.opinion.egress.Tier != "" && s.opinion.ingress.Tier != "" && len(s.opinion.hops) == 2
	}},
	{"a pod to its own node", func(s *sight) bool { return s.source != nil && s.meets("INPUT") && len(s.opinion.hops) == 1 }},
	{"a pod to another node", func(s *sight) bool { return s.source != nil && s.meets("INPUT") && len(s.opinion.hops) == 2 }},
	{"a node to its own pod, which policies isolate", func(s *sight) bool { return s.probe() }},
	{"a node to another's pod", s(func(s *sight, _ side) bool {
		return s.destination != nil && s.meets("OUTPUT") && len(s.opinion.hops) == 2
	})},
	{"a pod to itself", func(s *sight) bool { return s.source != nil && s.source == s.destination }},
	{"a node with pods on its own network, to and from", s(func(s *sight, x side) bool {
		n := oracle.NodeAt(s.objects, x.address)
		return n != nil && slices.ContainsFunc(s.objects.Pods, func(p *corev1.Pod) bool { return p.Spec.HostNetwork && p.Spec.NodeName == n.Name })
	})},
}
