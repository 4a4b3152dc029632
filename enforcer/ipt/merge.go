package ipt

import (
	"net/netip"
	"slices"

	"github.com/tierwall/tierwall/enforcer/run"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/eval"
)

const (
	// maxWalk is the number of rules that one rule may become before it is merged.
	maxWalk = 4
	// maxExpand is the number of ports up to which a range becomes an element for each;
	// a larger one has a set of its peers.
	maxExpand = 64
)

// maxMerged is the number of elements that one peer of a rule may bring to the merged
// sets; a larger one is looked up by itself, and so is kept once for all classes. Tests make it small.
var maxMerged = 2048

// merges says whether the run is merged: several rules are, which by lookups costs no packet more than a
// walk does, so that a policy that comes or goes changes elements alone; and one rule of many peers and ports. It
// follows from the rules alone, not from members.
func merges(u run.Run) bool {
	n := 0
	for _, r := range u.Rules {
		peers := len(r.Peers)
		if r.AnyPeer {
			peers = 1
		}
		if n += peers * width(r); n > maxWalk || n > 1 && len(u.Rules) > 1 {
			return true
		}
	}
	return false
}

// width is the number of rules that the ports of a rule become.
func width(r policy.Rule) int {
	if r.AnyPort {
		return 1
	}
	return len(spanMatches(spans(r.Ports))) + len(run.Named(r.Ports))
}

// merged is a run of many rules as a few lookups, in a family.
type merged struct {
	// always says that a rule matches everything.
	always bool
	// anyPeer are the ports that are open to all.
	anyPeer []run.Span
	// peers have all ports, ports one port at a time, spans a range or a protocol.
	peers, ports []policy.Element
	spans        map[run.Span][]policy.Element
	// hasPeers and hasPorts say which lookups there are, whatever their members at the moment.
	hasPeers, hasPorts bool
	// rest are the terms that are not merged.
	rest []run.Term
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
	ports map[run.Span]bool
}

func newPart(prefixes []netip.Prefix, ports map[run.Span]bool) *part {
	slices.SortFunc(prefixes, comparePrefix)
	return &part{slices.Compact(prefixes), ports}
}

// of is the part in a family.
func (o *part) of(f Family) *part {
	if o == nil {
		return nil
	}
	return &part{slices.DeleteFunc(slices.Clone(o.prefixes), func(p netip.Prefix) bool { return !f.has(p.Addr()) }), o.ports}
}

// has says whether elements with the port are in the part.
func (o *part) has(p policy.Protocol, port uint16) bool {
	return o == nil || o.ports == nil || o.ports[run.Span{Protocol: p, First: port, Last: port}]
}

func merge(p *policy.Program, f Family, u run.Run, only *part) merged {
	m := merger{program: p, family: f, only: only.of(f), merged: merged{spans: map[run.Span][]policy.Element{}}}
	for _, t := range u.Terms() {
		if !mergeable(p, t) {
			m.rest = append(m.rest, t)
			continue
		}
		m.add(t)
	}
	m.anyPeer = run.Disjoint(m.anyPeer)
	return m.merged
}

// mergeable says whether a term is merged, or looked up by itself: what it stands for may be
// too many, or is not there.
func mergeable(p *policy.Program, t run.Term) bool {
	size := 0
	for _, port := range run.Named(t.Rule.Ports) {
		s := p.Sets[port.Named]
		if s == nil || s.Kind != policy.AddressPorts {
			return false
		}
		size += len(s.Elements)
	}
	if t.AnyPeer {
		return size <= maxMerged
	}
	s := p.Sets[t.Peer]
	if s == nil || s.Kind == policy.AddressPorts || s.HasExcept() {
		return false // an exception would apply to the other sets that are merged
	}
	each := 0
	if t.Rule.AnyPort {
		each = 1
	}
	for _, span := range spans(t.Rule.Ports) {
		if each++; expands(span) {
			each += span.Size() - 1
		}
	}
	return size+each*len(s.Elements) <= maxMerged
}

func expands(s run.Span) bool { return s.Protocol.HasPorts() && s.Size() <= maxExpand }

// sameTerms says whether the same terms of a class are merged by two programs.
func sameTerms(c *policy.Class, a, b *policy.Program) bool {
	for _, t := range c.Tiers {
		for _, u := range run.Of(t.Rules) {
			if merges(u) && slices.ContainsFunc(u.Terms(), func(t run.Term) bool { return mergeable(a, t) != mergeable(b, t) }) {
				return false
			}
		}
	}
	return true
}

func (m *merger) add(t run.Term) {
	m.named(t)
	ports := spans(t.Rule.Ports)
	switch {
	case t.AnyPeer && t.Rule.AnyPort:
		m.always = true
	case t.AnyPeer:
		m.anyPeer = append(m.anyPeer, ports...)
	case t.Rule.AnyPort:
		m.hasPeers = true
		m.peers = append(m.peers, m.elements(t.Peer)...)
	default:
		m.addSpans(t.Peer, ports)
	}
}

func (m *merger) addSpans(peers policy.SetID, spans []run.Span) {
	for _, s := range spans {
		if !expands(s) {
			m.spans[s] = append(m.spans[s], m.elements(peers)...)
			continue
		}
		m.hasPorts = true
		for port := int(s.First); port <= int(s.Last); port++ {
			if m.only.has(s.Protocol, uint16(port)) {
				m.addPort(peers, s.Protocol, uint16(port))
			}
		}
	}
}

func (m *merger) addPort(peers policy.SetID, p policy.Protocol, port uint16) {
	for _, e := range m.elements(peers) {
		m.ports = append(m.ports, policy.Element{Prefix: e.Prefix, Protocol: p, Port: port})
	}
}

// named adds the named ports of a term: those of the peers that it is about.
func (m *merger) named(t run.Term) {
	for _, port := range run.Named(t.Rule.Ports) {
		m.hasPorts = true
		for _, e := range m.elements(port.Named) {
			if e.Protocol == port.Protocol && (t.AnyPeer || eval.Contains(m.program.Sets[t.Peer], e.Prefix.Addr())) {
				m.ports = append(m.ports, e)
			}
		}
	}
}

// elements are those of a set that are looked at.
func (m *merger) elements(id policy.SetID) []policy.Element {
	all := m.program.Sets[id].Elements
	if m.only == nil {
		return ofFamily(m.family, all)
	}
	return ofFamily(m.family, among(all, m.only.prefixes))
}

// among are the elements whose prefixes are in a list; both are sorted.
func among(all []policy.Element, prefixes []netip.Prefix) []policy.Element {
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

// differing is the part that terms stand for which only one of two classes has, for one of the
// old program that one of the next follows: what their own sets have besides is the same. It is
// everything (nil) where a run is merged in one of them alone.
func differing(old, next *policy.Program, a, b *policy.Class) *part {
	var prefixes []netip.Prefix
	ports := map[run.Span]bool{}
	for i := range a.Tiers {
		x, y := run.Of(a.Tiers[i].Rules), run.Of(b.Tiers[i].Rules)
		if len(x)+len(y) == 0 {
			continue
		}
		if len(x) != 1 || len(y) != 1 || merges(x[0]) != merges(y[0]) {
			return nil
		}
		for _, t := range oneSided(x[0].Terms(), y[0].Terms()) {
			if t.AnyPeer && t.Rule.AnyPort {
				return nil // with it, nothing else is looked up
			}
			if len(run.Named(t.Rule.Ports)) > 0 {
				ports = nil
			}
			prefixes = append(append(prefixes, prefixesOf(old, t)...), prefixesOf(next, t)...)
			addPorts(ports, spans(t.Rule.Ports))
		}
	}
	return newPart(prefixes, ports)
}

// addPorts adds the ports of spans that are expanded, unless it is all ports already.
func addPorts(to map[run.Span]bool, spans []run.Span) {
	for _, s := range spans {
		for port := int(s.First); to != nil && expands(s) && port <= int(s.Last); port++ {
			to[run.Span{Protocol: s.Protocol, First: uint16(port), Last: uint16(port)}] = true
		}
	}
}

// oneSided are the terms that are not in both lists, or not as often.
func oneSided(a, b []run.Term) []run.Term {
	count := map[string]int{}
	for _, t := range a {
		count[t.Key()]++
	}
	for _, t := range b {
		count[t.Key()]--
	}
	return slices.DeleteFunc(slices.Concat(a, b), func(t run.Term) bool { return count[t.Key()] == 0 })
}

// prefixesOf are all that a term may stand for.
func prefixesOf(p *policy.Program, t run.Term) []netip.Prefix {
	ids := []policy.SetID{t.Peer}
	for _, port := range run.Named(t.Rule.Ports) {
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
