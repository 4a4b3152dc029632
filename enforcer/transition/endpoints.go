package transition

import (
	"net/netip"
	"slices"

	"github.com/tierwall/tierwall/policy"
)

// Endpoints is what becomes of the addresses of endpoints.
type Endpoints struct {
	// Reclassified says in which direction some address that stays changes its class.
	Reclassified [2]bool
	// Arrived and Departed say that addresses of endpoints came and went; Unsteady, that one
	// did so where an address without an endpoint is not denied.
	Arrived, Departed, Unsteady bool
}

// Any reports whether anything becomes of them.
func (e Endpoints) Any() bool {
	return e.Arrived || e.Departed || e.Reclassified[policy.Ingress] || e.Reclassified[policy.Egress]
}

// OneLookup reports whether no flow finds its classes by two lookups that change.
func (e Endpoints) OneLookup() bool {
	kinds := 0
	for _, is := range []bool{e.Arrived, e.Departed, e.Reclassified[policy.Ingress], e.Reclassified[policy.Egress]} {
		if is {
			kinds++
		}
	}
	return kinds <= 1 && !e.Unsteady
}

// EndpointsOf looks at the endpoints that a change is about.
func EndpointsOf(old, next *policy.Program, c *policy.Change) Endpoints {
	var out Endpoints
	before, after := ClassesOf(old, c), ClassesOf(next, c)
	for a, e := range after {
		was, ok := before[a]
		for _, d := range policy.Directions {
			out.Reclassified[d] = out.Reclassified[d] || ok && was[d] != e[d]
		}
		out.Arrived = out.Arrived || !ok
		out.Unsteady = out.Unsteady || !ok && !unknownDenied(old, a)
	}
	for a := range before {
		if _, ok := after[a]; !ok {
			out.Departed = true
			out.Unsteady = out.Unsteady || !unknownDenied(next, a)
		}
	}
	return out
}

// ClassesOf are the classes that a program has for the addresses of the endpoints that a change is about.
func ClassesOf(p *policy.Program, c *policy.Change) map[netip.Addr][2]policy.ClassID {
	keys := map[string]bool{}
	for _, key := range c.EndpointsGone {
		keys[key] = true
	}
	for _, e := range c.Endpoints {
		keys[e.Key()] = true
	}
	out := map[netip.Addr][2]policy.ClassID{}
	if len(keys) == 0 {
		return out
	}
	for _, e := range p.Endpoints {
		if keys[e.Key()] {
			for _, a := range e.Addrs {
				out[a] = e.Class
			}
		}
	}
	return out
}

// unknownDenied reports whether an address would be denied if it had no endpoint.
func unknownDenied(p *policy.Program, a netip.Addr) bool {
	host := slices.ContainsFunc(p.Hosts, func(h policy.Host) bool { return slices.Contains(h.Addrs, a) })
	local := slices.ContainsFunc(p.Local, func(l netip.Prefix) bool { return l.Contains(a) })
	return p.Unknown == policy.Deny && local && !host
}
