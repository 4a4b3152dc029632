package effect

import (
	"net/netip"
	"slices"

	"github.com/tierwall/tierwall/policy/compile"
)

// mentionedNetworks returns the networks that policies mention, and the addresses of nodes.
func mentionedNetworks(nodes []*compile.Node, all ...map[string]*terms) []netip.Prefix {
	var out []netip.Prefix
	for _, n := range nodes {
		for _, a := range n.Addrs {
			out = append(out, netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()))
		}
	}
	for _, ts := range all {
		for _, t := range ts {
			out = append(out, t.networks...)
		}
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return slices.Compact(out)
}

// networkNode is a network that policies mention. No rule can tell apart its addresses outside its children, so that
// one of them represents all.
type networkNode struct {
	prefix   netip.Prefix
	name     string
	children []*networkNode
	// probe is an address outside the children; invalid if none is left.
	probe netip.Addr
}

// networkTree returns the networks as trees, with all addresses of each IP family at the roots.
func networkTree(prefixes []netip.Prefix, taken map[netip.Addr]bool) []*networkNode {
	all := append(slices.Clone(prefixes), netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0"))
	slices.SortFunc(all, netip.Prefix.Compare) // a network precedes those within it
	var roots, around []*networkNode           // around holds the last one and those that contain it
	for _, p := range slices.Compact(all) {
		for len(around) > 0 && !around[len(around)-1].prefix.Overlaps(p) {
			around = around[:len(around)-1]
		}
		into := &roots
		if len(around) > 0 {
			into = &around[len(around)-1].children
		}
		n := &networkNode{prefix: p, name: p.String()}
		*into = append(*into, n)
		around = append(around, n)
	}
	for _, r := range roots {
		r.findProbe(taken)
	}
	return roots
}

func (n *networkNode) findProbe(taken map[netip.Addr]bool) {
	n.probe, _ = addressOutside(n.prefix, n.children, taken)
	for _, w := range n.children {
		w.findProbe(taken)
	}
}

// addressOutside returns an address of a prefix that is in no hole and not taken.
func addressOutside(p netip.Prefix, holes []*networkNode, taken map[netip.Addr]bool) (netip.Addr, bool) {
	var overlapping []*networkNode
	for _, h := range holes {
		if h.prefix.Overlaps(p) {
			overlapping = append(overlapping, h)
			if h.prefix.Bits() <= p.Bits() {
				return netip.Addr{}, false
			}
		}
	}
	if len(overlapping) == 0 {
		for a := p.Addr(); p.Contains(a); a = a.Next() {
			if !taken[a] {
				return a, true
			}
		}
		return netip.Addr{}, false
	}
	low := netip.PrefixFrom(p.Addr(), p.Bits()+1)
	high := netip.PrefixFrom(lastAddress(low).Next(), p.Bits()+1)
	if a, ok := addressOutside(high, overlapping, taken); ok {
		return a, true
	}
	return addressOutside(low, overlapping, taken)
}
