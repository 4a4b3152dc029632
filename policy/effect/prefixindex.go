package effect

import (
	"net/netip"
	"slices"
)

// prefixIndex finds the numbered sets of networks that contain an address.
type prefixIndex struct {
	sets map[netip.Prefix][]int
	// lengths are the prefix lengths in use, of IPv4 and of IPv6.
	lengths [2][]int
}

// addPrefix adds a network to a set.
func (p *prefixIndex) addPrefix(n netip.Prefix, set int) {
	if p.sets == nil {
		p.sets = map[netip.Prefix][]int{}
	}
	lengths := &p.lengths[familyOf(n.Addr())]
	if i, found := slices.BinarySearch(*lengths, n.Bits()); !found {
		*lengths = slices.Insert(*lengths, i, n.Bits())
	}
	p.sets[n] = append(p.sets[n], set)
}

// setsContaining returns the numbers of the sets that contain an address, sorted.
func (p *prefixIndex) setsContaining(a netip.Addr) []int {
	var out []int
	for _, bits := range p.lengths[familyOf(a)] {
		n, _ := a.Prefix(bits) // the length is one of the family's
		out = append(out, p.sets[n]...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// widestContaining returns the widest network that contains an address.
func (p *prefixIndex) widestContaining(a netip.Addr) (netip.Prefix, bool) {
	for _, bits := range p.lengths[familyOf(a)] {
		if n, _ := a.Prefix(bits); p.sets[n] != nil {
			return n, true
		}
	}
	return netip.Prefix{}, false
}

// containsWider reports whether a wider network of any set contains this one.
func (p *prefixIndex) containsWider(n netip.Prefix) bool {
	return slices.ContainsFunc(p.lengths[familyOf(n.Addr())], func(bits int) bool {
		wider, err := n.Addr().Prefix(bits)
		return err == nil && bits < n.Bits() && p.sets[wider] != nil
	})
}

// families are the indices of IPv4 and IPv6.
var families = [...]int{0, 1}

func familyOf(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

// lastAddress returns the highest address of a network.
func lastAddress(p netip.Prefix) netip.Addr {
	bytes := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(bytes)*8; i++ {
		bytes[i/8] |= 1 << (7 - i%8)
	}
	addr, _ := netip.AddrFromSlice(bytes)
	return addr
}
