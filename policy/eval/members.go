package eval

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/tierwall/tierwall/policy"
)

// memberIndex finds the sets that have an address, or an address with a port.
type memberIndex struct {
	// prefixes and ports lead to the first of the entries about them.
	prefixes map[netip.Prefix]int32
	ports    map[policy.Element]int32
	entries  []member
	// bits are the lengths of the prefixes, by IP family (of IPv4 first), ascending.
	bits [2][]int
	// searched are the numbers of the sets that are looked through one by one.
	searched []int32
}

// member is an element of a set.
type member struct {
	set    int32
	except bool
	next   int32 // of the same element, or -1
}

// newMemberIndex indexes the elements of sets, as far as there is room. The largest sets are
// searched one by one where there is not; they are few.
func newMemberIndex(sets []*policy.Set, room *int) memberIndex {
	x := memberIndex{prefixes: map[netip.Prefix]int32{}, ports: map[policy.Element]int32{}}
	order := make([]int32, 0, len(sets))
	for n, s := range sets {
		if s != nil {
			order = append(order, int32(n))
		}
	}
	slices.SortStableFunc(order, func(a, b int32) int { return cmp.Compare(len(sets[a].Elements), len(sets[b].Elements)) })
	var seen [2][129]bool
	for _, n := range order {
		s := sets[n]
		if len(s.Elements) > *room {
			x.searched = append(x.searched, n)
			continue
		}
		*room -= len(s.Elements)
		for _, e := range s.Elements {
			if s.Kind == policy.AddressPorts {
				addMember(&x, x.ports, e, member{set: n})
				continue
			}
			addMember(&x, x.prefixes, e.Prefix, member{set: n, except: e.Except})
			seen[family(e.Prefix.Addr())][max(0, e.Prefix.Bits())] = true
		}
	}
	for f := range seen {
		for bits, there := range seen[f] {
			if there {
				x.bits[f] = append(x.bits[f], bits)
			}
		}
	}
	return x
}

func family(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

func addMember[K comparable](x *memberIndex, to map[K]int32, key K, m member) {
	m.next = -1
	if before, ok := to[key]; ok {
		m.next = before
	}
	to[key] = int32(len(x.entries))
	x.entries = append(x.entries, m)
}

// find marks the sets that have the address, or it with the port, and returns how much it looked at.
func (x *memberIndex) find(sets []*policy.Set, s *scratch, a netip.Addr, proto policy.Protocol, port uint16) int {
	looked := 0
	meet := func(at int32, ok bool) {
		looked++
		for ; ok && at >= 0; at = x.entries[at].next {
			looked++
			m := x.entries[at]
			if m.except { // which lies inside of what was met before
				s.sets[m.set] = 0
			} else if s.sets[m.set] != s.flow {
				s.sets[m.set], s.met = s.flow, append(s.met, m.set)
			}
		}
	}
	for _, bits := range x.bits[family(a)] {
		if p, err := a.Prefix(bits); err == nil {
			at, ok := x.prefixes[p]
			meet(at, ok)
		}
	}
	if len(x.ports) > 0 {
		e := policy.AddressElement(a)
		e.Protocol, e.Port = proto, port
		at, ok := x.ports[e]
		meet(at, ok)
	}
	for _, n := range x.searched {
		looked++
		if Contains(sets[n], a) || containsPort(sets[n], a, proto, port) {
			s.sets[n], s.met = s.flow, append(s.met, n)
		}
	}
	return looked
}
