package effect

import "github.com/tierwall/tierwall/policy/compile"

// Narrowed says whether a change is computed from a part of the cluster.
func Narrowed(before, after *compile.Snapshot) bool {
	m := &Memory{}
	old, now := m.read(before), m.read(after)
	_, _, ok := narrowed(before, after, changed(old, now), now)
	if _, _, labels := relabelled(before, after, now); labels {
		return true
	}
	return ok && onlyNetworkPolicies(before, after)
}
