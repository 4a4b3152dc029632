package effect

import (
	"context"
	"net/netip"
	"slices"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
)

// maxAlone is how many changed policies are looked at for rules that never decide, and maxCompared how many
// answers of each are compared: what goes beyond is not looked at.
const (
	maxAlone    = 16
	maxCompared = 2_000_000
)

// lone is one policy compiled without the others.
type lone struct {
	id    policy.RuleID
	rules int // how many it has
	*side
}

// alone are the policies, each compiled as if it were the only one.
func alone(ctx context.Context, policies []*terms, compiler *compiler) ([]lone, error) {
	var out []lone
	for _, t := range policies[:min(len(policies), maxAlone)] {
		compiled, err := compiler.side(ctx, slices.Values([]*terms{t}))
		if err != nil {
			return nil, err
		}
		out = append(out, lone{t.id, t.rules, compiled})
	}
	return out, nil
}

// verdicts compares what the rules of one policy would decide alone with who decides.
type verdicts struct {
	*comparison
	alone lone
	// compared is how many answers were.
	compared int
	// alive are the rules that decide something.
	alive map[policy.RuleID]bool
	// same and other are the rules that decide in a rule's place, as it would or otherwise.
	same, other map[policy.RuleID]map[policy.RuleID]bool
	pairs       map[[2]*policy.Class]bool // were compared
}

// shadows finds the rules of policies that never decide, since others do for
// every pod and network that they match. Rules that match nothing are not among
// them, nor are those of Pass, which never decide.
func (c *comparison) shadows(l *Lint, policies []lone) {
	for _, p := range policies {
		v := &verdicts{comparison: c, alone: p, alive: map[policy.RuleID]bool{}, pairs: map[[2]*policy.Class]bool{},
			same: map[policy.RuleID]map[policy.RuleID]bool{}, other: map[policy.RuleID]map[policy.RuleID]bool{}}
		if v.compare(p) {
			v.report(l)
		}
	}
}

// compare is false where there is too much to compare.
func (v *verdicts) compare(p lone) bool {
	peers := v.probes()
	for _, d := range policy.Directions {
		for _, s := range v.members {
			pair := [2]*policy.Class{v.alone.classes[s][d], v.sides[is].classes[s][d]}
			if pair[0] == nil || pair[1] == nil || len(pair[0].Tiers) == 0 || v.pairs[pair] {
				continue // not there, without the policy, or compared already
			}
			v.pairs[pair] = true
			seen := map[[2]int]bool{}
			for _, a := range peers {
				marks := [2]int{v.alone.markFor(pair[0], a)<<1 | familyOf(a), v.sides[is].markFor(pair[1], a)}
				if seen[marks] {
					continue
				}
				seen[marks] = true
				if len(v.alive) == p.rules {
					return true
				}
				if v.compared += len(v.spans); v.compared > maxCompared || !v.goesOn() {
					return false
				}
				v.comparePeer(p.id, pair, a)
			}
		}
	}
	return v.goesOn()
}

// probes are an address of each member, and of each network.
func (v *verdicts) probes() []netip.Addr {
	var out []netip.Addr
	for _, p := range v.members {
		for _, a := range p.addrs {
			if a.IsValid() && p.kinds[is] != nil {
				out = append(out, a)
			}
		}
	}
	var add func([]*network)
	add = func(ns []*network) {
		for _, n := range ns {
			if n.probe.IsValid() {
				out = append(out, n.probe)
			}
			add(n.within)
		}
	}
	add(v.networks)
	return out
}

func (v *verdicts) comparePeer(of policy.RuleID, pair [2]*policy.Class, peer netip.Addr) {
	alone, all := v.answer(v.alone.side, pair[0], peer), v.ask(is, pair[1], peer)
	for i := range v.spans {
		own := v.why(alone, i)
		if own.Rule.Kind != of.Kind || own.Rule.Namespace != of.Namespace || own.Rule.Name != of.Name || !ruled(own) {
			continue
		}
		decider := v.why(all, i)
		switch {
		case own.Rule == decider.Rule:
			v.alive[own.Rule] = true
		case own.Verdict == decider.Verdict:
			note(v.same, own.Rule, decider.Rule)
		default:
			note(v.other, own.Rule, decider.Rule)
		}
	}
}

// ruled reports whether a rule decided, not the isolation by the policy as a whole.
func ruled(w policy.Why) bool {
	return w.Tier != policy.DefaultTier && (w.Tier != policy.NetworkPolicyTier || w.Verdict == policy.Allow)
}

func note(in map[policy.RuleID]map[policy.RuleID]bool, rule, decider policy.RuleID) {
	if in[rule] == nil {
		in[rule] = map[policy.RuleID]bool{}
	}
	in[rule][decider] = true
}

func (v *verdicts) report(l *Lint) {
	list := func(in map[policy.RuleID]map[policy.RuleID]bool, unless map[policy.RuleID]map[policy.RuleID]bool) (out []Ref) {
		for rule, deciders := range in {
			if v.alive[rule] || unless[rule] != nil {
				continue
			}
			for by := range deciders {
				out = append(out, Ref{Policy: rule.Object(), Rule: rule.Field, By: by.String()})
			}
		}
		slices.SortFunc(out, compareRefs)
		return out
	}
	l.RedundantWith = append(l.RedundantWith, list(v.same, v.other)...)
	l.ShadowedBy = append(l.ShadowedBy, list(v.other, nil)...)
}

// ties are the ClusterNetworkPolicies with the tier and the priority of a changed one, whose
// subjects have pods in common: their order follows from their names (and is not defined by the API).
func (u *universe) ties(ctx context.Context, l *Lint, policies []*terms, now map[string]*terms) {
	for _, t := range policies {
		if t.id.Kind != compile.ClusterNetworkPolicyKind {
			continue
		}
		var mine map[*group]bool
		for _, o := range now {
			if ctx.Err() != nil || o == t || o.id.Kind != t.id.Kind || o.tier != t.tier || o.priority != t.priority {
				continue
			}
			if mine == nil {
				mine = u.subjects(t)
			}
			for g := range u.subjects(o) {
				if mine[g] {
					l.PriorityTies = append(l.PriorityTies, Ref{Policy: t.id.Object(), Rule: "/spec/priority", By: o.id.Object()})
					break
				}
			}
		}
	}
	slices.SortFunc(l.PriorityTies, compareRefs)
}

// subjects are the groups that a policy is for after the change, those of pods that could exist among them.
func (u *universe) subjects(t *terms) map[*group]bool {
	out := map[*group]bool{}
	for _, g := range u.matched(t.subject) {
		out[g] = true
	}
	return out
}
