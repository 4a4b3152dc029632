package explain

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/tierwall/tierwall/policy"
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
	*explainer
	world     *world
	direction policy.Direction
	from, to  Member
	query     query
	tier      policy.TierName // that decides
}

// sides are the pod that is judged and its peer.
func (w *whatIf) sides() (subject, peer Member) {
	if w.direction == policy.Egress {
		return w.from, w.to
	}
	return w.to, w.from
}

// nearMisses are those of one direction that is denied: labels first, as they are
// the most precise, then ports, then peers. What an administrator's policy denies has none.
func (x *explainer) nearMisses(d decision, dir policy.Direction) []NearMiss {
	out := []NearMiss{}
	w := &whatIf{x, d.base.world, dir, d.base.from, d.base.to, d.query, d.outcomes[dir][0].Tier}
	subject, peer := w.sides()
	if w.world == nil || w.world.endpoint(subject) == nil || peer.kind == unknownPeer || peer.kind == unknownPod {
		return out
	}
	steps := w.world.eval.Trace(subject.Name, dir, peer.addr(d.query.family), d.query.protocol, d.query.port)
	if w.tier == policy.AdminTier {
		return out
	}
	told := map[policy.RuleID]bool{}
	for _, m := range w.labels() {
		out = append(out, m.NearMiss)
		told[m.rule] = true
	}
	for _, s := range steps {
		if s.Rule.Verdict != policy.Allow || s.Peer == s.Port || told[s.Rule.ID] {
			continue
		}
		m := NearMiss{Policy: s.Rule.ID.Object(), Field: s.Rule.ID.Field}
		if s.Peer {
			if !w.opens(s.Rule) {
				continue
			}
			m.But, m.Says = "port", "allows it on "+ports(w.world.program, s.Rule, w.to, w.query)
		} else {
			m.But, m.Says = "peer", fmt.Sprintf("allows this port for %s", peers(w.world.program, s.Rule))
		}
		out = append(out, m)
	}
	slices.SortStableFunc(out, func(a, b NearMiss) int { return cmp.Compare(rank[a.But], rank[b.But]) })
	return out[:min(len(out), maxNearMisses)]
}

var rank = map[string]int{"label": 0, "port": 1, "peer": 2}

// opens reports whether some port of the rule is allowed: not where a rule goes before it.
func (w *whatIf) opens(r policy.Rule) bool {
	try := func(protocol policy.Protocol, port uint16) bool {
		_, ok := w.allowed(w.world, query{w.query.family, protocol, port})
		return ok
	}
	for _, p := range r.Ports {
		s := w.world.program.Sets[p.Named]
		if s == nil {
			if p.Named == "" && try(p.Protocol, max(p.First, 1)) {
				return true
			}
			continue
		}
		for _, e := range s.Elements {
			if e.Prefix.Addr() == w.to.addr(w.query.family) && try(e.Protocol, e.Port) {
				return true
			}
		}
	}
	return false
}

// allowed reports whether the direction allows a port in a world, whatever is not known.
func (w *whatIf) allowed(in *world, q query) (policy.Why, bool) {
	subject, peer := w.sides()
	outcomes := w.outcomes(in, w.direction, subject, peer, q)
	for _, o := range outcomes {
		if o.Verdict != policy.Allow {
			return policy.Why{}, false
		}
	}
	return outcomes[0].Why, len(outcomes) > 0
}
