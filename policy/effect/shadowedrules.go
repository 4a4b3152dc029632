package effect

import (
	"context"
	"net/netip"
	"slices"

	"github.com/tierwall/tierwall/policy"
)

// maxIsolatedPolicies bounds the changed policies that are checked for shadowed rules. MaxCompared bounds the
// decisions that are compared for each.
const (
	maxIsolatedPolicies = 16
	maxCompared         = 2_000_000
)

// isolatedPolicy is one policy compiled without the others.
type isolatedPolicy struct {
	id    policy.RuleID
	rules int // count
	*compiledState
}

// compileIsolated compiles each policy as if it were the only one.
func compileIsolated(ctx context.Context, policies []*terms, compiler *stateCompiler) ([]isolatedPolicy, error) {
	var out []isolatedPolicy
	for _, t := range policies[:min(len(policies), maxIsolatedPolicies)] {
		compiled, err := compiler.compileState(ctx, slices.Values([]*terms{t}))
		if err != nil {
			return nil, err
		}
		out = append(out, isolatedPolicy{t.id, t.rules, compiled})
	}
	return out, nil
}

// shadowCheck compares the decisions of one policy alone with those of all policies.
type shadowCheck struct {
	*comparison
	isolated isolatedPolicy
	compared int
	// deciding holds the rules that decide something.
	deciding map[policy.RuleID]bool
	// same and other hold the rules that decide in place of a rule, with its verdict or another one.
	same, other map[policy.RuleID]map[policy.RuleID]bool
	pairs       map[[2]*policy.Class]bool // compared already
}

// addShadowedRules adds the rules that never decide because others do for every peer that they match. Rules that
// match nothing are left out, and so are Pass rules, which never decide.
func (c *comparison) addShadowedRules(l *Lint, policies []isolatedPolicy) {
	for _, p := range policies {
		v := &shadowCheck{comparison: c, isolated: p, deciding: map[policy.RuleID]bool{}, pairs: map[[2]*policy.Class]bool{},
			same: map[policy.RuleID]map[policy.RuleID]bool{}, other: map[policy.RuleID]map[policy.RuleID]bool{}}
		if v.compareVerdicts(p) {
			v.addFindings(l)
		}
	}
}

// compareVerdicts returns false if there is too much to compare.
func (v *shadowCheck) compareVerdicts(p isolatedPolicy) bool {
	peers := v.probeAddresses()
	for _, d := range policy.Directions {
		for _, s := range v.representatives {
			pair := [2]*policy.Class{v.isolated.classes[s][d], v.compiled[stateAfter].classes[s][d]}
			if pair[0] == nil || pair[1] == nil || len(pair[0].Tiers) == 0 || v.pairs[pair] {
				continue // absent, not selected by the policy, or compared already
			}
			v.pairs[pair] = true
			compared := map[[2]int]bool{}
			anyPeer := len(v.isolated.classView(pair[0]).anyPeer) > 0
			for _, a := range peers {
				if !anyPeer && !v.isolated.inAnySet(a) {
					continue // no rule of the policy matches it
				}
				ids := [2]int{v.isolated.equivalenceIDFor(pair[0], a)<<1 | familyOf(a), v.compiled[stateAfter].equivalenceIDFor(pair[1], a)}
				if compared[ids] {
					continue
				}
				compared[ids] = true
				if len(v.deciding) == p.rules {
					return true
				}
				if v.compared += len(v.spans); v.compared > maxCompared || !v.canContinue() {
					return false
				}
				v.comparePeer(p.id, pair, a)
			}
		}
	}
	return v.canContinue()
}

// probeAddresses returns an address of each representative and network.
func (v *shadowCheck) probeAddresses() []netip.Addr {
	var out []netip.Addr
	for _, p := range v.representatives {
		for _, a := range p.addrs {
			if a.IsValid() && p.kinds[stateAfter] != nil {
				out = append(out, a)
			}
		}
	}
	var add func([]*networkNode)
	add = func(ns []*networkNode) {
		for _, n := range ns {
			if n.probe.IsValid() {
				out = append(out, n.probe)
			}
			add(n.children)
		}
	}
	add(v.networks)
	return out
}

func (v *shadowCheck) comparePeer(of policy.RuleID, pair [2]*policy.Class, peer netip.Addr) {
	alone, all := v.newAnswer(v.isolated.compiledState, pair[0], peer), v.answerTo(stateAfter, pair[1], peer)
	for i := range v.spans {
		own := v.decisionFor(alone, i)
		if own.Rule.Kind != of.Kind || own.Rule.Namespace != of.Namespace || own.Rule.Name != of.Name || !decidedByRule(own) {
			continue
		}
		decider := v.decisionFor(all, i)
		switch {
		case own.Rule == decider.Rule:
			v.deciding[own.Rule] = true
		case own.Verdict == decider.Verdict:
			addDecider(v.same, own.Rule, decider.Rule)
		default:
			addDecider(v.other, own.Rule, decider.Rule)
		}
	}
}

// decidedByRule reports whether a rule decided, and not the isolation by its policy.
func decidedByRule(w policy.Why) bool {
	return w.Tier != policy.DefaultTier && (w.Tier != policy.NetworkPolicyTier || w.Verdict == policy.Allow)
}

func addDecider(in map[policy.RuleID]map[policy.RuleID]bool, rule, decider policy.RuleID) {
	if in[rule] == nil {
		in[rule] = map[policy.RuleID]bool{}
	}
	in[rule][decider] = true
}

func (v *shadowCheck) addFindings(l *Lint) {
	list := func(in map[policy.RuleID]map[policy.RuleID]bool, unless map[policy.RuleID]map[policy.RuleID]bool) (out []Ref) {
		for rule, deciders := range in {
			if v.deciding[rule] || unless[rule] != nil {
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
