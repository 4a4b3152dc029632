package rulegroup

import (
	"cmp"
	"slices"

	"github.com/tierwall/tierwall/policy"
)

// Span is a range of ports of a protocol.
type Span struct {
	Protocol    policy.Protocol
	First, Last uint16
}

// IsWhole reports whether the span is every port of its protocol.
func (s Span) IsWhole() bool { return s.First == 0 && s.Last == policy.MaxPort }

// Size is the number of ports.
func (s Span) Size() int { return int(s.Last) - int(s.First) + 1 }

// AsPort is the span as a rule's port.
func (s Span) AsPort() policy.Port {
	return policy.Port{Protocol: s.Protocol, First: s.First, Last: s.Last}
}

// SpansOf are the ports of a rule that do not go by name, disjoint and sorted. A protocol
// without ports has port 0 in a flow: what matches that matches all of it.
func SpansOf(ports []policy.Port) []Span {
	var out []Span
	for _, p := range ports {
		switch {
		case p.Named != "" || p.First > p.Last:
		case p.Protocol.HasPorts():
			out = append(out, Span{p.Protocol, p.First, p.Last})
		case p.First == 0:
			out = append(out, Span{p.Protocol, 0, policy.MaxPort})
		}
	}
	return MergeSpans(out)
}

// MergeSpans are the same ports in the fewest spans, sorted.
func MergeSpans(in []Span) []Span {
	in = slices.Clone(in)
	slices.SortFunc(in, Span.Compare)
	var out []Span
	for _, s := range in {
		if n := len(out) - 1; n >= 0 && out[n].Protocol == s.Protocol && int(s.First) <= int(out[n].Last)+1 {
			out[n].Last = max(out[n].Last, s.Last)
			continue
		}
		out = append(out, s)
	}
	return out
}

// NamedPorts are the ports of a rule that go by name.
func NamedPorts(ports []policy.Port) []policy.Port {
	var out []policy.Port
	for _, p := range ports {
		if p.Named != "" {
			out = append(out, p)
		}
	}
	return out
}

// Compare orders spans by protocol and ports.
func (s Span) Compare(o Span) int {
	return cmp.Or(cmp.Compare(s.Protocol, o.Protocol), cmp.Compare(s.First, o.First), cmp.Compare(s.Last, o.Last))
}

// String is the span as a policy's port is written, such as TCP/80-90.
func (s Span) String() string { return s.AsPort().String() }
