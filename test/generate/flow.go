package generate

import (
	"math/rand/v2"
	"net/netip"
	"slices"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
)

// Flows are random flows between the cluster's pods and nodes, pods that nobody
// knows, and the world. They lean towards what its policies are about: the edges of their
// networks, and named ports. Both addresses of a flow are of one IP family.
func Flows(r *rand.Rand, s *compile.Snapshot, n int) []policy.Flow {
	byFamily := map[int][]netip.Addr{}
	for _, a := range addresses(s) {
		byFamily[a.BitLen()] = append(byFamily[a.BitLen()], a)
	}
	named := namedPortsAt(s)
	out := make([]policy.Flow, 0, n)
	for range n {
		family := pick(r, byFamily[32], byFamily[128])
		f := policy.Flow{Source: pick(r, family...), Destination: pick(r, family...), Protocol: protocol(r, family[0])}
		ports := named[f.Destination]
		switch {
		case f.Protocol.HasPorts() && len(ports) > 0 && r.IntN(2) == 0:
			p := pick(r, ports...)
			f.DestinationPort = p.Port
			if r.IntN(4) > 0 {
				f.Protocol = p.Protocol
			}
		case f.Protocol.HasPorts():
			f.DestinationPort = uint16(port(r))
		case f.Protocol == policy.ICMPv6 && r.IntN(3) == 0:
			f.ICMPType, f.ICMPCode, f.HopLimit = neighbourSolicitation, pick(r, uint8(0), 0, 1), pick(r, uint8(255), 255, 254, 64)
		}
		out = append(out, f)
	}
	return out
}

// neighbourSolicitation is the ICMPv6 type of RFC 4861, section 4.3.
const neighbourSolicitation = 135

func namedPortsAt(s *compile.Snapshot) map[netip.Addr][]compile.NamedPort {
	out := map[netip.Addr][]compile.NamedPort{}
	for _, p := range s.Pods {
		for _, a := range p.Addrs {
			out[a.Unmap()] = append(out[a.Unmap()], p.Ports...)
		}
	}
	return out
}

// addresses are those of pods several times over, and some that are no pod's: of the
// nodes, at the edges of the policies' networks, unknown in a node's pod network, far away.
func addresses(s *compile.Snapshot) []netip.Addr {
	var out []netip.Addr
	for range 8 {
		for _, p := range s.Pods {
			for _, a := range p.Addrs {
				if a.Unmap().IsGlobalUnicast() { // packets of others are not routed
					out = append(out, a.Unmap())
				}
			}
		}
	}
	for _, n := range s.Nodes {
		out = append(out, n.Addrs...)
		for _, p := range n.PodCIDRs {
			out = append(out, p.Addr().Next())
		}
	}
	for _, b := range []string{"10.0.0.3", "10.0.0.8", "10.0.1.16", "203.0.113.9", "198.51.100.1", "fd00:2:0:1::8", "fd00:2:0:7::1", "2001:db8::1"} {
		out = append(out, netip.MustParseAddr(b))
	}
	return append(out, edges(s)...)
}

// edges are addresses in and beside the networks that policies name.
func edges(s *compile.Snapshot) []netip.Addr {
	var out []netip.Addr
	for _, text := range networks(s) {
		p, err := netip.ParsePrefix(text)
		if err != nil || p.Bits() < 16 || p.Addr().Is4In6() {
			continue
		}
		for _, a := range []netip.Addr{p.Masked().Addr(), p.Addr().Next(), p.Masked().Addr().Prev()} {
			if a.IsValid() && a.Zone() == "" && !slices.Contains(out, a) {
				out = append(out, a)
			}
		}
	}
	return out
}

func networks(s *compile.Snapshot) []string {
	var out []string
	for _, np := range s.NetworkPolicies {
		for _, r := range np.Spec.Ingress {
			for _, p := range r.From {
				if p.IPBlock != nil {
					out = append(append(out, p.IPBlock.CIDR), p.IPBlock.Except...)
				}
			}
		}
		for _, r := range np.Spec.Egress {
			for _, p := range r.To {
				if p.IPBlock != nil {
					out = append(append(out, p.IPBlock.CIDR), p.IPBlock.Except...)
				}
			}
		}
	}
	return out
}

func protocol(r *rand.Rand, family netip.Addr) policy.Protocol {
	icmp := policy.ICMP
	if family.Is6() {
		icmp = policy.ICMPv6
	}
	const gre = policy.Protocol(47)
	return pick(r, policy.TCP, policy.TCP, policy.TCP, policy.TCP, policy.UDP, policy.UDP, policy.SCTP, icmp, gre)
}

func port(r *rand.Rand) int32 {
	edge := pick(r, portEdges...)
	return min(max(edge+int32(r.IntN(4))-1, 1), policy.MaxPort)
}
