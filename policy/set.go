package policy

import (
	"net/netip"
	"slices"
)

// SetID names a set by a full-width hash of what defines it: the same canonical selector, list of
// networks or port name has the same ID whoever refers to it, and whatever its
// elements are at the moment.
type SetID string

// SetKind is what a set's elements are.
type SetKind uint8

const (
	// Addresses are single addresses.
	Addresses SetKind = iota
	// Networks are prefixes. An address is a member if the longest prefix that contains it
	// is not an Except.
	Networks
	// AddressPorts are addresses with a protocol and a port.
	AddressPorts
)

// Set is a named group of addresses of both IP families.
type Set struct {
	ID   SetID
	Kind SetKind
	// Description says in words what the set stands for, such as "pods app=web in namespace prod".
	Description string
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
	// Except marks a prefix of a set of Networks whose addresses are no members. It lies
	// strictly inside exactly one other element, and nothing lies inside it.
	Except bool
}

// AddressElement is the element of one address.
func AddressElement(a netip.Addr) Element {
	return Element{Prefix: netip.PrefixFrom(a, a.BitLen())}
}

// Compare orders elements by address, prefix length, protocol, port and Except, so that a
// network comes before its exceptions.
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
	if c := int(e.Port) - int(o.Port); c != 0 {
		return c
	}
	switch {
	case e.Except == o.Except:
		return 0
	case o.Except:
		return -1
	default:
		return 1
	}
}

// HasExcept reports whether some element is an Except.
func (s *Set) HasExcept() bool {
	return s.Kind == Networks && slices.ContainsFunc(s.Elements, func(e Element) bool { return e.Except })
}
