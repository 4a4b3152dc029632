package effect

import (
	"crypto/sha256"
	"fmt"
	"net/netip"

	"github.com/tierwall/tierwall/policy"
)

// maxKeptAnswers bounds the decisions that are cached at once, to some 20 MB: each takes 5 bytes, and each answer as
// much as answerOverhead of them.
const (
	maxKeptAnswers = 4_000_000
	answerOverhead = 40
)

// comparison evaluates the programs of both states for the same peers.
type comparison struct {
	*classEvaluator
	compiled        [2]*compiledState
	names           func(policy.RuleID, policy.Protocol) []string
	representatives []*representative
	networks        []*networkNode
	// equivalence numbers the representatives: those that no rule of either state can tell apart have the same
	// number.
	equivalence     map[*representative]int
	firstEquivalent []*representative // the first one of each number

	answers  map[classQuestion]*classAnswer
	keptSize int // decisions in answers
	// described caches the representatives as sides of rows.
	described [2]map[*representative]*Peer
}

// newComparison returns a comparison. The spans of its evaluator must be cut by both programs.
func newComparison(e *classEvaluator, members []*representative, compiled [2]*compiledState) *comparison {
	c := &comparison{classEvaluator: e, representatives: members, compiled: compiled,
		equivalence: map[*representative]int{}, answers: map[classQuestion]*classAnswer{},
		described: [2]map[*representative]*Peer{{}, {}}}
	classes := newNumbering[[2][2]int]()
	for _, s := range members {
		var ids [2][2]int
		for _, m := range bothStates {
			for f, addr := range s.addrs {
				ids[m][f] = -1
				if addr.IsValid() {
					ids[m][f] = c.compiled[m].equivalenceID(addr)
				}
			}
		}
		n := classes.numberOf(ids)
		if n == len(c.firstEquivalent) {
			c.firstEquivalent = append(c.firstEquivalent, s)
		}
		c.equivalence[s] = n
	}
	return c
}

// classPair is the classes of a subject in the two states.
type classPair struct{ before, after *policy.Class }

// classQuestion is the key of an answer. Peers with the same equivalence ID for the class have the same answer.
type classQuestion struct {
	m     clusterState
	class *policy.Class
	mark  int
	ipv6  bool
}

func (c *comparison) questionTo(m clusterState, class *policy.Class, peer netip.Addr) classQuestion {
	return classQuestion{m, class, c.compiled[m].equivalenceIDFor(class, peer), peer.Is6()}
}

// answerTo returns the answer of a class about a peer, or nil if the comparison was given up.
func (c *comparison) answerTo(m clusterState, class *policy.Class, peer netip.Addr) *classAnswer {
	q := c.questionTo(m, class, peer)
	a := c.answers[q]
	if a != nil || !c.canContinue() {
		return a
	}
	a = c.newAnswer(c.compiled[m], class, peer)
	if c.keptSize += len(a.why) + answerOverhead; c.keptSize > maxKeptAnswers {
		clear(c.answers)
		c.keptSize = len(a.why) + answerOverhead
	}
	c.answers[q] = a
	return a
}

// openingBetween returns what the class of one state allows a peer and the class of the other does not.
func (c *comparison) openingBetween(from, to clusterState, pair classPair, peer netip.Addr) *opening {
	return c.newOpening(c.answerTo(from, pair.before, peer), c.answerTo(to, pair.after, peer))
}

// openingTo returns what is opened to a peer of either IP family.
func (c *comparison) openingTo(from, to clusterState, pair classPair, p *representative) *opening {
	var o *opening
	for _, addr := range p.addrs {
		if addr.IsValid() {
			o = o.mergeWith(c.openingBetween(from, to, pair, addr))
		}
	}
	if !o.isEmpty() {
		c.nameOpening(o)
	}
	return o
}

// nameOpening sets the ports of an opening as rows show them.
func (c *comparison) nameOpening(o *opening) {
	o.ports = o.portTexts(c.spans, c.names)
	o.id = sha256.Sum256(fmt.Appendf(nil, "%q %q", o.ports, o.sortedRefs(&namespace{})))
}

// isBlocked reports whether the peer's own direction allows nothing of an opening.
func (c *comparison) isBlocked(m clusterState, o *opening, s *representative, d policy.Direction, p *representative) bool {
	for _, addr := range s.addrs {
		if !addr.IsValid() {
			continue
		}
		a := c.answerTo(m, c.compiled[m].classes[p][1-d], addr)
		for _, i := range o.spans {
			if c.allowsSpan(a, i) || c.canMatchNamedPort(a, o, c.spans[i].protocol) {
				return false
			}
		}
	}
	return true
}

// canMatchNamedPort reports whether a named port whose number is not known may have a number that the other side
// allows. Either the opening or the answer has the name.
func (c *comparison) canMatchNamedPort(a *classAnswer, o *opening, protocol policy.Protocol) bool {
	_, named := o.unknown[protocol]
	for i, s := range c.spans {
		if s.protocol == protocol && c.allowsSpan(a, i) && (named || s.first == unknownPort && !c.allowsAllOf(a, protocol)) {
			return true
		}
	}
	return false
}

// affectedSubjects returns the representatives whose class, or a set that it refers to, differs between the states.
func (c *comparison) affectedSubjects(d policy.Direction) []*representative {
	same, differs := map[policy.SetID]bool{}, map[classPair]bool{}
	var out []*representative
	for _, m := range c.representatives {
		pair := classPair{c.compiled[stateBefore].classes[m][d], c.compiled[stateAfter].classes[m][d]}
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
				if !c.isSameSet(id, same) {
					return true
				}
			}
			for _, p := range r.Ports {
				if p.Named != "" && !c.isSameSet(p.Named, same) {
					return true
				}
			}
		}
	}
	return false
}

func (c *comparison) isSameSet(id policy.SetID, known map[policy.SetID]bool) bool {
	same, ok := known[id]
	if !ok {
		same = equalSets(c.compiled[stateBefore].program.Sets[id], c.compiled[stateAfter].program.Sets[id])
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

// describePeer returns a group as a side of a row. Its labels are those that all pods of the group have, and all rows
// of the group share them.
func (c *comparison) describePeer(s *representative, m clusterState) Peer {
	if p := c.described[m][s]; p != nil {
		return *p
	}
	k := s.kinds[m]
	p := &Peer{Kind: Workload, Namespace: s.namespace.name, NamespaceLabels: s.namespace.labels[m],
		Name: s.first, Role: k.role, Labels: k.shared, Pods: s.pods}
	if s.pods == 0 {
		p.Kind = Class
	}
	if s.namespace.hypothetical {
		p.Namespace = ""
	}
	if p.NamespaceLabels == nil {
		p.NamespaceLabels = map[string]string{}
	}
	c.described[m][s] = p
	return *p
}
