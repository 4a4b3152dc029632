package generate

import (
	"math/rand/v2"
	"net/netip"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
)

// Flows are random flows between the cluster's pods and nodes, pods that nobody
// knows, and the world. Both addresses of a flow are of one IP family.
func Flows(r *rand.Rand, s *compile.Snapshot, n int) []policy.Flow {
	byFamily := map[int][]netip.Addr{}
	for _, a := range addresses(s) {
		byFamily[a.BitLen()] = append(byFamily[a.BitLen()], a)
	}
	out := make([]policy.Flow, 0, n)
	for range n {
		family := pick(r, byFamily[32], byFamily[128])
		f := policy.Flow{Source: pick(r, family...), Destination: pick(r, family...), Protocol: protocol(r, family[0])}
		if f.Protocol.HasPorts() {
			f.DestinationPort = uint16(port(r))
		}
		out = append(out, f)
	}
	return out
}

// addresses are those of pods several times over, and some that are no pod's: of the
// nodes, beside the edges of blocks, unknown in a node's pod network, far away.
func addresses(s *compile.Snapshot) []netip.Addr {
	var out []netip.Addr
	for range 8 {
		for _, p := range s.Pods {
			for _, a := range p.Addrs {
				out = append(out, a.Unmap())
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
