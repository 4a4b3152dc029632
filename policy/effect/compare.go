package effect

import (
	"net/netip"

	"github.com/tierwall/tierwall/policy"
)

// comparison asks the programs of both moments the same questions.
type comparison struct {
	sides    [2]*side
	spans    []span
	members  []*standIn
	networks []*network
	answers  map[question]answer
	openings map[[2]question]*opening
	// described are the members as sides of rows.
	described [2]map[*standIn]*Peer
}

func newComparison(members []*standIn) *comparison {
	return &comparison{members: members, answers: map[question]answer{}, openings: map[[2]question]*opening{},
		described: [2]map[*standIn]*Peer{{}, {}}}
}

// question identifies what a class is asked: peers with the same mark get the
// same answer.
type question struct {
	m     moment
	class *policy.Class
	mark  string
	ipv6  bool
}

func (c *comparison) question(m moment, class *policy.Class, peer netip.Addr) question {
	return question{m, class, c.sides[m].mark(peer), peer.Is6()}
}

func (c *comparison) ask(m moment, class *policy.Class, peer netip.Addr) answer {
	q := c.question(m, class, peer)
	a, ok := c.answers[q]
	if !ok {
		a = ask(c.sides[m].program, class, peer, c.spans)
		c.answers[q] = a
	}
	return a
}

// opened is what a subject's direction allows a peer at one moment and does not at the other.
func (c *comparison) opened(from, to moment, s *standIn, d policy.Direction, peer netip.Addr) *opening {
	before, after := c.sides[from].classes[s][d], c.sides[to].classes[s][d]
	key := [2]question{c.question(from, before, peer), c.question(to, after, peer)}
	o, ok := c.openings[key]
	if !ok {
		o = open(c.ask(from, before, peer), c.ask(to, after, peer), c.spans)
		c.openings[key] = o
	}
	return o
}

// openedTo is what is opened to a peer of either IP family.
func (c *comparison) openedTo(from, to moment, s *standIn, d policy.Direction, p *standIn) *opening {
	var o *opening
	for _, addr := range p.addrs {
		if addr.IsValid() {
			o = o.with(c.opened(from, to, s, d, addr))
		}
	}
	return o
}

// blocked says whether the peer's own direction lets nothing of an opening pass.
func (c *comparison) blocked(m moment, o *opening, s *standIn, d policy.Direction, p *standIn) bool {
	for _, addr := range s.addrs {
		if !addr.IsValid() {
			continue
		}
		a := c.ask(m, c.sides[m].classes[p][1-d], addr)
		for _, i := range o.spans {
			if a.allows[i] {
				return false
			}
		}
	}
	return true
}

// touched are the members that the change may concern as subjects: their class
// is another one, or a set that it refers to has other elements.
func (c *comparison) touched(d policy.Direction) []*standIn {
	same := map[policy.SetID]bool{}
	var out []*standIn
	for _, m := range c.members {
		before, after := c.sides[was].classes[m][d], c.sides[is].classes[m][d]
		if before == nil || after == nil || before.ID != after.ID || c.setsDiffer(after, same) {
			out = append(out, m)
		}
	}
	return out
}

func (c *comparison) setsDiffer(class *policy.Class, same map[policy.SetID]bool) bool {
	for _, t := range class.Tiers {
		for _, r := range t.Rules {
			for _, id := range r.Peers {
				if !c.sameSet(id, same) {
					return true
				}
			}
			for _, p := range r.Ports {
				if p.Named != "" && !c.sameSet(p.Named, same) {
					return true
				}
			}
		}
	}
	return false
}

func (c *comparison) sameSet(id policy.SetID, known map[policy.SetID]bool) bool {
	same, ok := known[id]
	if !ok {
		same = equalSets(c.sides[was].program.Sets[id], c.sides[is].program.Sets[id])
		known[id] = same
	}
	return same
}

func equalSets(a, b *policy.Set) bool {
	if a == nil || b == nil || len(a.Elements) != len(b.Elements) {
		return false
	}
	for i := range a.Elements {
		if a.Elements[i] != b.Elements[i] {
			return false
		}
	}
	return true
}
