package effect

import (
	"maps"
	"slices"
)

// Part is a part of an effect by its place in the JSON form, such as "added" or "lint/deadPeers".
type Part string

// These parts tell how much of the effect is known.
const (
	Complete   Part = "complete"
	Incomplete Part = "incomplete"
	Truncated  Part = "truncated"
)

// partIsEmpty reports, for each part, whether it is as in the effect of a change that does nothing.
var partIsEmpty = map[Part]func(*Effect) bool{
	Complete:                    func(e *Effect) bool { return e.Complete },
	Incomplete:                  func(e *Effect) bool { return len(e.Incomplete) == 0 },
	Truncated:                   func(e *Effect) bool { return !e.Truncated },
	"added":                     func(e *Effect) bool { return len(e.Added) == 0 },
	"removed":                   func(e *Effect) bool { return len(e.Removed) == 0 },
	"newlyIsolated":             func(e *Effect) bool { return len(e.NewlyIsolated) == 0 },
	"noLongerIsolated":          func(e *Effect) bool { return len(e.NoLongerIsolated) == 0 },
	"roles/added":               func(e *Effect) bool { return len(e.Roles.Added) == 0 },
	"lint/selectsNothing":       func(e *Effect) bool { return !e.Lint.SelectsNothing },
	"lint/deadPeers":            func(e *Effect) bool { return len(e.Lint.DeadPeers) == 0 },
	"lint/nearMatches":          func(e *Effect) bool { return len(e.Lint.NearMatches) == 0 },
	"lint/namedPortsUnresolved": func(e *Effect) bool { return len(e.Lint.NamedPortsUnresolved) == 0 },
	"lint/shadowedBy":           func(e *Effect) bool { return len(e.Lint.ShadowedBy) == 0 },
	"lint/redundantWith":        func(e *Effect) bool { return len(e.Lint.RedundantWith) == 0 },
	"lint/priorityTies":         func(e *Effect) bool { return len(e.Lint.PriorityTies) == 0 },
}

// AllParts returns all parts, sorted.
func AllParts() []Part { return slices.Sorted(maps.Keys(partIsEmpty)) }

// IsKnown reports whether an effect has such a part.
func (p Part) IsKnown() bool { return partIsEmpty[p] != nil }

// IsEmpty reports whether a part is as in the effect of a change that does nothing. It is false for an unknown part.
func (e *Effect) IsEmpty(p Part) bool { return p.IsKnown() && partIsEmpty[p](e) }
