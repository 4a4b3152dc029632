package revoke

import (
	"slices"

	"github.com/tierwall/tierwall/policy"
)

// isWider reports whether a class of the next program allows all that another of the program before it allowed, as far as
// that follows from the rules. Sets that rules of both refer to count as unchanged. It may be false for a wider class.
func isWider(program *policy.Program, before, after *policy.Class) bool {
	if before == nil || after == nil {
		return before == nil // no class denies everything
	}
	if allowsNothing(program, before) || allowsEverything(after) {
		return true
	}
	return slices.EqualFunc(before.Tiers, after.Tiers, func(a, b policy.Tier) bool {
		return a.Name == b.Name && a.Else == b.Else && (slices.EqualFunc(a.Rules, b.Rules, matchAlike) || onlyAddsRules(program, a, b))
	})
}

// allowsNothing reports whether a class allows no flow.
func allowsNothing(p *policy.Program, c *policy.Class) bool {
	return !slices.ContainsFunc(c.Tiers, func(t policy.Tier) bool {
		return t.Else.Permits() || slices.ContainsFunc(t.Rules, func(r policy.Rule) bool { return r.Verdict.Permits() && !matchesNothing(p, r) })
	})
}

// allowsEverything reports whether a class allows everything.
func allowsEverything(c *policy.Class) bool {
	for _, t := range c.Tiers {
		for _, r := range t.Rules {
			if !r.Verdict.Permits() {
				return false
			}
			if r.AnyPeer && r.AnyPort {
				return true
			}
		}
		if t.Else != policy.Pass {
			return t.Else.Permits()
		}
	}
	return false
}

// onlyAddsRules reports whether both tiers only allow, so that the order of their rules does not matter, and the second
// has the rules of the first, except those that match nothing.
func onlyAddsRules(p *policy.Program, before, after policy.Tier) bool {
	denies := func(r policy.Rule) bool { return !r.Verdict.Permits() }
	if slices.ContainsFunc(before.Rules, denies) || slices.ContainsFunc(after.Rules, denies) {
		return false
	}
	left := after.Rules // rules are in the order of their objects, so added ones are in between
	for _, r := range before.Rules {
		if matchesNothing(p, r) {
			continue
		}
		i := slices.IndexFunc(left, func(o policy.Rule) bool { return matchAlike(r, o) })
		if i < 0 {
			return false
		}
		left = left[i+1:]
	}
	return true
}

// matchesNothing reports whether the sets of a rule's peers are empty.
func matchesNothing(p *policy.Program, r policy.Rule) bool {
	return !r.AnyPeer && !slices.ContainsFunc(r.Peers, func(id policy.SetID) bool {
		return p.Sets[id] != nil && len(p.Sets[id].Elements) > 0
	})
}

// matchAlike reports whether two rules match the same flows with the same verdict.
func matchAlike(a, b policy.Rule) bool {
	return a.Verdict == b.Verdict && a.AnyPeer == b.AnyPeer && a.AnyPort == b.AnyPort &&
		slices.Equal(a.Peers, b.Peers) && slices.Equal(a.Ports, b.Ports)
}
