package generate

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func (g *generator) peers() []networkingv1.NetworkPolicyPeer {
	if g.chance(4) {
		return pick(g.Rand, nil, []networkingv1.NetworkPolicyPeer{})
	}
	var out []networkingv1.NetworkPolicyPeer
	for range 1 + g.IntN(2) {
		p := g.peer()
		out = append(out, p)
		if p.IPBlock != nil && len(p.IPBlock.Except) > 0 && g.chance(2) { // given back
			out = append(out, networkingv1.NetworkPolicyPeer{IPBlock: &networkingv1.IPBlock{CIDR: p.IPBlock.Except[0]}})
		}
	}
	return out
}

func (g *generator) peer() networkingv1.NetworkPolicyPeer {
	var p networkingv1.NetworkPolicyPeer
	if g.broken() {
		return p
	}
	kind := g.IntN(4)
	if kind == 0 || g.broken() {
		p.IPBlock = g.ipBlock()
	}
	if kind == 1 || kind == 2 {
		s := g.podSelector()
		p.PodSelector = &s
	}
	if kind == 2 || kind == 3 {
		s := g.namespaceSelector()
		p.NamespaceSelector = &s
	}
	return p
}

// blocks hold pods, nodes, and what is neither.
var blocks = []string{
	"0.0.0.0/0", "::/0", "10.0.0.0/8", "10.0.0.0/16", "10.0.0.0/24", "10.0.1.0/28", "10.0.0.4/30", "10.0.0.7/29",
	"10.0.1.3/32", "192.168.0.0/29", "192.168.0.2/32", "203.0.113.0/24", "fd00:2::/48", "fd00:2:0:1::/64", "fd00:2:0:1::4/126", "fd00:1::/64",
}

func (g *generator) ipBlock() *networkingv1.IPBlock {
	b := &networkingv1.IPBlock{CIDR: pick(g.Rand, blocks...)}
	cidr := netip.MustParsePrefix(b.CIDR)
	outer := cidr
	for range g.IntN(4) {
		if except, ok := g.within(outer); ok {
			b.Except = append(b.Except, except.String())
			if g.chance(4) { // once more, or the network beside it
				b.Except = append(b.Except, pick(g.Rand, except, sibling(except)).String())
			}
			if g.chance(2) { // the next within this one
				outer = except.Masked()
			}
		}
	}
	if g.broken() {
		b.CIDR = pick(g.Rand, "", "10.0.0.0", "10.0.0.0/33", "010.0.0.0/8", "::ffff:10.0.0.0/104", "fe80::%eth0/64", "10.0.0.0/8 ")
	}
	if g.broken() {
		b.Except = append(b.Except, pick(g.Rand, "172.16.0.0/12", "::1/128", b.CIDR, "10.0.0.0/4", "nonsense"))
	}
	return b
}

// sibling is the other half of the network that is one bit wider.
func sibling(p netip.Prefix) netip.Prefix {
	bytes := p.Addr().AsSlice()
	bytes[(p.Bits()-1)/8] ^= 0x80 >> ((p.Bits() - 1) % 8)
	a, _ := netip.AddrFromSlice(bytes)
	return netip.PrefixFrom(a, p.Bits())
}

// within is a network inside the prefix, one that has pods in it if there is one.
func (g *generator) within(p netip.Prefix) (netip.Prefix, bool) {
	if p.IsSingleIP() {
		return netip.Prefix{}, false
	}
	base := p.Addr()
	for range 5 {
		if a := netip.MustParsePrefix(pick(g.Rand, blocks...)).Addr(); p.Contains(a) {
			base = a
			break
		}
	}
	spare := base.BitLen() - p.Bits()
	return netip.PrefixFrom(base, p.Bits()+1+g.IntN(spare)), true
}

var (
	portNames = []string{"http", "dns", "sql"}
	portEdges = []int32{1, 53, 79, 80, 81, 443, 5432, 8080, 65534, 65535}
)

func (g *generator) ports() []networkingv1.NetworkPolicyPort {
	if g.chance(3) {
		return nil
	}
	var out []networkingv1.NetworkPolicyPort
	for range 1 + g.IntN(2) {
		out = append(out, g.port())
	}
	return out
}

func (g *generator) port() networkingv1.NetworkPolicyPort {
	var p networkingv1.NetworkPolicyPort
	if !g.chance(3) {
		protocol := pick(g.Rand, corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP)
		if g.broken() {
			protocol = pick[corev1.Protocol](g.Rand, "ICMP", "tcp", "")
		}
		p.Protocol = &protocol
	}
	switch g.IntN(5) {
	case 0: // every port
	case 1, 2:
		name := intstr.FromString(pick(g.Rand, portNames...))
		if g.broken() {
			name = intstr.FromString(pick(g.Rand, "", "80", "a-name-that-is-too-long", "UPPER"))
		}
		p.Port = &name
	default:
		first := pick(g.Rand, portEdges...)
		if g.broken() {
			first = pick[int32](g.Rand, 0, -1, 65536)
		}
		number := intstr.FromInt32(first)
		p.Port = &number
		if g.chance(2) {
			end := min(first+int32(g.IntN(3)), 65535)
			p.EndPort = &end
		}
	}
	if g.broken() {
		end := pick[int32](g.Rand, 0, 1, 50, 65536)
		p.EndPort = &end
	}
	return p
}
