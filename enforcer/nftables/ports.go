package nftables

import (
	"fmt"
	"strconv"

	"github.com/tierwall/tierwall/enforcer/rulegroup"
	"github.com/tierwall/tierwall/policy"
)

// isSinglePort reports whether a span is one port.
func isSinglePort(s rulegroup.Span) bool { return s.First == s.Last }

// spanText is a span as the last two fields of a key, such as "6 . 80-90".
func spanText(s rulegroup.Span) string { return fmt.Sprintf("%d . %s", s.Protocol, portText(s)) }

func portText(s rulegroup.Span) string {
	if isSinglePort(s) {
		return strconv.Itoa(int(s.First))
	}
	return fmt.Sprintf("%d-%d", s.First, s.Last)
}

// spanMatches are terms for ports, one list of which must match: one for whole
// protocols, one for single ports, and one for each range.
// There is no anonymous set of ranges, because kernels may let it come into force
// later than the rule that it belongs to.
func spanMatches(in []rulegroup.Span) [][]term {
	var protocol policy.Protocol
	var protocols, singles []string
	var out, ranges [][]term
	for _, s := range in {
		switch {
		case s.IsWhole():
			protocol, protocols = s.Protocol, append(protocols, strconv.Itoa(int(s.Protocol)))
		case isSinglePort(s):
			singles = append(singles, spanText(s))
		default:
			ranges = append(ranges, []term{protocolIs(s.Protocol), portWithin(s)})
		}
	}
	switch {
	case len(protocols) == 1:
		out = append(out, []term{protocolIs(protocol)})
	case len(protocols) > 1:
		out = append(out, []term{fieldsInValues{fields{protocolField}, protocols}})
	}
	if len(singles) > 0 {
		out = append(out, []term{fieldsInValues{portFields, singles}})
	}
	return append(out, ranges...)
}
