package nftables

import (
	"net/netip"
	"slices"

	"github.com/tierwall/tierwall/policy"
)

// family is an IP family, by its version number. One table holds both.
type family uint8

const (
	ipv4 family = 4
	ipv6 family = 6
)

// hasAddress reports whether an address is of the family.
func (f family) hasAddress(a netip.Addr) bool { return a.Is4() == (f == ipv4) }

// headerName is the family's name in expressions, such as the ip of "ip saddr".
func (f family) headerName() string {
	if f == ipv6 {
		return "ip6"
	}
	return "ip"
}

// addressType is the nftables type of the family's addresses.
func (f family) addressType() string {
	if f == ipv6 {
		return "ipv6_addr"
	}
	return "ipv4_addr"
}

// ownField is the address that a direction is judged for, peer that of the other side.
func (f family) ownField(d policy.Direction) field { return addressField(f, d == policy.Egress) }

func (f family) peerField(d policy.Direction) field { return addressField(f, d == policy.Ingress) }

// familiesOf are the families that a program has endpoints or local networks of.
func familiesOf(p *policy.Program) []family {
	var out []family
	for _, f := range []family{ipv4, ipv6} {
		local := slices.ContainsFunc(p.Local, func(l netip.Prefix) bool { return f.hasAddress(l.Addr()) })
		if local || slices.ContainsFunc(p.Endpoints, func(e policy.Endpoint) bool { return slices.ContainsFunc(e.Addrs, f.hasAddress) }) {
			out = append(out, f)
		}
	}
	return out
}

// familyMatch matches packets of the family.
func (f family) familyMatch() words {
	if f == ipv6 {
		return "meta nfproto ipv6"
	}
	return "meta nfproto ipv4"
}
