package nft

import (
	"slices"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/eval"
)

const (
	// maxWalk is the number of rules that a run may become before it is merged.
	maxWalk = 4
	// maxMerged is the number of elements that one set of a run may bring to the
	// merged sets; a larger one is looked up by itself, and so is kept once for
	// all classes.
	maxMerged = 2048
	// maxAreas is the number of areas that a run may bring to a merged set of ranges.
	maxAreas = 4096
)

// run is consecutive rules of a tier with one verdict: their order means nothing.
type run struct {
	verdict policy.Verdict
	rules   []policy.Rule
}

func runsOf(rules []policy.Rule) []run {
	var out []run
	for i, r := range rules {
		if i == 0 || r.Verdict != rules[i-1].Verdict {
			out = append(out, run{verdict: r.Verdict})
		}
		out[len(out)-1].rules = append(out[len(out)-1].rules, r)
	}
	return out
}

// term is a rule with one of its peers: any of a rule's terms matches what the rule matches.
type term struct {
	rule *policy.Rule
	// anyPeer, or the set that the peer is in.
	anyPeer bool
	peer    policy.SetID
}

func (u run) terms() []term {
	var out []term
	for i := range u.rules {
		r := &u.rules[i]
		if r.AnyPeer {
			out = append(out, term{rule: r, anyPeer: true})
			continue
		}
		for _, id := range r.Peers {
			out = append(out, term{rule: r, peer: id})
		}
	}
	return out
}

// merges says whether the run is merged. It follows from the rules alone, not from members.
func (u run) merges() bool {
	n := 0
	for _, t := range u.terms() {
		if n += t.width(); n > maxWalk {
			return true
		}
	}
	return false
}

// width is the number of rules that the term becomes by itself.
func (t term) width() int {
	if t.rule.AnyPort {
		return 1
	}
	return len(spanMatches(spans(t.rule.Ports))) + len(named(t.rule.Ports))
}

// merged is a run of many rules as a few lookups, in the family f.
type merged struct {
	// always says that a rule matches everything.
	always bool
	// anyPeer are the ports that are open to all, and namedAny the named ones.
	anyPeer []span
	// peers have all ports, peerPorts one port at a time.
	peers     map[policy.Element]bool
	peerPorts map[policy.Element]bool
	// networks have all ports, areas some.
	networks []block
	areas    []area
	// has says which lookups there are, whatever their members at the moment.
	hasPeers, hasPeerPorts bool
	// rest are the terms that are not merged.
	rest []term
}

// merge merges a run.
func merge(p *policy.Program, f family, u run) merged {
	m := merged{peers: map[policy.Element]bool{}, peerPorts: map[policy.Element]bool{}}
	for _, t := range u.terms() {
		if !m.add(p, f, t) {
			m.rest = append(m.rest, t)
		}
	}
	m.anyPeer, m.networks, m.areas = disjoint(m.anyPeer), union(m.networks), disjointAreas(m.areas)
	return m
}

// add merges a term, and says whether it could. What goes by a name is looked up by itself
// unless it is one port of a few pods.
func (m *merged) add(p *policy.Program, f family, t term) bool {
	if t.anyPeer && t.rule.AnyPort {
		m.always = true
		return true
	}
	if t.anyPeer {
		if len(named(t.rule.Ports)) > 0 {
			return m.addNamed(p, f, t, nil)
		}
		m.anyPeer = append(m.anyPeer, spans(t.rule.Ports)...)
		return true
	}
	s := p.Sets[t.peer]
	if s == nil || s.Kind == policy.AddressPorts || len(s.Elements)*max(1, len(t.rule.Ports)) > maxMerged {
		return false
	}
	if len(named(t.rule.Ports)) > 0 {
		return m.addNamed(p, f, t, s)
	}
	return m.addPeers(f, t, s, spans(t.rule.Ports))
}

func (m *merged) addPeers(f family, t term, s *policy.Set, ports []span) bool {
	if s.Kind == policy.Networks && !t.rule.AnyPort && len(m.areas)+len(s.Elements) > maxAreas {
		return false
	}
	if s.Kind != policy.Networks {
		var ranges []span
		for _, port := range ports {
			if !port.single() {
				ranges = append(ranges, port)
			}
		}
		if len(ranges) > 0 && len(m.areas)+len(s.Elements) > maxAreas {
			return false
		}
		m.hasPeers = m.hasPeers || t.rule.AnyPort
		m.hasPeerPorts = m.hasPeerPorts || len(ports) > len(ranges)
	}
	for _, e := range s.Elements {
		if f.has(e.Prefix.Addr()) {
			m.addPeer(s.Kind, t.rule.AnyPort, e, ports)
		}
	}
	return true
}

// addPeer adds a member of a set of peers with a rule's ports.
func (m *merged) addPeer(kind policy.SetKind, anyPort bool, e policy.Element, ports []span) {
	switch {
	case kind == policy.Networks && anyPort:
		m.networks = append(m.networks, blockOf(e.Prefix))
		return
	case kind == policy.Networks:
		if len(ports) > 0 {
			m.areas = append(m.areas, area{blockOf(e.Prefix), ports})
		}
		return
	case anyPort:
		m.peers[e] = true
		return
	}
	var ranges []span
	for _, s := range ports {
		if !s.single() {
			ranges = append(ranges, s)
			continue
		}
		e.Protocol, e.Port = s.protocol, s.first
		m.peerPorts[e] = true
	}
	if len(ranges) > 0 {
		m.areas = append(m.areas, area{blockOf(e.Prefix), ranges})
	}
}

// addNamed adds the named ports of a term whose peer is anybody or in a set. Its
// other ports are added as well, or, when it is not merged, left with it.
func (m *merged) addNamed(p *policy.Program, f family, t term, peers *policy.Set) bool {
	size := 0
	for _, port := range named(t.rule.Ports) {
		s := p.Sets[port.Named]
		if s == nil || s.Kind != policy.AddressPorts {
			return false
		}
		size += len(s.Elements)
	}
	if size > maxMerged {
		return false
	}
	others := spans(t.rule.Ports)
	if peers == nil {
		m.anyPeer = append(m.anyPeer, others...)
	} else if len(others) > 0 && !m.addPeers(f, t, peers, others) {
		return false
	}
	m.hasPeerPorts = true
	for _, port := range named(t.rule.Ports) {
		for _, e := range p.Sets[port.Named].Elements {
			if f.has(e.Prefix.Addr()) && e.Protocol == port.Protocol && (peers == nil || eval.Contains(peers, e.Prefix.Addr())) {
				m.peerPorts[policy.Element{Prefix: e.Prefix, Protocol: e.Protocol, Port: e.Port}] = true
			}
		}
	}
	return true
}

// mergedSets are the sets whose members decide what the merged sets of a class hold.
func mergedSets(c *policy.Class) []policy.SetID {
	var out []policy.SetID
	for _, t := range c.Tiers {
		for _, u := range runsOf(t.Rules) {
			if !u.merges() {
				continue
			}
			for _, r := range u.rules {
				out = append(out, setsOf(r)...)
			}
		}
	}
	return out
}

// setsOf are the sets that a rule refers to.
func setsOf(r policy.Rule) []policy.SetID {
	out := slices.Clone(r.Peers)
	for _, port := range named(r.Ports) {
		out = append(out, port.Named)
	}
	return out
}
