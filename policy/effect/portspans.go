package effect

import (
	"maps"
	"slices"

	"github.com/tierwall/tierwall/policy"
)

// portlessProtocols is how rows show the protocols without ports.
const portlessProtocols = "ICMP"

// portSpan is consecutive ports of one protocol that no rule can tell apart.
type portSpan struct {
	protocol    policy.Protocol
	first, last uint16
}

// cutSpans splits the ports of all protocols at the bounds of all rules. The last span stands for protocols without
// ports.
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

// firstSpansOf returns the first span of each protocol. The span without ports is last.
func firstSpansOf(spans []portSpan) []int {
	var out []int
	for i, s := range spans {
		if i == 0 || s.protocol != spans[i-1].protocol {
			out = append(out, i)
		}
	}
	return out
}
