package effect

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"

	"github.com/tierwall/tierwall/policy"
)

// opening is what one answer allows and another does not.
type opening struct {
	// spans are the newly allowed port spans, by index.
	spans []int
	// any is true if every port is allowed, and not all were before.
	any bool
	via []policy.Why
	// rules are those of via.
	rules map[policy.RuleID]bool
	// ports are the spans as rows show them.
	ports []string
	// id is equal for openings with the same ports and rules.
	id [sha256.Size]byte
	// unknown holds the rules that allow ports of unknown number, by protocol.
	unknown map[policy.Protocol]policy.RuleID
}

func (o *opening) isEmpty() bool { return o == nil || len(o.spans) == 0 }

// newOpening returns what the second answer allows and the first does not; nil if nothing.
func (e *classEvaluator) newOpening(before, after *classAnswer) *opening {
	if before == nil || after == nil {
		return nil // given up
	}
	var o *opening
	for i, next := 0, 0; i < len(e.spans); i = next {
		_, next = after.segmentAt(i, len(e.spans))
		_, other := before.segmentAt(i, len(e.spans))
		next = min(next, other)
		why := e.decisionFor(after, i)
		if !why.Verdict.Permits() || e.allowsSpan(before, i) {
			continue
		}
		if o == nil {
			o = &opening{unknown: map[policy.Protocol]policy.RuleID{}}
		}
		for n := i; n < next; n++ {
			o.spans = append(o.spans, n)
			if s := e.spans[n]; s.first == unknownPort && !e.allowsAllOf(after, s.protocol) {
				o.unknown[s.protocol] = why.Rule
			}
		}
		o.addDecision(why)
	}
	if o == nil {
		return nil
	}
	ported := slices.ContainsFunc(o.spans, func(i int) bool { return e.spans[i].protocol != policy.ICMP })
	o.any = ported && e.allowsAll(after)
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

// mergeWith returns the union of both openings.
func (o *opening) mergeWith(p *opening) *opening {
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

// portTexts returns the ports as rows show them. Names returns the port names of a rule, for unknown numbers.
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

// sortedRefs returns the rules that decided for a subject of a namespace.
func (o *opening) sortedRefs(n *namespace) []Ref {
	var refs []Ref
	for _, w := range o.via {
		refs = append(refs, refOf(w, n))
	}
	slices.SortFunc(refs, compareRefs)
	return refs
}

// refOf returns the rule that decided, or a description if it was no rule of a policy.
func refOf(w policy.Why, n *namespace) Ref {
	if w.Tier == policy.DefaultTier {
		return Ref{Policy: "default action of namespace " + n.name}
	}
	return Ref{Policy: w.Rule.Object(), Rule: w.Rule.Field}
}

// portNames returns the named ports of rules, such as "TCP/http".
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
