package effect

import "github.com/tierwall/tierwall/policy/compile"

// Of is the effect of a change: the cluster as it is, and as it would be. Neither is changed.
func Of(before, after *compile.Snapshot) Effect {
	return unknown("effects are not computed yet")
}

// unknown is the effect of a change that nothing is known of.
func unknown(why string) Effect {
	return Effect{
		Incomplete: []string{why}, Added: []Row{}, Removed: []Row{},
		NewlyIsolated: []Isolation{}, NoLongerIsolated: []Isolation{},
		Roles: Roles{Added: map[string]map[string][]string{}},
		Lint: Lint{DeadPeers: []Ref{}, NamedPortsUnresolved: []Ref{}, ShadowedBy: []Ref{},
			RedundantWith: []Ref{}, PriorityTies: []Ref{}},
	}
}
