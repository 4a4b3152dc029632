package effect

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/eval"
)

// protocols are those whose ports policies can name.
var protocols = []policy.Protocol{policy.TCP, policy.UDP, policy.SCTP}

// unknownPort is the port of a named port whose number nobody knows yet, as its pod does not exist.
const unknownPort = 0

// portlessProtocols is how rows show the protocols that have no ports.
const portlessProtocols = "ICMP"

// portSpan is consecutive ports of one protocol that every rule treats alike.
type portSpan struct {
	protocol    policy.Protocol
	first, last uint16
}

// cutSpans cuts the ports of all protocols at the bounds of all rules. The last
// stands for what has no ports.
func cutSpans(programs ...*policy.Program) []portSpan {
	cuts := map[policy.Protocol]map[int]bool{}
	for _, p := range protocols {
		cuts[p] = map[int]bool{0: true, 1: true}
	}
	cut := func(p policy.Protocol, first, last uint16) {
		if cuts[p] != nil {
			cuts[p][int(first)], cuts[p][int(last)+1] = true, true
		}
	}
	for _, program := range programs {
		forEachPort(program, cut)
	}
	var out []portSpan
	for _, p := range protocols {
		bounds := slices.Sorted(maps.Keys(cuts[p]))
		for i, first := range bounds {
			last := policy.MaxPort
			if i+1 < len(bounds) {
				last = bounds[i+1] - 1
			}
			if first <= policy.MaxPort {
				out = append(out, portSpan{p, uint16(first), uint16(last)})
			}
		}
	}
	return append(out, portSpan{protocol: policy.ICMP})
}

func forEachPort(program *policy.Program, do func(policy.Protocol, uint16, uint16)) {
	for _, classes := range program.Classes {
		for _, c := range classes {
			for _, t := range c.Tiers {
				for _, r := range t.Rules {
					for _, p := range r.Ports {
						if p.Named == "" {
							do(p.Protocol, p.First, p.Last)
						}
					}
				}
			}
		}
	}
	for _, s := range program.Sets {
		if s.Kind == policy.AddressPorts {
			for _, e := range s.Elements {
				do(e.Protocol, e.Port, e.Port)
			}
		}
	}
}

// classAnswer is what a class says of a peer, span by span, as far as it was asked.
type classAnswer struct {
	program *policy.Program
	class   *policy.Class // as the peer meets it
	peer    netip.Addr
	// why are the numbers of reasons, by segment, from 1 on; 0 where it was not asked yet.
	why []int32
	// starts are the spans at which a rule of the class begins or ends: those from one to the next are a segment, and have
	// one reason. Nil where each span is one.
	starts []int
}

// segmentAt is the number of the segment that a span is in, and the span that the next one begins with.
func (a *classAnswer) segmentAt(span, spans int) (number, next int) {
	if a.starts == nil {
		return span, span + 1
	}
	after, _ := slices.BinarySearch(a.starts, span+1)
	if after < len(a.starts) {
		spans = a.starts[after]
	}
	return after - 1, spans
}

// newAnswer is one that is asked nothing yet.
func (c *comparison) newAnswer(of *compiledState, class *policy.Class, peer netip.Addr) *classAnswer {
	a := &classAnswer{program: of.program, class: of.classSeenBy(class, peer), peer: peer}
	segments := len(c.spans)
	if a.starts = c.segmentStarts(a.class); a.starts != nil {
		segments = len(a.starts)
	}
	a.why = make([]int32, segments)
	return a
}

// segmentStarts are the spans at which a rule of a class begins or ends, and those that begin a protocol.
func (c *comparison) segmentStarts(class *policy.Class) []int {
	out := slices.Clone(c.firstSpans)
	if class == nil {
		return out
	}
	for _, t := range class.Tiers {
		for _, r := range t.Rules {
			for _, p := range r.Ports {
				if p.Named != "" {
					return nil
				}
				out = c.appendSpan(out, p.Protocol, int(p.First))
				out = c.appendSpan(out, p.Protocol, int(p.Last)+1)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// appendSpan appends the number of the span that begins with a port.
func (c *comparison) appendSpan(to []int, protocol policy.Protocol, port int) []int {
	at := slices.Index(protocols, protocol)
	if at < 0 || port > policy.MaxPort {
		return to
	}
	first, end := c.firstSpans[at], c.firstSpans[at+1]
	i, _ := slices.BinarySearchFunc(c.spans[first:end], port, func(s portSpan, port int) int { return int(s.first) - port })
	return append(to, first+i)
}

// firstSpansOf are the spans that begin a protocol; that without ports is last.
func firstSpansOf(spans []portSpan) []int {
	var out []int
	for i, s := range spans {
		if i == 0 || s.protocol != spans[i-1].protocol {
			out = append(out, i)
		}
	}
	return out
}

// decisionFor says who decides about a span; a class that is nil decides to allow nothing.
func (c *comparison) decisionFor(a *classAnswer, span int) policy.Why {
	if c.stopped != "" {
		return policy.Why{}
	}
	at, _ := a.segmentAt(span, len(c.spans))
	if n := a.why[at]; n > 0 {
		return c.whys.values[n-1]
	}
	if c.askedCount++; c.askedCount > maxQuestions {
		c.stopped = fmt.Sprintf("policies would have to be asked about more than %d pairs of peers and ports", maxQuestions)
		return policy.Why{}
	}
	protocol := c.spans[span].protocol
	if protocol == policy.ICMP && a.peer.Is6() {
		protocol = policy.ICMPv6
	}
	why := eval.Class(a.program, a.class, a.peer, protocol, c.spans[span].first)
	a.why[at] = int32(c.whys.number(why)) + 1
	return why
}

func (c *comparison) allows(a *classAnswer, span int) bool {
	return c.decisionFor(a, span).Verdict.Permits()
}

// allowsAll reports whether every port of every protocol is allowed.
func (c *comparison) allowsAll(a *classAnswer) bool {
	return !slices.ContainsFunc(protocols, func(p policy.Protocol) bool { return !c.allowsAllOf(a, p) })
}

// allowsAllOf reports whether every port of a protocol is allowed.
func (c *comparison) allowsAllOf(a *classAnswer, p policy.Protocol) bool {
	for i, s := range c.spans {
		if s.protocol == p && !c.allows(a, i) {
			return false
		}
	}
	return true
}

// opening is what one answer allows and another does not.
type opening struct {
	// spans are the indices of the ports that are open in addition.
	spans []int
	// any is true when every port is open, and not all were before.
	any bool
	via []policy.Why
	// rules are those of via.
	rules map[policy.RuleID]bool
	// ports are the spans in words.
	ports []string
	// id is the same of openings with the same ports and rules.
	id [sha256.Size]byte
	// unknown is the rules that decide about ports whose number is not known, by protocol.
	unknown map[policy.Protocol]policy.RuleID
}

func (o *opening) isEmpty() bool { return o == nil || len(o.spans) == 0 }

// newOpening compares two answers.
func (c *comparison) newOpening(before, after *classAnswer) *opening {
	if before == nil || after == nil {
		return nil // the comparison was given up
	}
	var o *opening
	for i, next := 0, 0; i < len(c.spans); i = next {
		_, next = after.segmentAt(i, len(c.spans))
		_, other := before.segmentAt(i, len(c.spans))
		next = min(next, other)
		why := c.decisionFor(after, i)
		if !why.Verdict.Permits() || c.allows(before, i) {
			continue
		}
		if o == nil {
			o = &opening{unknown: map[policy.Protocol]policy.RuleID{}}
		}
		for n := i; n < next; n++ {
			o.spans = append(o.spans, n)
			if s := c.spans[n]; s.first == unknownPort && !c.allowsAllOf(after, s.protocol) {
				o.unknown[s.protocol] = why.Rule
			}
		}
		o.addDecision(why)
	}
	if o == nil {
		return nil
	}
	ported := slices.ContainsFunc(o.spans, func(i int) bool { return c.spans[i].protocol != policy.ICMP })
	o.any = ported && c.allowsAll(after)
	return o
}

func (o *opening) addDecision(why policy.Why) {
	if n := len(o.via); n > 0 && o.via[n-1].Rule == why.Rule || o.rules[why.Rule] {
		return
	}
	if o.rules == nil {
		o.rules = map[policy.RuleID]bool{}
	}
	o.rules[why.Rule] = true
	o.via = append(o.via, why)
}

// merged is both openings together.
func (o *opening) merged(p *opening) *opening {
	if o.isEmpty() {
		return p
	}
	if p.isEmpty() {
		return o
	}
	out := &opening{spans: slices.Concat(o.spans, p.spans), any: o.any || p.any, via: slices.Clone(o.via), rules: maps.Clone(o.rules), unknown: maps.Clone(o.unknown)}
	maps.Copy(out.unknown, p.unknown)
	slices.Sort(out.spans)
	out.spans = slices.Compact(out.spans)
	for _, w := range p.via {
		out.addDecision(w)
	}
	return out
}

// portTexts is the ports in words. Names are those of ports whose number is not known.
func (o *opening) portTexts(spans []portSpan, names func(policy.RuleID, policy.Protocol) []string) []string {
	if o.any {
		return []string{"any"}
	}
	var out []string
	for n := 0; n < len(o.spans); n++ {
		s := spans[o.spans[n]]
		if s.protocol == policy.ICMP {
			out = append(out, portlessProtocols)
			continue
		}
		if s.first == unknownPort {
			out = append(out, names(o.unknown[s.protocol], s.protocol)...)
			continue
		}
		for n+1 < len(o.spans) && o.spans[n+1] == o.spans[n]+1 && spans[o.spans[n+1]].protocol == s.protocol {
			n++
		}
		s.last = spans[o.spans[n]].last
		out = append(out, policy.Port{Protocol: s.protocol, First: s.first, Last: s.last}.String())
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// portNames are the names of ports that a rule goes by, as "TCP/http".
func portNames(all []*terms) func(policy.RuleID, policy.Protocol) []string {
	names := map[Ref][]namedPort{}
	for _, t := range all {
		for _, p := range t.ports {
			names[p.rule] = append(names[p.rule], p)
		}
	}
	return func(id policy.RuleID, protocol policy.Protocol) []string {
		var out []string
		for _, p := range names[Ref{Policy: id.Object(), Rule: id.Field}] {
			if p.protocol == protocol {
				out = append(out, fmt.Sprintf("%s/%s", protocol, p.name))
			}
		}
		return out
	}
}
