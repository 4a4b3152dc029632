package iptables

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/tierwall/tierwall/policy"
)

// maxElements is the least limit of a set's size. It costs nothing until used.
const maxElements = 1 << 20

// Set is an ipset of one family.
type Set struct {
	Name string
	// Type is the ipset type, such as hash:ip.
	Type   string
	Family Family
	// Elements are sorted and unique; no prefix has length 0, which hash:net cannot hold.
	Elements []policy.Element
	// Lists are the names of the sets in a list of sets, sorted.
	Lists []string
}

var setTypes = map[policy.SetKind]string{
	policy.Addresses:    "hash:ip",
	policy.Networks:     "hash:net",
	policy.AddressPorts: "hash:ip,port",
}

// newSet is a set of elements of a family.
func newSet(name, kind string, f Family, elements []policy.Element) Set {
	out := Set{Name: name, Type: kind, Family: f, Elements: make([]policy.Element, 0, len(elements)+1)}
	for _, e := range elements {
		if e.Prefix.Bits() == 0 {
			out.Elements = append(out.Elements, splitPrefix(e)...)
		} else {
			out.Elements = append(out.Elements, e)
		}
	}
	slices.SortFunc(out.Elements, policy.Element.Compare)
	out.Elements = dropCancelled(slices.Compact(out.Elements))
	return out
}

// dropCancelled leaves out a half of all addresses that is an exception as well: a set has a
// prefix once. The elements are sorted, and the memory is used again.
func dropCancelled(elements []policy.Element) []policy.Element {
	out := elements[:0]
	for i := 0; i < len(elements); i++ {
		if i+1 < len(elements) && elements[i].Prefix == elements[i+1].Prefix && elements[i+1].Except {
			i++
			continue
		}
		out = append(out, elements[i])
	}
	return out
}

// ofFamily are the elements of a family.
func ofFamily(f Family, elements []policy.Element) []policy.Element {
	out := make([]policy.Element, 0, len(elements))
	for _, e := range elements {
		if f.hasAddress(e.Prefix.Addr()) {
			out = append(out, e)
		}
	}
	return out
}

// splitPrefix are the two halves of an element of all addresses.
func splitPrefix(e policy.Element) []policy.Element {
	low, high := e, e
	low.Prefix = netip.PrefixFrom(e.Prefix.Addr(), 1)
	upper := e.Prefix.Addr().AsSlice()
	upper[0] = 0x80
	addr, _ := netip.AddrFromSlice(upper)
	high.Prefix = netip.PrefixFrom(addr, 1)
	return []policy.Element{low, high}
}

// countEntries is the number of elements, or of sets in a list.
func (s Set) countEntries() int { return len(s.Elements) + len(s.Lists) }

// hashSize and room are what a set is made with.
func (s Set) hashSize() int   { return max(64, ceilPower(len(s.Elements))) }
func (s Set) maxEntries() int { return max(maxElements, ceilPower(len(s.Elements))) }

func (s Set) createLine() string {
	if s.isList() {
		return s.createList()
	}
	return fmt.Sprintf("create %s %s family %s hashsize %d maxelem %d", s.Name, s.Type, s.Family.ipsetName(), s.hashSize(), s.maxEntries())
}

// nomatch marks a prefix of a hash:net whose addresses are not in the set.
const nomatch = "nomatch"

func (s Set) addLine(e policy.Element) string {
	line := "add " + s.Name + " " + elementText(e)
	if e.Except {
		line += " " + nomatch
	}
	return line
}

func (s Set) deleteLine(e policy.Element) string { return "del " + s.Name + " " + elementText(e) }

// withElements is the set with other elements.
func (s Set) withElements(elements []policy.Element) Set {
	s.Elements = elements
	return s
}

// sameAs reports whether two sets are equal but for their names.
func (s Set) sameAs(o Set) bool {
	return s.Type == o.Type && s.Family == o.Family && slices.Equal(s.Elements, o.Elements) && slices.Equal(s.Lists, o.Lists)
}

// ceilPower is the least power of two that is not less than n.
func ceilPower(n int) int {
	p := 1
	for p < n {
		p <<= 1
	}
	return p
}

// elementText is an element as ipset reads it, such as 10.0.0.1,tcp:80.
func elementText(e policy.Element) string {
	text := e.Prefix.String()
	if e.Prefix.IsSingleIP() {
		text = e.Prefix.Addr().String()
	}
	if e.Protocol == 0 {
		return text
	}
	return text + "," + protocolText(e.Protocol) + ":" + strconv.Itoa(int(e.Port))
}

// parseElement reads an element as ipset writes it.
func parseElement(text string) (policy.Element, error) {
	network, service, hasPort := strings.Cut(text, ",")
	prefix, err := parsePrefix(network)
	if err != nil {
		return policy.Element{}, fmt.Errorf("element %q: %w", text, err)
	}
	e := policy.Element{Prefix: prefix}
	if !hasPort {
		return e, nil
	}
	protocol, port, _ := strings.Cut(service, ":")
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return policy.Element{}, fmt.Errorf("element %q: port: %w", text, err)
	}
	e.Port = uint16(n)
	for _, p := range []policy.Protocol{policy.TCP, policy.UDP, policy.SCTP} {
		if protocolText(p) == protocol {
			e.Protocol = p
			return e, nil
		}
	}
	return policy.Element{}, fmt.Errorf("element %q: protocol %q has no ports", text, protocol)
}

func parsePrefix(text string) (netip.Prefix, error) {
	if strings.Contains(text, "/") {
		return netip.ParsePrefix(text)
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Prefix{}, err
	}
	return netip.PrefixFrom(a, a.BitLen()), nil
}
