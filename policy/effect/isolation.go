package effect

import (
	"slices"

	"github.com/tierwall/tierwall/policy"
)

// isolationChanges returns the subjects that NetworkPolicies select in one state and not in the other. They are
// merged and cut off as rows are.
func (c *comparison) isolationChanges(from, to clusterState) (out []Isolation, truncated bool) {
	type key struct {
		direction policy.Direction
		sideKey
	}
	merged := map[key]int{}
	var coarse []Isolation
	for _, d := range policy.Directions {
		for _, s := range c.representatives {
			if s.kinds[from] == nil || s.kinds[to] == nil || isIsolated(c.compiled[from].classes[s][d]) || !isIsolated(c.compiled[to].classes[s][d]) {
				continue
			}
			one := Isolation{Direction: directionOf[d], Subject: c.describePeer(s, to)}
			out = append(out, one)
			k := key{d, c.sideKey(s, to)}
			if i, ok := merged[k]; ok {
				coarse[i].Subject = commonPeer(coarse[i].Subject, one.Subject)
				continue
			}
			merged[k] = len(coarse)
			coarse = append(coarse, one)
		}
	}
	if len(out) > MaxRows {
		out = coarse
	}
	if len(out) > MaxRows {
		out, truncated = out[:MaxRows], true
	}
	slices.SortFunc(out, compareIsolations)
	return out, truncated
}

func isIsolated(c *policy.Class) bool {
	return c != nil && slices.ContainsFunc(c.Tiers, func(t policy.Tier) bool { return t.Name == policy.NetworkPolicyTier })
}
