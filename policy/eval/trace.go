package eval

import (
	"net/netip"

	"github.com/tierwall/tierwall/policy"
)

// Step is a rule of a class as a flow meets it, and what of it matches.
type Step struct {
	Tier policy.TierName
	Rule policy.Rule
	// Peer and Port say whether these match; the rule does if both do.
	Peer, Port bool
}

// Trace is every rule of the endpoint's class in a direction, in the order in which they
// are tried, those behind the one that decides too. An endpoint that the program
// does not have has none.
func (e *Evaluator) Trace(endpoint string, d policy.Direction, peer netip.Addr, proto policy.Protocol, port uint16) []Step {
	own := find(e.program, endpoint)
	if own == nil || e.program.Classes[d][own.Class[d]] == nil {
		return nil
	}
	peer = peer.Unmap()
	var out []Step
	for _, t := range e.program.Classes[d][own.Class[d]].Tiers {
		for i := range t.Rules {
			r := &t.Rules[i]
			out = append(out, Step{Tier: t.Name, Rule: *r,
				Peer: matchesPeer(e.program, r, peer), Port: matchesPort(e.program, r, peer, proto, port)})
		}
	}
	return out
}
