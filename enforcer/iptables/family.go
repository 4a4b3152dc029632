package iptables

import (
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/tierwall/tierwall/policy"
)

// Family is an IP family, by its version number.
type Family uint8

// The IP families; iptables and ipset keep them apart.
const (
	IPv4 Family = 4
	IPv6 Family = 6
)

var families = [...]Family{IPv4, IPv6}

func (f Family) String() string {
	if f == IPv6 {
		return "IPv6"
	}
	return "IPv4"
}

// hasAddress reports whether an address is of the family.
func (f Family) hasAddress(a netip.Addr) bool { return a.Is4() == (f == IPv4) }

// allAddresses is the prefix of every address of the family.
func (f Family) allAddresses() netip.Prefix {
	if f == IPv6 {
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
}

// ipsetName is the family's name in ipset.
func (f Family) ipsetName() string {
	if f == IPv6 {
		return "inet6"
	}
	return "inet"
}

// kernelNumber is the family's in the kernel.
func (f Family) kernelNumber() byte {
	if f == IPv6 {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

// isUsedBy reports whether any endpoint has an address of the family.
func (f Family) isUsedBy(p *policy.Program) bool {
	return slices.ContainsFunc(p.Endpoints, func(e policy.Endpoint) bool { return slices.ContainsFunc(e.Addrs, f.hasAddress) })
}
