package effect

import "github.com/tierwall/tierwall/policy/compile"

// IsNarrowed reports whether a change is computed from a part of the cluster.
func IsNarrowed(before, after *compile.Snapshot) bool {
	r := new(policyReader).readPolicies(before, after)
	_, _, ok := narrowToPolicies(before, after, r.changedTerms(), r.now)
	if _, _, labels := narrowToPod(before, after, r.now); labels {
		return true
	}
	return ok && onlyNetworkPolicies(before, after)
}
