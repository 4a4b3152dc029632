package iptables

import (
	"slices"
	"strings"

	"github.com/tierwall/tierwall/enforcer/rulegroup"
	"github.com/tierwall/tierwall/policy"
)

// group is terms that are looked up together: any of the peers with any of the ports.
type group struct {
	anyPeer bool
	peers   []policy.SetID
	lists   []*portList
	// origin is the rule that all of it comes from, or nil where there are several.
	origin *policy.Rule
}

// groupTerms groups terms by their ports, and then by their peers. Each term's ports and each
// term's peer are in one group, so groups have no more of both than the rules.
func groupTerms(r *runPlan) []*group {
	type key struct {
		anyPeer bool
		ports   *portList
	}
	byPorts := map[key]*group{}
	var order []*group
	for _, t := range r.rest {
		k := key{t.anyPeer, t.ports}
		g := byPorts[k]
		if g == nil {
			g = &group{anyPeer: t.anyPeer, lists: []*portList{t.ports}, origin: r.origin[t]}
			byPorts[k], order = g, append(order, g)
		}
		if !t.anyPeer {
			g.peers = append(g.peers, t.peer)
		}
		if g.origin != r.origin[t] {
			g.origin = nil
		}
	}
	return joinByPeers(order)
}

// joinByPeers joins groups of the same peers.
func joinByPeers(groups []*group) []*group {
	byPeers := map[string]*group{}
	var out []*group
	for _, g := range groups {
		slices.Sort(g.peers)
		var key strings.Builder
		for _, id := range g.peers {
			key.WriteString(string(id) + "\x00")
		}
		first := byPeers[key.String()]
		if first == nil {
			byPeers[key.String()] = g
			out = append(out, g)
			continue
		}
		first.lists = append(first.lists, g.lists...)
		if first.origin != g.origin {
			first.origin = nil
		}
	}
	return out
}

// asRule is the group as one rule.
func (g *group) asRule() policy.Rule {
	out := policy.Rule{AnyPeer: g.anyPeer, Peers: g.peers}
	if len(g.lists) == 1 {
		out.AnyPort, out.Ports = g.lists[0].anyPort, g.lists[0].ports
		return out
	}
	var all []rulegroup.Span
	seen := map[policy.Port]bool{}
	for _, l := range g.lists {
		out.AnyPort = out.AnyPort || l.anyPort
		all = append(all, l.spans...)
		for _, port := range l.named {
			if !seen[port] {
				seen[port] = true
				out.Ports = append(out.Ports, port)
			}
		}
	}
	for _, s := range rulegroup.MergeSpans(all) {
		out.Ports = append(out.Ports, s.AsPort())
	}
	if out.AnyPort {
		out.Ports = nil
	}
	return out
}

// addGrouped makes the rules of the terms of a run that are not merged.
func (b *classBuilder) addGrouped(r *runPlan, why, target string) error {
	for _, g := range groupTerms(r) {
		because := why
		if g.origin != nil {
			because = g.origin.ID.String()
		}
		matches, err := b.ruleMatches(g.asRule())
		if err != nil {
			return err
		}
		for _, m := range matches {
			b.addRule(m, because, target)
		}
	}
	return nil
}
