package ipt

import (
	"net/netip"
	"slices"

	"github.com/tierwall/tierwall/policy"
)

// gradual says whether the kernel can go from one program to another by adding
// elements to sets, switching the chains, and removing elements, without a
// moment in which a flow that both programs deny is allowed, or the other way
// round. Where it cannot, sets are made anew and the chains switch to them.
//
// It may, if nothing that is added can be used together with something that is
// removed later: with additions alone, or removals alone, the verdicts move in
// one direction, because sets only ever allow. Where both occur, each direction
// of a flow still is the one or the other; only a flow judged in both
// directions here, or by a named port, could have one half of each.
func gradual(old, next *policy.Program) bool {
	c := compareSets(old, next)
	if len(c.added)+len(c.removed) == 0 {
		return true
	}
	arrived, departed, steady := compareEndpoints(old, next)
	switch {
	case !steady || !sameFrame(old, next):
		return false
	case c.negative:
		return len(c.added)+len(c.removed) == 1 && !arrived && !departed
	case len(c.removed) == 0:
		return !departed
	case len(c.added) == 0:
		return !arrived
	default:
		return !arrived && !departed && !c.touchesEndpoint(old)
	}
}

// setChanges are the elements that sets of both programs gain and lose.
type setChanges struct {
	added, removed []policy.Element
	// negative says that one of the sets is used by a rule that denies or passes.
	negative bool
}

func compareSets(old, next *policy.Program) setChanges {
	var c setChanges
	negative := negativeSets(old)
	for id := range negativeSets(next) {
		negative[id] = true
	}
	for id, s := range next.Sets {
		before, ok := old.Sets[id]
		if !ok || before == s || before.Kind != s.Kind || slices.Equal(before.Elements, s.Elements) {
			continue
		}
		added, removed := changes(before.Elements, s.Elements)
		c.added, c.removed = append(c.added, added...), append(c.removed, removed...)
		c.negative = c.negative || negative[id]
	}
	return c
}

// negativeSets are the sets that rules which deny or pass refer to.
func negativeSets(p *policy.Program) map[policy.SetID]bool {
	out := map[policy.SetID]bool{}
	for _, classes := range p.Classes {
		for _, class := range classes {
			for _, tier := range class.Tiers {
				for _, rule := range tier.Rules {
					if rule.Verdict != policy.Allow {
						addSets(out, rule)
					}
				}
			}
		}
	}
	return out
}

func addSets(out map[policy.SetID]bool, rule policy.Rule) {
	for _, id := range rule.Peers {
		out[id] = true
	}
	for _, port := range rule.Ports {
		if port.Named != "" {
			out[port.Named] = true
		}
	}
}

// touchesEndpoint says whether a change is about an endpoint's address, a
// network or a named port, rather than about single addresses elsewhere.
func (c setChanges) touchesEndpoint(p *policy.Program) bool {
	endpoints := byAddr(p)
	for _, e := range slices.Concat(c.added, c.removed) {
		if _, ours := endpoints[e.Prefix.Addr()]; ours || !e.Prefix.IsSingleIP() || e.Protocol != 0 {
			return true
		}
	}
	return false
}

// compareEndpoints says whether addresses of endpoints came or went, and
// whether all is steady besides: what stays keeps its class, and where
// something came or went an address without an endpoint is denied.
func compareEndpoints(old, next *policy.Program) (arrived, departed, steady bool) {
	before, after := byAddr(old), byAddr(next)
	steady = true
	for a, e := range after {
		was, ok := before[a]
		arrived = arrived || !ok
		steady = steady && (ok && was.Class == e.Class || !ok && denied(next, a))
	}
	for a := range before {
		_, ok := after[a]
		departed = departed || !ok
		steady = steady && (ok || denied(next, a))
	}
	return arrived, departed, steady
}

func byAddr(p *policy.Program) map[netip.Addr]policy.Endpoint {
	out := map[netip.Addr]policy.Endpoint{}
	for _, e := range p.Endpoints {
		for _, a := range e.Addrs {
			out[a] = e
		}
	}
	return out
}

// denied says whether an address would be denied if it had no endpoint.
func denied(p *policy.Program, a netip.Addr) bool {
	host := slices.ContainsFunc(p.Hosts, func(h policy.Host) bool { return slices.Contains(h.Addrs, a) })
	return p.Unknown != policy.Allow && within(p.Local, a) && !host
}

// sameFrame says whether all but endpoints, classes and sets is equal.
func sameFrame(a, b *policy.Program) bool {
	return a.Unknown == b.Unknown && slices.Equal(a.Local, b.Local) &&
		slices.EqualFunc(a.Hosts, b.Hosts, func(x, y policy.Host) bool {
			return x.Name == y.Name && slices.Equal(x.Addrs, y.Addrs)
		})
}
