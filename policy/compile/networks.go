package compile

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/tierwall/tierwall/policy"
)

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

// block is a network less its exceptions, as the elements of a set. It is false when
// nothing remains. The exceptions lie strictly inside the network.
func block(cidr netip.Prefix, excepts []netip.Prefix) ([]policy.Element, bool) {
	excepts = union(excepts)
	if len(excepts) == 1 && excepts[0] == cidr {
		return nil, false
	}
	for len(excepts) > 0 { // half a network is the other half
		low, high := halves(cidr)
		if excepts[0] == low {
			cidr, excepts = high, excepts[1:]
		} else if n := len(excepts) - 1; excepts[n] == high {
			cidr, excepts = low, excepts[:n]
		} else {
			break
		}
	}
	out := make([]policy.Element, 0, len(excepts)+1)
	out = append(out, policy.Element{Prefix: cidr})
	for _, e := range excepts {
		out = append(out, policy.Element{Prefix: e, Except: true})
	}
	return out, true
}

// halves splits a prefix of less than all bits in two.
func halves(p netip.Prefix) (low, high netip.Prefix) {
	bits := p.Bits()
	raw := p.Addr().AsSlice()
	raw[bits/8] |= 1 << (7 - bits%8)
	upper, _ := netip.AddrFromSlice(raw)
	return netip.PrefixFrom(p.Addr(), bits+1), netip.PrefixFrom(upper, bits+1)
}

// networkElements are networks as the elements of a set.
func networkElements(prefixes []netip.Prefix) []policy.Element {
	out := make([]policy.Element, len(prefixes))
	for i, p := range prefixes {
		out[i] = policy.Element{Prefix: p}
	}
	return out
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
