package compile

import (
	"net/netip"
	"slices"
)

// addresses are the ones that can be matched on the wire: IPv4-mapped ones as
// IPv4, without those that are void or have a zone; sorted and unique.
func addresses(in []netip.Addr) []netip.Addr {
	if canonicalAddrs(in) {
		return in
	}
	out := make([]netip.Addr, 0, len(in))
	for _, a := range in {
		if a.IsValid() && a.Zone() == "" {
			out = append(out, a.Unmap())
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

// canonicalAddrs reports whether addresses would give back what it is given, which is the usual case.
func canonicalAddrs(in []netip.Addr) bool {
	for i, a := range in {
		if !a.IsValid() || a.Zone() != "" || a.Is4In6() || i > 0 && in[i-1].Compare(a) >= 0 {
			return false
		}
	}
	return true
}

// claimed are the addresses that the pod says it has.
func claimed(p *Pod) []netip.Addr {
	if !hasAddresses(p) {
		return nil
	}
	return addresses(p.Addrs)
}

// hasAddresses reports whether the pod has addresses of its own. Pods on the host
// network have their node's, and those that ended have given theirs back.
func hasAddresses(p *Pod) bool { return !p.HostNetwork && !p.Ended }

// own are those of the addresses, which stay as they are, that belong to who claims them.
func own(claimed []netip.Addr, belongs func(netip.Addr) bool) []netip.Addr {
	for i, a := range claimed {
		if belongs(a) {
			continue
		}
		out := slices.Clone(claimed[:i])
		for _, a := range claimed[i+1:] {
			if belongs(a) {
				out = append(out, a)
			}
		}
		return out
	}
	return claimed
}
