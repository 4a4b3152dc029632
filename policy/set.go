package policy

import "net/netip"

// SetID names a set by what defines it: the same canonical selector, list of
// networks or port name has the same ID whoever refers to it, and whatever its
// elements are at the moment.
type SetID string

// SetKind is what a set's elements are.
type SetKind uint8

const (
	// Addresses are single addresses.
	Addresses SetKind = iota
	// Networks are disjoint prefixes.
	Networks
	// AddressPorts are addresses with a protocol and a port.
	AddressPorts
)

// Set is a named group of addresses of both IP families.
type Set struct {
	ID   SetID
	Kind SetKind
	// Means says in words what the set stands for, such as "pods app=web in namespace prod".
	Means string
	// Elements are sorted and unique.
	Elements []Element
}

// Element is one member of a set. It is comparable.
type Element struct {
	// Prefix is the network; a single address has all its bits.
	Prefix netip.Prefix
	// Protocol and Port are set in sets of AddressPorts only.
	Protocol Protocol
	Port     uint16
}

// AddressElement is the element of one address.
func AddressElement(a netip.Addr) Element {
	return Element{Prefix: netip.PrefixFrom(a, a.BitLen())}
}

// Compare orders elements by address, prefix length, protocol and port.
func (e Element) Compare(o Element) int {
	if c := e.Prefix.Addr().Compare(o.Prefix.Addr()); c != 0 {
		return c
	}
	if c := e.Prefix.Bits() - o.Prefix.Bits(); c != 0 {
		return c
	}
	if c := int(e.Protocol) - int(o.Protocol); c != 0 {
		return c
	}
	return int(e.Port) - int(o.Port)
}
