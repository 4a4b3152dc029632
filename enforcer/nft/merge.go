package nft

import (
	"github.com/tierwall/tierwall/enforcer/diff"
	"github.com/tierwall/tierwall/enforcer/run"
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

// merges says whether a run is merged. It follows from the rules alone, not from members.
func merges(u run.Run) bool {
	n := 0
	for _, t := range u.Terms() {
		if n += width(t); n > maxWalk {
			return true
		}
	}
	return false
}

// width is the number of rules that a term becomes by itself.
func width(t run.Term) int {
	if t.Rule.AnyPort {
		return 1
	}
	return len(spanMatches(run.Spans(t.Rule.Ports))) + len(run.Named(t.Rule.Ports))
}

// merged is a run of many rules as a few lookups, in the family f.
type merged struct {
	// always says that a rule matches everything.
	always bool
	// anyPeer are the ports that are open to all, and namedAny the named ones.
	anyPeer []run.Span
	// peers have all ports, peerPorts one port at a time.
	peers     map[policy.Element]bool
	peerPorts map[policy.Element]bool
	// networks have all ports, areas some.
	networks []block
	areas    []area
	// has says which lookups there are, whatever their members at the moment.
	hasPeers, hasPeerPorts bool
	// rest are the terms that are not merged.
	rest []run.Term
}

// merge merges a run.
func merge(p *policy.Program, f family, u run.Run) merged {
	m := merged{peers: map[policy.Element]bool{}, peerPorts: map[policy.Element]bool{}}
	for _, t := range u.Terms() {
		if !m.add(p, f, t) {
			m.rest = append(m.rest, t)
		}
	}
	m.anyPeer, m.networks, m.areas = run.Disjoint(m.anyPeer), union(m.networks), disjointAreas(m.areas)
	return m
}

// add merges a term, and says whether it could. What goes by a name is looked up by itself
// unless it is one port of a few pods.
func (m *merged) add(p *policy.Program, f family, t run.Term) bool {
	if t.AnyPeer && t.Rule.AnyPort {
		m.always = true
		return true
	}
	if t.AnyPeer {
		if len(run.Named(t.Rule.Ports)) > 0 {
			return m.addNamed(p, f, t, nil)
		}
		m.anyPeer = append(m.anyPeer, run.Spans(t.Rule.Ports)...)
		return true
	}
	s := p.Sets[t.Peer]
	if s == nil || s.Kind == policy.AddressPorts || len(s.Elements)*max(1, len(t.Rule.Ports)) > maxMerged {
		return false
	}
	if len(run.Named(t.Rule.Ports)) > 0 {
		return m.addNamed(p, f, t, s)
	}
	return m.addPeers(f, t, s, run.Spans(t.Rule.Ports))
}

func (m *merged) addPeers(f family, t run.Term, s *policy.Set, ports []run.Span) bool {
	if s.Kind == policy.Networks && !t.Rule.AnyPort && len(m.areas)+len(s.Elements) > maxAreas {
		return false
	}
	if s.Kind != policy.Networks {
		var ranges []run.Span
		for _, port := range ports {
			if !single(port) {
				ranges = append(ranges, port)
			}
		}
		if len(ranges) > 0 && len(m.areas)+len(s.Elements) > maxAreas {
			return false
		}
		m.hasPeers = m.hasPeers || t.Rule.AnyPort
		m.hasPeerPorts = m.hasPeerPorts || len(ports) > len(ranges)
	}
	if s.Kind == policy.Networks {
		m.addNetworks(blocksOf(f, s.Elements), t.Rule.AnyPort, ports)
		return true
	}
	for _, e := range s.Elements {
		if f.has(e.Prefix.Addr()) {
			m.addPeer(t.Rule.AnyPort, e, ports)
		}
	}
	return true
}

// addNetworks adds networks with a rule's ports.
func (m *merged) addNetworks(blocks []block, anyPort bool, ports []run.Span) {
	if anyPort {
		m.networks = append(m.networks, blocks...)
		return
	}
	for _, b := range blocks {
		if len(ports) > 0 {
			m.areas = append(m.areas, area{b, ports})
		}
	}
}

// addPeer adds a member of a set of addresses with a rule's ports.
func (m *merged) addPeer(anyPort bool, e policy.Element, ports []run.Span) {
	if anyPort {
		m.peers[e] = true
		return
	}
	var ranges []run.Span
	for _, s := range ports {
		if !single(s) {
			ranges = append(ranges, s)
			continue
		}
		e.Protocol, e.Port = s.Protocol, s.First
		m.peerPorts[e] = true
	}
	if len(ranges) > 0 {
		m.areas = append(m.areas, area{blockOf(e.Prefix), ranges})
	}
}

// addNamed adds the named ports of a term whose peer is anybody or in a set. Its
// other ports are added as well, or, when it is not merged, left with it.
func (m *merged) addNamed(p *policy.Program, f family, t run.Term, peers *policy.Set) bool {
	size := 0
	for _, port := range run.Named(t.Rule.Ports) {
		s := p.Sets[port.Named]
		if s == nil || s.Kind != policy.AddressPorts {
			return false
		}
		size += len(s.Elements)
	}
	if size > maxMerged {
		return false
	}
	others := run.Spans(t.Rule.Ports)
	if peers == nil {
		m.anyPeer = append(m.anyPeer, others...)
	} else if len(others) > 0 && !m.addPeers(f, t, peers, others) {
		return false
	}
	m.hasPeerPorts = true
	for _, port := range run.Named(t.Rule.Ports) {
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
		for _, u := range run.Of(t.Rules) {
			if !merges(u) {
				continue
			}
			for _, r := range u.Rules {
				out = append(out, diff.SetsOf(r)...)
			}
		}
	}
	return out
}
