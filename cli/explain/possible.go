package explain

import (
	"net/netip"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/eval"
)

// match is whether a rule matches: no, yes, or maybe.
type match uint8

const (
	no match = iota
	maybe
	yes
)

// certainty is what is known of a peer that sets of pods and nodes may have or not.
type certainty struct {
	// address is the peer's, where it is known: networks have it or not.
	address netip.Addr
	// peers is maybe where the peer may be in any set of pods or nodes.
	peers match
	// ports is maybe where the port is not known either.
	ports match
}

// possible are the reasons that can decide: those of the rules that may match, up to the first that
// does in any case. All that can happen is among them.
func possible(w *world, c *policy.Class, q query, known certainty) []policy.Why {
	if c == nil {
		return []policy.Why{{Note: "no such class"}}
	}
	var out []policy.Why
	for i := range c.Tiers {
		t := &c.Tiers[i]
		whys := tierPossible(w, t, q, known)
		passes := false
		for _, why := range whys {
			if why.Verdict == policy.Pass {
				passes = true
				continue
			}
			out = append(out, why)
		}
		if !passes {
			break
		}
	}
	return out
}

func tierPossible(w *world, t *policy.Tier, q query, known certainty) []policy.Why {
	var out []policy.Why
	for i := range t.Rules {
		r := &t.Rules[i]
		m := min(portMatch(r, q, known), peerMatch(w, r, known))
		if m == no {
			continue
		}
		out = append(out, policy.Why{Verdict: r.Verdict, Tier: t.Name, Rule: r.ID})
		if m == yes {
			return out
		}
	}
	return append(out, policy.Why{Verdict: t.Else, Tier: t.Name, Rule: t.ElseID})
}

func portMatch(r *policy.Rule, q query, known certainty) match {
	if r.AnyPort {
		return yes
	}
	if known.ports == maybe && q.port == 0 {
		return maybe
	}
	best := no
	for _, p := range r.Ports {
		switch {
		case p.Protocol != q.protocol:
		case p.Named != "":
			best = max(best, maybe)
		case p.First <= q.port && q.port <= p.Last:
			return yes
		}
	}
	return best
}

func peerMatch(w *world, r *policy.Rule, known certainty) match {
	if r.AnyPeer {
		return yes
	}
	best := no
	for _, id := range r.Peers {
		s := w.program.Sets[id]
		switch {
		case s != nil && s.Kind == policy.Networks && known.address.IsValid():
			if eval.Contains(s, known.address) {
				return yes
			}
		default:
			best = max(best, maybe)
		}
	}
	return best
}
