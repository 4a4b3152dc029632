package nftables

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/tierwall/tierwall/enforcer/rulegroup"
	"github.com/tierwall/tierwall/policy"
)

// maxWork is how much arranging a run may cost, as a multiple of its size. What costs more is
// looked up rule by rule.
const maxWork = 8

// peerList holds the sets of which one has the peer, sorted and unique.
type peerList []policy.SetID

func newPeerList(ids ...policy.SetID) peerList {
	out := slices.Clone(ids)
	slices.Sort(out)
	return slices.Compact(out)
}

func (l peerList) joinIDs() string {
	var out strings.Builder
	for _, id := range l {
		out.Write(binary.AppendUvarint(nil, uint64(len(id))))
		out.WriteString(string(id))
	}
	return out.String()
}

// match is what one or more rules of a run match: any of the peers at any of the ports.
type match struct {
	anyPeer bool
	peers   peerList
	anyPort bool
	spans   []rulegroup.Span
	named   []policy.Port
}

// countTerms is what was written of the match.
func (m match) countTerms() int { return 1 + len(m.peers) + len(m.spans) + len(m.named) }

// portGroup is ports that are open to the same peers.
type portGroup struct {
	spans   []rulegroup.Span
	anyPeer bool
	peers   peerList
	// matches are those of the arrangement that open the ports.
	matches []int
}

// arrangement says how a run of many rules is looked up. It follows from the rules alone, not
// from the members of sets.
type arrangement struct {
	// always reports whether a rule matches everything.
	always bool
	// anyPort are the peers of all ports.
	anyPort peerList
	// matches are the rules that name ports, combined.
	matches []match
	// groups are the ports that lead to their peers by one lookup.
	groups []portGroup
	// pairs are looked up one by one: the ports, and then the peers.
	pairs []match
	// size is what was written.
	size int
}

// arrangeRun combines the rules of a run, and groups ports by who may use them. Its cost, and the number
// of groups, are linear in the size of the rules.
func arrangeRun(u rulegroup.Run) arrangement {
	var a arrangement
	var ported []match
	for _, m := range combineRules(u.Rules) {
		a.size += m.countTerms()
		switch {
		case m.anyPeer && m.anyPort:
			return arrangement{always: true}
		case m.anyPort:
			a.anyPort = append(a.anyPort, m.peers...)
		default:
			ported = append(ported, m)
		}
	}
	a.anyPort = newPeerList(a.anyPort...)
	for _, m := range combinePorts(ported) {
		whole, spans := splitWhole(m.spans)
		if len(whole) > 0 {
			a.pairs = append(a.pairs, match{anyPeer: m.anyPeer, peers: m.peers, spans: whole})
		}
		m.spans = spans
		if len(m.spans)+len(m.named) > 0 {
			a.matches = append(a.matches, m)
		}
	}
	a.groupPorts()
	return a
}

// combineRules combines rules that have the same peers.
func combineRules(rules []policy.Rule) []match {
	var out []match
	index := map[string]int{}
	for _, r := range rules {
		m := match{anyPeer: r.AnyPeer, anyPort: r.AnyPort}
		key := "any"
		if !r.AnyPeer {
			m.peers = newPeerList(r.Peers...)
			key = "of " + m.peers.joinIDs()
		}
		i, ok := index[key]
		if !ok {
			i = len(out)
			index[key], out = i, append(out, m)
		}
		out[i].anyPort = out[i].anyPort || r.AnyPort
		if !r.AnyPort {
			out[i].spans, out[i].named = append(out[i].spans, rulegroup.SpansOf(r.Ports)...), append(out[i].named, rulegroup.NamedPorts(r.Ports)...)
		}
	}
	for i := range out {
		out[i].spans, out[i].named = rulegroup.MergeSpans(out[i].spans), newNamed(out[i].named)
		if out[i].anyPort {
			out[i].spans, out[i].named = nil, nil
		}
	}
	return slices.DeleteFunc(out, func(m match) bool { return !m.anyPeer && len(m.peers) == 0 })
}

// newNamed sorts ports that go by name and leaves out copies.
func newNamed(in []policy.Port) []policy.Port {
	slices.SortFunc(in, func(a, b policy.Port) int {
		return cmp.Or(cmp.Compare(a.Named, b.Named), cmp.Compare(a.Protocol, b.Protocol))
	})
	return slices.CompactFunc(in, func(a, b policy.Port) bool { return a.Named == b.Named && a.Protocol == b.Protocol })
}

// combinePorts combines matches that have the same ports.
func combinePorts(in []match) []match {
	var out []match
	index := map[string]int{}
	for _, m := range in {
		key := spansKey(m.spans)
		for _, n := range m.named {
			key += "\x00" + string(n.Named) + "\x00" + string(rune(n.Protocol))
		}
		i, ok := index[key]
		if !ok {
			i = len(out)
			index[key], out = i, append(out, m)
			continue
		}
		out[i].anyPeer = out[i].anyPeer || m.anyPeer
		out[i].peers = append(out[i].peers, m.peers...)
	}
	for i := range out {
		out[i].peers = newPeerList(out[i].peers...)
		if out[i].anyPeer {
			out[i].peers = nil
		}
	}
	return out
}

func spansKey(spans []rulegroup.Span) string {
	out := make([]byte, 0, 5*len(spans))
	for _, s := range spans {
		out = append(out, byte(s.Protocol))
		out = binary.BigEndian.AppendUint16(out, s.First)
		out = binary.BigEndian.AppendUint16(out, s.Last)
	}
	return string(out)
}

// splitWhole splits spans into those of whole protocols and the others.
func splitWhole(in []rulegroup.Span) (whole, others []rulegroup.Span) {
	for _, s := range in {
		if s.IsWhole() {
			whole = append(whole, s)
		} else {
			others = append(others, s)
		}
	}
	return whole, others
}

// groupPorts groups the ports of the matches by which of them open a port. Where these overlap too much,
// they are looked up one by one.
func (a *arrangement) groupPorts() {
	work := maxWork * a.size
	groups, ok := groupPorts(a.matches, &work)
	if !ok {
		a.pairs = append(a.pairs, spanMatchesOf(a.matches)...)
		return
	}
	var failed []portGroup
	for _, g := range groups {
		var peers peerList
		for _, i := range g.matches {
			g.anyPeer = g.anyPeer || a.matches[i].anyPeer
			if work -= len(a.matches[i].peers); work >= 0 {
				peers = append(peers, a.matches[i].peers...)
			}
		}
		switch {
		case g.anyPeer:
			a.groups = append(a.groups, g)
		case work >= 0:
			g.peers = newPeerList(peers...)
			a.groups = append(a.groups, g)
		default:
			failed = append(failed, g)
		}
	}
	a.pairs = append(a.pairs, a.splitGroups(failed)...)
}

// splitGroups gives the ports of groups back to their matches, to be looked up one by one.
func (a *arrangement) splitGroups(groups []portGroup) []match {
	left := make([]match, len(a.matches))
	for _, g := range groups {
		for _, i := range g.matches {
			left[i] = match{anyPeer: a.matches[i].anyPeer, peers: a.matches[i].peers, spans: append(left[i].spans, g.spans...)}
		}
	}
	return spanMatchesOf(left)
}

// spanMatchesOf are the matches without ports that go by name.
func spanMatchesOf(in []match) []match {
	var out []match
	for _, m := range in {
		if len(m.spans) > 0 {
			out = append(out, match{anyPeer: m.anyPeer, peers: m.peers, spans: rulegroup.MergeSpans(m.spans)})
		}
	}
	return out
}

// portEdge is where a match begins or ends to open the ports of a protocol.
type portEdge struct {
	protocol policy.Protocol
	at       int
	match    int
}

// groupPorts cuts the ports of all matches into disjoint groups. It gives up when the work is used up.
func groupPorts(matches []match, work *int) ([]portGroup, bool) {
	var edges []portEdge
	for i, m := range matches {
		for _, s := range m.spans {
			edges = append(edges, portEdge{s.Protocol, int(s.First), i}, portEdge{s.Protocol, int(s.Last) + 1, i})
		}
	}
	slices.SortFunc(edges, func(a, b portEdge) int {
		return cmp.Or(cmp.Compare(a.protocol, b.protocol), cmp.Compare(a.at, b.at), cmp.Compare(a.match, b.match))
	})
	var out []portGroup
	index, open := map[string]int{}, []int(nil) // open is sorted
	for i, e := range edges {
		if n, found := slices.BinarySearch(open, e.match); found {
			open = slices.Delete(open, n, n+1)
		} else {
			open = slices.Insert(open, n, e.match)
		}
		if len(open) == 0 || edges[i+1].at == e.at {
			continue
		}
		if *work -= len(open); *work < 0 {
			return nil, false
		}
		key := make([]byte, 0, 4*len(open))
		for _, n := range open {
			key = binary.BigEndian.AppendUint32(key, uint32(n))
		}
		n, ok := index[string(key)]
		if !ok {
			n = len(out)
			index[string(key)], out = n, append(out, portGroup{matches: slices.Clone(open)})
		}
		out[n].spans = append(out[n].spans, rulegroup.Span{Protocol: e.protocol, First: uint16(e.at), Last: uint16(edges[i+1].at - 1)})
	}
	for i := range out {
		out[i].spans = rulegroup.MergeSpans(out[i].spans)
	}
	return out, true
}
