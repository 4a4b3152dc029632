package iptables

import (
	"net/netip"
	"slices"

	"github.com/tierwall/tierwall/enforcer/rulegroup"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/eval"
)

// canMerge reports whether a run is merged: several rules, or one rule of many peers and ports. Merged rules cost a
// packet no more lookups than rules one by one, and a new policy changes only elements. The answer depends on the
// rules alone, not on members.
func canMerge(u rulegroup.Run) bool {
	n := 0
	for _, r := range u.Rules {
		peers := len(r.Peers)
		if r.AnyPeer {
			peers = 1
		}
		if n += peers * newPortList(r.AnyPort, r.Ports).matches; n > limits.walk || n > 1 && len(u.Rules) > 1 {
			return true
		}
	}
	return false
}

// merged is a run of many rules as a few lookups, in a family.
type merged struct {
	// always says that a rule matches everything.
	always bool
	// anyPeer are the ports that are open to all.
	anyPeer []rulegroup.Span
	// peers have all ports, ports one port at a time, spans a range or a protocol.
	peers, ports []policy.Element
	spans        map[rulegroup.Span][]policy.Element
	// hasPeers and hasPorts say which lookups there are, whatever their members at the moment.
	hasPeers, hasPorts bool
}

// merger merges the terms of a run.
type merger struct {
	program *policy.Program
	family  Family
	// only is what is looked at; everything if nil.
	only *part
	merged
}

// part is a part of the elements of merged sets.
type part struct {
	// prefixes are theirs, sorted.
	prefixes []netip.Prefix
	// ports are those that have a port each; all if nil.
	ports map[rulegroup.Span]bool
}

func newPart(prefixes []netip.Prefix, ports map[rulegroup.Span]bool) *part {
	slices.SortFunc(prefixes, comparePrefix)
	return &part{slices.Compact(prefixes), ports}
}

// inFamily is the part in a family.
func (o *part) inFamily(f Family) *part {
	if o == nil {
		return nil
	}
	return &part{slices.DeleteFunc(slices.Clone(o.prefixes), func(p netip.Prefix) bool { return !f.hasAddress(p.Addr()) }), o.ports}
}

// hasPort reports whether elements with the port are in the part.
func (o *part) hasPort(p policy.Protocol, port uint16) bool {
	return o == nil || o.ports == nil || o.ports[rulegroup.Span{Protocol: p, First: port, Last: port}]
}

func mergeTerms(p *policy.Program, f Family, terms []term, only *part) merged {
	m := merger{program: p, family: f, only: only.inFamily(f), merged: merged{spans: map[rulegroup.Span][]policy.Element{}}}
	for _, t := range terms {
		m.addTerm(t)
	}
	m.anyPeer = rulegroup.MergeSpans(m.anyPeer)
	return m.merged
}

func canExpand(s rulegroup.Span) bool { return s.Protocol.HasPorts() && s.Size() <= limits.expand }

func (m *merger) addTerm(t term) {
	m.addNamedPorts(t)
	switch {
	case t.matchesAll():
		m.always = true
	case t.anyPeer:
		m.anyPeer = append(m.anyPeer, t.ports.spans...)
	case t.ports.anyPort:
		m.hasPeers = true
		m.peers = append(m.peers, m.setElements(t.peer)...)
	default:
		m.addSpans(t.peer, t.ports.spans)
	}
}

func (m *merger) addSpans(peers policy.SetID, spans []rulegroup.Span) {
	for _, s := range spans {
		if !canExpand(s) {
			m.spans[s] = append(m.spans[s], m.setElements(peers)...)
			continue
		}
		m.hasPorts = true
		for port := int(s.First); port <= int(s.Last); port++ {
			if m.only.hasPort(s.Protocol, uint16(port)) {
				m.addPort(peers, s.Protocol, uint16(port))
			}
		}
	}
}

func (m *merger) addPort(peers policy.SetID, p policy.Protocol, port uint16) {
	for _, e := range m.setElements(peers) {
		m.ports = append(m.ports, policy.Element{Prefix: e.Prefix, Protocol: p, Port: port})
	}
}

// addNamedPorts adds the named ports of a term: those of the peers that it is about.
func (m *merger) addNamedPorts(t term) {
	for _, port := range t.ports.named {
		m.hasPorts = true
		for _, e := range m.setElements(port.Named) {
			if e.Protocol == port.Protocol && (t.anyPeer || eval.Contains(m.program.Sets[t.peer], e.Prefix.Addr())) {
				m.ports = append(m.ports, e)
			}
		}
	}
}

// setElements are those of a set that are looked at.
func (m *merger) setElements(id policy.SetID) []policy.Element {
	all := m.program.Sets[id].Elements
	if m.only == nil {
		return ofFamily(m.family, all)
	}
	return ofFamily(m.family, elementsWithin(all, m.only.prefixes))
}

// elementsWithin are the elements whose prefixes are in a list; both are sorted.
func elementsWithin(all []policy.Element, prefixes []netip.Prefix) []policy.Element {
	var out []policy.Element
	walks := len(all) < 8*len(prefixes)
	for _, p := range prefixes {
		first := 0
		if walks {
			for first < len(all) && comparePrefix(all[first].Prefix, p) < 0 {
				first++
			}
		} else {
			first, _ = slices.BinarySearchFunc(all, policy.Element{Prefix: p}, policy.Element.Compare)
		}
		for all = all[first:]; len(all) > 0 && all[0].Prefix == p; all = all[1:] {
			out = append(out, all[0])
		}
		if len(all) == 0 {
			break
		}
	}
	return out
}

// changedPart is the part that terms stand for which are merged in only one of two classes, for one of the
// old program that one of the next follows: what their own sets have besides is the same. It is
// everything (nil) where a run is merged in one of them alone.
func changedPart(old, next *policy.Program, a, b *policy.Class) *part {
	reader := newTermReader()
	before, after := planMerge(old, a, reader), planMerge(next, b, reader)
	var prefixes []netip.Prefix
	ports := map[rulegroup.Span]bool{}
	for i := range a.Tiers {
		x, y := rulegroup.SplitRuns(a.Tiers[i].Rules), rulegroup.SplitRuns(b.Tiers[i].Rules)
		if len(x)+len(y) == 0 {
			continue
		}
		was, is := before[place{i, 0}], after[place{i, 0}]
		if len(x) != 1 || len(y) != 1 || (was == nil) != (is == nil) {
			return nil
		}
		if was == nil {
			continue
		}
		for _, t := range oneSided(was.merged, is.merged) {
			if t.matchesAll() {
				return nil // with it, nothing else is looked up
			}
			if len(t.ports.named) > 0 {
				ports = nil
			}
			prefixes = append(append(prefixes, prefixesOf(old, t)...), prefixesOf(next, t)...)
			addPorts(ports, t.ports.spans)
		}
	}
	return newPart(prefixes, ports)
}

// addPorts adds the ports of spans that are expanded, unless it is all ports already.
func addPorts(to map[rulegroup.Span]bool, spans []rulegroup.Span) {
	for _, s := range spans {
		for port := int(s.First); to != nil && canExpand(s) && port <= int(s.Last); port++ {
			to[rulegroup.Span{Protocol: s.Protocol, First: uint16(port), Last: uint16(port)}] = true
		}
	}
}

// oneSided are the terms that are not in both lists, each of which has a term once.
func oneSided(a, b []term) []term {
	count := make(map[term]int, len(a)+len(b))
	for _, t := range a {
		count[t]++
	}
	for _, t := range b {
		count[t]--
	}
	return slices.DeleteFunc(slices.Concat(a, b), func(t term) bool { return count[t] == 0 })
}

// prefixesOf are all that a term may stand for.
func prefixesOf(p *policy.Program, t term) []netip.Prefix {
	ids := []policy.SetID{t.peer}
	for _, port := range t.ports.named {
		ids = append(ids, port.Named)
	}
	var out []netip.Prefix
	for _, id := range ids {
		if s := p.Sets[id]; s != nil {
			for _, e := range s.Elements {
				out = append(out, e.Prefix)
			}
		}
	}
	return out
}
