package nft

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tierwall/tierwall/policy"
)

// span is a range of ports of a protocol.
type span struct {
	protocol    policy.Protocol
	first, last uint16
}

// all says whether the span is every port of its protocol.
func (s span) all() bool { return s.first == 0 && s.last == policy.MaxPort }

// single says whether the span is one port.
func (s span) single() bool { return s.first == s.last }

// text is the span as the last two fields of a key, such as "6 . 80-90".
func (s span) text() string { return fmt.Sprintf("%d . %s", s.protocol, s.ports()) }

func (s span) ports() string {
	if s.single() {
		return strconv.Itoa(int(s.first))
	}
	return fmt.Sprintf("%d-%d", s.first, s.last)
}

// spans are the ports of a rule that do not go by name, disjoint and sorted. A
// protocol without ports has port 0 in a flow: what matches that matches all of it.
func spans(ports []policy.Port) []span {
	var out []span
	for _, p := range ports {
		switch {
		case p.Named != "" || p.First > p.Last:
		case p.Protocol.HasPorts():
			out = append(out, span{p.Protocol, p.First, p.Last})
		case p.First == 0:
			out = append(out, span{p.Protocol, 0, policy.MaxPort})
		}
	}
	return disjoint(out)
}

// disjoint are the same ports in the fewest spans.
func disjoint(in []span) []span {
	in = slices.Clone(in)
	slices.SortFunc(in, func(a, b span) int {
		return cmp.Or(cmp.Compare(a.protocol, b.protocol), cmp.Compare(a.first, b.first), cmp.Compare(a.last, b.last))
	})
	var out []span
	for _, s := range in {
		if n := len(out) - 1; n >= 0 && out[n].protocol == s.protocol && int(s.first) <= int(out[n].last)+1 {
			out[n].last = max(out[n].last, s.last)
			continue
		}
		out = append(out, s)
	}
	return out
}

// named are the ports of a rule that go by name.
func named(ports []policy.Port) []policy.Port {
	var out []policy.Port
	for _, p := range ports {
		if p.Named != "" {
			out = append(out, p)
		}
	}
	return out
}

// spanMatches are matches of ports, each with a space at its end, one of which must
// match: one for whole protocols, one for single ports, and one for each range.
// There is no anonymous set of ranges, because kernels may let it come into force
// later than the rule that it belongs to.
func spanMatches(in []span) []string {
	var protocols, singles, ranges []string
	for _, s := range in {
		switch {
		case s.all():
			protocols = append(protocols, strconv.Itoa(int(s.protocol)))
		case s.single():
			singles = append(singles, s.text())
		default:
			ranges = append(ranges, fmt.Sprintf("meta l4proto %d th dport %s ", s.protocol, s.ports()))
		}
	}
	var out []string
	if len(protocols) > 0 {
		out = append(out, "meta l4proto "+oneOf(protocols))
	}
	if len(singles) > 0 {
		out = append(out, "meta l4proto . th dport "+anonymous(singles))
	}
	return append(out, ranges...)
}

func oneOf(values []string) string {
	if len(values) == 1 {
		return values[0] + " "
	}
	return anonymous(values)
}

func anonymous(values []string) string { return "{ " + strings.Join(values, ", ") + " } " }
