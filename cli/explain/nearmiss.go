package explain

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/policy/eval"
)

// NearMiss is a rule that would allow a flow if one thing were otherwise.
type NearMiss struct {
	// But says what: port, label or peer.
	But    string `json:"but"`
	Policy string `json:"policy"`
	Field  string `json:"field"`
	// Says is what would have to be otherwise, in words.
	Says string `json:"says"`
}

// maxNearMisses is how many are told of each direction.
const maxNearMisses = 10

// whatIf asks what would be if something were otherwise, of the same compiler.
type whatIf struct {
	snapshot *compile.Snapshot
	question Question
	flow     policy.Flow
}

// nearMisses are those of one direction that is denied: labels first, as they are
// the most precise, then ports, then peers.
func (w *whatIf) nearMisses(p *policy.Program, e *eval.Evaluator, d policy.Direction, endpoint string, peer netip.Addr) []NearMiss {
	out := []NearMiss{}
	if endpoint == "" {
		return out
	}
	told := map[policy.RuleID]bool{}
	for _, m := range w.labels(d) {
		out = append(out, m.NearMiss)
		told[m.rule] = true
	}
	for _, s := range e.Trace(endpoint, d, peer, w.flow.Protocol, w.flow.DestinationPort) {
		if s.Rule.Verdict != policy.Allow || s.Peer == s.Port || told[s.Rule.ID] {
			continue
		}
		m := NearMiss{Policy: s.Rule.ID.Object(), Field: s.Rule.ID.Field}
		if s.Peer {
			if !w.opens(e, s.Rule, d, endpoint, peer) {
				continue
			}
			m.But, m.Says = "port", "allows it on "+ports(p, s.Rule)
		} else {
			m.But, m.Says = "peer", fmt.Sprintf("allows this port for %s", peers(p, s.Rule))
		}
		out = append(out, m)
	}
	slices.SortStableFunc(out, func(a, b NearMiss) int { return cmp.Compare(rank[a.But], rank[b.But]) })
	return out[:min(len(out), maxNearMisses)]
}

var rank = map[string]int{"label": 0, "port": 1, "peer": 2}

// opens says whether some port of the rule is allowed: not where a rule goes before it.
func (w *whatIf) opens(e *eval.Evaluator, r policy.Rule, d policy.Direction, endpoint string, peer netip.Addr) bool {
	return slices.ContainsFunc(r.Ports, func(p policy.Port) bool {
		if p.Named != "" {
			return true // another port of the peer's, whose number is its own
		}
		return e.Direction(endpoint, d, peer, p.Protocol, max(p.First, 1)).Verdict == policy.Allow
	})
}

// verdict is the direction's, on a snapshot.
func (w *whatIf) verdict(s *compile.Snapshot, d policy.Direction) policy.Why {
	program, _ := compile.Compile(s, "")
	decision := eval.Decide(program, w.flow)
	if d == policy.Egress {
		return decision.Egress
	}
	return decision.Ingress
}
