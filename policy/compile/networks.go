package compile

import (
	"fmt"
	"net/netip"
	"slices"
)

// maxNetworks limits the prefixes that one peer may come to, so that a policy
// cannot exhaust the nodes.
const maxNetworks = 65536

// parseCIDR reads a network of either IP family. Bits beyond the prefix are
// ignored, as the API server does. Notations that readers disagree about are
// refused: leading zeros, IPv4-mapped IPv6 addresses, zones.
func parseCIDR(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is not a CIDR such as 192.0.2.0/24 or 2001:db8::/64", s)
	}
	if p.Addr().Is4In6() {
		return netip.Prefix{}, fmt.Errorf("%q is an IPv4-mapped IPv6 network: write it as IPv4", s)
	}
	return p.Masked(), nil
}

// subtract is the smallest list of disjoint prefixes that covers p without the
// excepts, in order. It is false when there would be more than limit of them.
func subtract(p netip.Prefix, excepts []netip.Prefix, limit int) ([]netip.Prefix, bool) {
	inside := slices.DeleteFunc(slices.Clone(excepts), func(e netip.Prefix) bool { return !e.Overlaps(p) })
	var out []netip.Prefix
	ok := carve(&out, p, union(inside), limit)
	return out, ok
}

// carve adds p without the excepts to the list until that is longer than limit. The
// excepts are disjoint, in order, and overlap p.
func carve(out *[]netip.Prefix, p netip.Prefix, excepts []netip.Prefix, limit int) bool {
	switch {
	case len(excepts) == 0:
		*out = append(*out, p)
		return len(*out) <= limit
	case excepts[0].Bits() <= p.Bits():
		return true // nothing is left of p
	}
	low, high := halves(p)
	middle, _ := slices.BinarySearchFunc(excepts, high.Addr(), func(e netip.Prefix, a netip.Addr) int { return e.Addr().Compare(a) })
	return carve(out, low, excepts[:middle], limit) && carve(out, high, excepts[middle:], limit)
}

// halves splits a prefix of less than all bits in two.
func halves(p netip.Prefix) (low, high netip.Prefix) {
	bits := p.Bits()
	raw := p.Addr().AsSlice()
	raw[bits/8] |= 1 << (7 - bits%8)
	upper, _ := netip.AddrFromSlice(raw)
	return netip.PrefixFrom(p.Addr(), bits+1), netip.PrefixFrom(upper, bits+1)
}

// union is the smallest list of disjoint prefixes that covers the same
// addresses, in order.
func union(prefixes []netip.Prefix) []netip.Prefix {
	sorted := slices.SortedFunc(slices.Values(prefixes), netip.Prefix.Compare)
	var out []netip.Prefix
	for _, p := range sorted {
		if n := len(out); n > 0 && out[n-1].Overlaps(p) {
			continue // the earlier one is at least as wide
		}
		out = append(out, p)
		for len(out) > 1 {
			a, b := out[len(out)-2], out[len(out)-1]
			if a.Bits() != b.Bits() || a.Bits() == 0 {
				break
			}
			wide := netip.PrefixFrom(a.Addr(), a.Bits()-1).Masked()
			if a.Addr().BitLen() != b.Addr().BitLen() || !wide.Contains(b.Addr()) {
				break
			}
			out = append(out[:len(out)-2], wide)
		}
	}
	return out
}
