package nft

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/tierwall/tierwall/enforcer/run"
)

// single says whether a span is one port.
func single(s run.Span) bool { return s.First == s.Last }

// spanText is a span as the last two fields of a key, such as "6 . 80-90".
func spanText(s run.Span) string { return fmt.Sprintf("%d . %s", s.Protocol, portText(s)) }

func portText(s run.Span) string {
	if single(s) {
		return strconv.Itoa(int(s.First))
	}
	return fmt.Sprintf("%d-%d", s.First, s.Last)
}

// spanMatches are matches of ports, each with a space at its end, one of which must
// match: one for whole protocols, one for single ports, and one for each range.
// There is no anonymous set of ranges, because kernels may let it come into force
// later than the rule that it belongs to.
func spanMatches(in []run.Span) []string {
	var protocols, singles, ranges []string
	for _, s := range in {
		switch {
		case s.All():
			protocols = append(protocols, strconv.Itoa(int(s.Protocol)))
		case single(s):
			singles = append(singles, spanText(s))
		default:
			ranges = append(ranges, fmt.Sprintf("meta l4proto %d th dport %s ", s.Protocol, portText(s)))
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
