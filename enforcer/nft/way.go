package nft

import (
	"net/netip"
	"slices"

	"github.com/tierwall/tierwall/policy"
)

// way is how the kernel goes from one program to another.
type way uint8

const (
	// beside makes what changes anew under other names, and the rules switch to it.
	beside way = iota
	// inPlace changes the elements of sets and maps in one transaction.
	inPlace
	// inTurn adds elements in one transaction and removes others in the next.
	inTurn
)

// wayOf decides how to go from one program to another. A packet sees the rules as
// they were when it came, but looks into each set at the moment when it gets
// there: a transaction is a moment between two of its lookups. So elements
// may change in place only if a packet that meets old ones before and new ones after
// gets the verdict that one of the two programs gives.
//
// That is so where one lookup alone is concerned, or where all changes go in one
// direction: to allow more, or to allow less. Where sets gain and lose members
// that are judged in one direction only, adding all before removing any
// keeps each lookup of that direction between the two.
func wayOf(old, next *policy.Program, c *policy.Change) way {
	m, e := memberChanges(old, next, c), endpointChanges(old, next, c)
	switch {
	case c.Frame != nil:
		return beside
	case !m.any():
		return inPlaceIf(e.oneLookup())
	case e.reclassified[policy.Ingress] || e.reclassified[policy.Egress] || e.unsteady:
		return beside
	case m.negative:
		return inPlaceIf(m.single && !e.any())
	case !m.removed:
		return inPlaceIf(!e.departed)
	case !m.added:
		return inPlaceIf(!e.arrived)
	case !e.any() && !m.touches(old):
		return inTurn
	default:
		return beside
	}
}

func inPlaceIf(ok bool) way {
	if ok {
		return inPlace
	}
	return beside
}

// setChanges are the members that sets of both programs gain and lose.
type setChanges struct {
	elements       []policy.Element
	added, removed bool
	// negative says that a rule which denies or passes uses one of the sets, single
	// that one member of one set changes, which no class uses twice.
	negative, single bool
}

func (m setChanges) any() bool { return m.added || m.removed }

func memberChanges(old, next *policy.Program, c *policy.Change) setChanges {
	var m setChanges
	changed := map[policy.SetID]bool{}
	for _, s := range c.Members {
		m.elements = append(append(m.elements, s.Added...), s.Removed...)
		m.added, m.removed = m.added || len(s.Added) > 0, m.removed || len(s.Removed) > 0
		changed[s.ID] = true
	}
	if !m.any() {
		return m
	}
	m.single = len(m.elements) == 1
	for _, p := range []*policy.Program{old, next} {
		for _, classes := range p.Classes {
			for _, class := range classes {
				m.usedBy(class, changed)
			}
		}
	}
	return m
}

// usedBy looks at how a class uses the sets.
func (m *setChanges) usedBy(c *policy.Class, changed map[policy.SetID]bool) {
	uses := 0
	for _, t := range c.Tiers {
		for _, r := range t.Rules {
			if slices.ContainsFunc(setsOf(r), func(id policy.SetID) bool { return changed[id] }) {
				uses++
				m.negative = m.negative || r.Verdict != policy.Allow
			}
		}
	}
	m.single = m.single && uses <= 1
}

// touches says whether a change is about an endpoint's address, a network or a
// named port, rather than about single addresses elsewhere.
func (m setChanges) touches(p *policy.Program) bool {
	own := map[netip.Addr]bool{}
	for _, e := range p.Endpoints {
		for _, a := range e.Addrs {
			own[a] = true
		}
	}
	return slices.ContainsFunc(m.elements, func(e policy.Element) bool {
		return own[e.Prefix.Addr()] || !e.Prefix.IsSingleIP() || e.Protocol != 0
	})
}

// dispatchChanges are what becomes of the addresses of endpoints.
type dispatchChanges struct {
	// reclassified says in which direction some address that stays changes its class.
	reclassified [2]bool
	// arrived and departed say that addresses of endpoints came and went; unsteady, that one did so
	// where an address without an endpoint is not denied.
	arrived, departed, unsteady bool
}

func (e dispatchChanges) any() bool {
	return e.arrived || e.departed || e.reclassified[policy.Ingress] || e.reclassified[policy.Egress]
}

// oneLookup says whether no flow is judged by two lookups that change.
func (e dispatchChanges) oneLookup() bool {
	kinds := 0
	for _, is := range []bool{e.arrived, e.departed, e.reclassified[policy.Ingress], e.reclassified[policy.Egress]} {
		if is {
			kinds++
		}
	}
	return kinds <= 1 && !e.unsteady
}

func endpointChanges(old, next *policy.Program, c *policy.Change) dispatchChanges {
	var out dispatchChanges
	before, after := changedEndpoints(old, c), changedEndpoints(next, c)
	for a, e := range after {
		was, ok := before[a]
		for _, d := range policy.Directions {
			out.reclassified[d] = out.reclassified[d] || ok && was[d] != e[d]
		}
		out.arrived = out.arrived || !ok
		out.unsteady = out.unsteady || !ok && !unknownDenied(old, a)
	}
	for a := range before {
		if _, ok := after[a]; !ok {
			out.departed = true
			out.unsteady = out.unsteady || !unknownDenied(next, a)
		}
	}
	return out
}

// changedEndpoints are the classes of the addresses of the endpoints that a change is about.
func changedEndpoints(p *policy.Program, c *policy.Change) map[netip.Addr][2]policy.ClassID {
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

// unknownDenied says whether an address would be denied if it had no endpoint.
func unknownDenied(p *policy.Program, a netip.Addr) bool {
	host := slices.ContainsFunc(p.Hosts, func(h policy.Host) bool { return slices.Contains(h.Addrs, a) })
	return p.Unknown != policy.Allow && within(p.Local, a) && !host
}
