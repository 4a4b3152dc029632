package iptables

import (
	"strconv"

	"github.com/tierwall/tierwall/enforcer/rulegroup"
	"github.com/tierwall/tierwall/policy"
)

// portList holds the ports of a rule. Rules with equal ports share one.
type portList struct {
	anyPort bool
	ports   []policy.Port
	// spans are the ports that do not go by name, disjoint; named are the others.
	spans []rulegroup.Span
	named []policy.Port
	// width is the number of elements that a peer with these ports becomes in merged sets,
	// and matches the number of rules that match the ports.
	width, matches int
	// largeSpan says that a range is not expanded.
	largeSpan bool
}

// term is a peer with the ports of a rule: a rule matches what any of its terms matches.
type term struct {
	anyPeer bool
	peer    policy.SetID
	ports   *portList
}

// matchesAll reports whether the term matches every packet.
func (t term) matchesAll() bool { return t.anyPeer && t.ports.anyPort }

// termReader reads the terms of rules. Terms of one reader that match the same packets by the
// same sets are equal.
type termReader struct{ lists map[string]*portList }

func newTermReader() termReader { return termReader{map[string]*portList{}} }

// portsOf are those of a rule.
func (t termReader) portsOf(r *policy.Rule) *portList {
	key := strconv.AppendBool(nil, r.AnyPort)
	for _, p := range r.Ports {
		for _, n := range []int{int(p.Protocol), int(p.First), int(p.Last)} {
			key = strconv.AppendInt(append(key, ' '), int64(n), 10)
		}
		key = append(append(key, ' '), p.Named...)
	}
	if l, ok := t.lists[string(key)]; ok {
		return l
	}
	l := newPortList(r.AnyPort, r.Ports)
	t.lists[string(key)] = l
	return l
}

func newPortList(anyPort bool, ports []policy.Port) *portList {
	if anyPort {
		return &portList{anyPort: true, width: 1, matches: 1}
	}
	l := &portList{ports: ports, spans: portSpans(ports), named: rulegroup.NamedPorts(ports)}
	for _, s := range l.spans {
		l.width++
		if canExpand(s) {
			l.width += s.Size() - 1
		} else {
			l.largeSpan = true
		}
	}
	l.matches = len(spanMatches(l.spans)) + len(l.named)
	return l
}

// runTerms are the distinct terms of a run, in the order of its rules.
type runTerms struct {
	terms []term
	// origin is the rule that a term comes from, or nil where there are several.
	origin map[term]*policy.Rule
}

func (t termReader) readTerms(u rulegroup.Run) runTerms {
	out := runTerms{origin: map[term]*policy.Rule{}}
	for i := range u.Rules {
		r := &u.Rules[i]
		ports := t.portsOf(r)
		if r.AnyPeer {
			out.addTerm(term{anyPeer: true, ports: ports}, r)
			continue
		}
		for _, id := range r.Peers {
			out.addTerm(term{peer: id, ports: ports}, r)
		}
	}
	return out
}

func (o *runTerms) addTerm(t term, r *policy.Rule) {
	switch first, ok := o.origin[t]; {
	case !ok:
		o.terms = append(o.terms, t)
		o.origin[t] = r
	case first != r:
		o.origin[t] = nil
	}
}
