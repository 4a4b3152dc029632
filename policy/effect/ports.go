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

// anyNumber is the port of a named port whose number nobody knows yet, as its pod does not exist.
const anyNumber = 0

// withoutPorts is how rows show the protocols that have no ports.
const withoutPorts = "ICMP"

// span is consecutive ports of one protocol that every rule treats alike.
type span struct {
	protocol    policy.Protocol
	first, last uint16
}

// spans cuts the ports of all protocols at the bounds of all rules. The last
// stands for what has no ports.
func spans(programs ...*policy.Program) []span {
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
	var out []span
	for _, p := range protocols {
		bounds := slices.Sorted(maps.Keys(cuts[p]))
		for i, first := range bounds {
			last := policy.MaxPort
			if i+1 < len(bounds) {
				last = bounds[i+1] - 1
			}
			if first <= policy.MaxPort {
				out = append(out, span{p, uint16(first), uint16(last)})
			}
		}
	}
	return append(out, span{protocol: policy.ICMP})
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

// answer is what a class says of a peer, span by span.
type answer struct {
	allows []bool
	why    []int32 // numbers of reasons
}

func newAnswer(spans int) answer { return answer{make([]bool, spans), make([]int32, spans)} }

// evaluate asks a class; one that is nil allows nothing.
func (c *comparison) evaluate(program *policy.Program, class *policy.Class, peer netip.Addr) answer {
	a := newAnswer(len(c.spans))
	if class == nil {
		return a
	}
	for i, s := range c.spans {
		protocol := s.protocol
		if protocol == policy.ICMP && peer.Is6() {
			protocol = policy.ICMPv6
		}
		why := eval.Class(program, class, peer, protocol, s.first)
		a.why[i], a.allows[i] = int32(c.whys.of(why)), why.Verdict.Permits()
	}
	return a
}

// all says whether every port of every protocol is allowed.
func (a answer) all(spans []span) bool {
	return !slices.ContainsFunc(protocols, func(p policy.Protocol) bool { return !a.allOf(p, spans) })
}

// allOf says whether every port of a protocol is allowed.
func (a answer) allOf(p policy.Protocol, spans []span) bool {
	for i, s := range spans {
		if s.protocol == p && !a.allows[i] {
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
	// ports are the spans in words.
	ports []string
	// id is the same of openings with the same ports and rules.
	id [sha256.Size]byte
	// unknown is the rules that decide about ports whose number is not known, by protocol.
	unknown map[policy.Protocol]policy.RuleID
}

func (o *opening) none() bool { return o == nil || len(o.spans) == 0 }

// open compares two answers.
func (c *comparison) open(before, after answer) *opening {
	var o *opening
	for i, s := range c.spans {
		if !after.allows[i] || before.allows[i] {
			continue
		}
		if o == nil {
			o = &opening{unknown: map[policy.Protocol]policy.RuleID{}}
		}
		o.spans = append(o.spans, i)
		why := c.whys.values[after.why[i]]
		if s.first == anyNumber && !after.allOf(s.protocol, c.spans) {
			o.unknown[s.protocol] = why.Rule
		}
		o.decidedBy(why)
	}
	if o == nil {
		return nil
	}
	ported := slices.ContainsFunc(o.spans, func(i int) bool { return c.spans[i].protocol != policy.ICMP })
	o.any = ported && after.all(c.spans)
	return o
}

func (o *opening) decidedBy(why policy.Why) {
	if !slices.ContainsFunc(o.via, func(v policy.Why) bool { return v.Rule == why.Rule }) {
		o.via = append(o.via, why)
	}
}

// with is both openings together.
func (o *opening) with(p *opening) *opening {
	if o.none() {
		return p
	}
	if p.none() {
		return o
	}
	out := &opening{spans: slices.Concat(o.spans, p.spans), any: o.any || p.any, via: slices.Clone(o.via), unknown: maps.Clone(o.unknown)}
	maps.Copy(out.unknown, p.unknown)
	slices.Sort(out.spans)
	out.spans = slices.Compact(out.spans)
	for _, w := range p.via {
		out.decidedBy(w)
	}
	return out
}

// text is the ports in words. Names are those of ports whose number is not known.
func (o *opening) text(spans []span, names func(policy.RuleID, policy.Protocol) []string) []string {
	if o.any {
		return []string{"any"}
	}
	var out []string
	for n := 0; n < len(o.spans); n++ {
		s := spans[o.spans[n]]
		if s.protocol == policy.ICMP {
			out = append(out, withoutPorts)
			continue
		}
		if s.first == anyNumber {
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
