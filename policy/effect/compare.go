package effect

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/netip"

	"github.com/tierwall/tierwall/policy"
)

// maxAsked is how many times a class is asked about a span of ports: of more the
// effect is not computed.
const maxAsked = 100_000_000

// maxKept is how many answers about spans are kept at once, to bound memory to
// some 20 MB: each takes 5 bytes. To keep an answer costs as much as keptAnswer of them.
const (
	maxKept    = 4_000_000
	keptAnswer = 40
)

// comparison asks the programs of both moments the same questions.
type comparison struct {
	ctx   context.Context // of the one call that the comparison is made for
	sides [2]*side
	spans []span
	// firstSpans are those that begin a protocol.
	firstSpans []int
	names      func(policy.RuleID, policy.Protocol) []string
	members    []*standIn
	networks   []*network
	// alike numbers the members that have the same marks at both moments: they are
	// the same to every rule.
	alike map[*standIn]int
	first []*standIn // the first member of each number

	answers map[question]*answer
	kept    int // how many answers about spans that is
	asked   int // how many spans were asked about
	whys    numbers[policy.Why]
	// described are the members as sides of rows.
	described [2]map[*standIn]*Peer
	// stopped says why the comparison was given up: what it says then means nothing.
	stopped string
}

func newComparison(ctx context.Context, members []*standIn, sides [2]*side, lones []lone) *comparison {
	programs := []*policy.Program{sides[was].program, sides[is].program}
	for _, p := range lones {
		programs = append(programs, p.program)
	}
	c := &comparison{ctx: ctx, members: members, sides: sides, spans: spans(programs...),
		alike: map[*standIn]int{}, answers: map[question]*answer{}, whys: newNumbers[policy.Why](),
		described: [2]map[*standIn]*Peer{{}, {}}}
	c.firstSpans = firstSpansOf(c.spans)
	classes := newNumbers[[2][2]int]()
	for _, s := range members {
		var marks [2][2]int
		for _, m := range moments {
			for f, addr := range s.addrs {
				marks[m][f] = -1
				if addr.IsValid() {
					marks[m][f] = c.sides[m].mark(addr)
				}
			}
		}
		n := classes.of(marks)
		if n == len(c.first) {
			c.first = append(c.first, s)
		}
		c.alike[s] = n
	}
	return c
}

// numbers gives each value a number, from 0 on.
type numbers[T comparable] struct {
	known  map[T]int
	values []T
}

func newNumbers[T comparable]() numbers[T] { return numbers[T]{known: map[T]int{}} }

func (n *numbers[T]) of(value T) int {
	i, ok := n.known[value]
	if !ok {
		i = len(n.values)
		n.known[value] = i
		n.values = append(n.values, value)
	}
	return i
}

// goesOn reports whether the comparison is worth going on with.
func (c *comparison) goesOn() bool {
	if c.stopped == "" && c.ctx.Err() != nil {
		c.stopped = outOfTime(c.ctx)
	}
	return c.stopped == ""
}

func outOfTime(ctx context.Context) string {
	return fmt.Sprintf("the time for computing the effect is over: %v", context.Cause(ctx))
}

// question identifies what a class is asked: peers with the same mark for the
// class get the same answer.
type question struct {
	m     moment
	class *policy.Class
	mark  int
	ipv6  bool
}

func (c *comparison) question(m moment, class *policy.Class, peer netip.Addr) question {
	return question{m, class, c.sides[m].markFor(class, peer), peer.Is6()}
}

// ask is what a class says of a peer; nil where the comparison was given up.
func (c *comparison) ask(m moment, class *policy.Class, peer netip.Addr) *answer {
	q := c.question(m, class, peer)
	a := c.answers[q]
	if a != nil || !c.goesOn() {
		return a
	}
	a = c.answer(c.sides[m], class, peer)
	if c.kept += len(a.why) + keptAnswer; c.kept > maxKept {
		clear(c.answers)
		c.kept = len(a.why) + keptAnswer
	}
	c.answers[q] = a
	return a
}

// opened is what a class at one moment allows a peer and another at the other does not.
func (c *comparison) opened(from, to moment, pair classPair, peer netip.Addr) *opening {
	return c.open(c.ask(from, pair.before, peer), c.ask(to, pair.after, peer))
}

// openedTo is what is opened to a peer of either IP family.
func (c *comparison) openedTo(from, to moment, pair classPair, p *standIn) *opening {
	var o *opening
	for _, addr := range p.addrs {
		if addr.IsValid() {
			o = o.with(c.opened(from, to, pair, addr))
		}
	}
	if !o.none() {
		c.name(o)
	}
	return o
}

// name puts what is opened into words.
func (c *comparison) name(o *opening) {
	o.ports = o.text(c.spans, c.names)
	o.id = sha256.Sum256(fmt.Appendf(nil, "%q %q", o.ports, o.refs(&namespace{})))
}

// blocked reports whether the peer's own direction lets nothing of an opening pass.
func (c *comparison) blocked(m moment, o *opening, s *standIn, d policy.Direction, p *standIn) bool {
	for _, addr := range s.addrs {
		if !addr.IsValid() {
			continue
		}
		a := c.ask(m, c.sides[m].classes[p][1-d], addr)
		for _, i := range o.spans {
			if c.allows(a, i) || c.canMeet(a, o, c.spans[i].protocol) {
				return false
			}
		}
	}
	return true
}

// canMeet reports whether a port by name, whose number is not known, can turn out to be one that the
// other side has: where the opening has the name, or the answer does.
func (c *comparison) canMeet(a *answer, o *opening, protocol policy.Protocol) bool {
	_, named := o.unknown[protocol]
	for i, s := range c.spans {
		if s.protocol == protocol && c.allows(a, i) && (named || s.first == anyNumber && !c.allOf(a, protocol)) {
			return true
		}
	}
	return false
}

// touched are the members that the change may concern as subjects: their class
// is another one, or a set that it refers to has other elements.
func (c *comparison) touched(d policy.Direction) []*standIn {
	same, differs := map[policy.SetID]bool{}, map[classPair]bool{}
	var out []*standIn
	for _, m := range c.members {
		pair := classPair{c.sides[was].classes[m][d], c.sides[is].classes[m][d]}
		touched, known := differs[pair]
		if !known {
			touched = pair.before == nil || pair.after == nil || !pair.before.Equal(pair.after) || c.setsDiffer(pair.after, same)
			differs[pair] = touched
		}
		if touched {
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
