package effect_test

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/policy/effect"
)

// Every field of the effect is a part, or within one.
func TestPartsAreTheFieldsOfTheJSONForm(t *testing.T) {
	text, err := json.Marshal(effect.Effect{})
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(text, &fields); err != nil {
		t.Fatal(err)
	}
	var names []effect.Part
	for name, value := range fields {
		within, ok := value.(map[string]any)
		if !ok {
			names = append(names, effect.Part(name))
		}
		for inner := range within {
			names = append(names, effect.Part(name+"/"+inner))
		}
	}
	slices.Sort(names)
	if !slices.Equal(names, effect.AllParts()) {
		t.Errorf("fields are %v, parts %v", names, effect.AllParts())
	}
}

func TestFilledPartIsNotEmpty(t *testing.T) {
	nothing := effect.Compute(t.Context(), &compile.Snapshot{}, &compile.Snapshot{})
	ref, row := []effect.Ref{{}}, []effect.Row{{}}
	for part, change := range map[effect.Part]func(*effect.Effect){
		"complete":                  func(e *effect.Effect) { e.Complete = false },
		"incomplete":                func(e *effect.Effect) { e.Incomplete = []string{"?"} },
		"truncated":                 func(e *effect.Effect) { e.Truncated = true },
		"added":                     func(e *effect.Effect) { e.Added = row },
		"removed":                   func(e *effect.Effect) { e.Removed = row },
		"newlyIsolated":             func(e *effect.Effect) { e.NewlyIsolated = []effect.Isolation{{}} },
		"noLongerIsolated":          func(e *effect.Effect) { e.NoLongerIsolated = []effect.Isolation{{}} },
		"roles/added":               func(e *effect.Effect) { e.Roles.Added = map[string]map[string][]string{"a": {}} },
		"lint/selectsNothing":       func(e *effect.Effect) { e.Lint.SelectsNothing = true },
		"lint/deadPeers":            func(e *effect.Effect) { e.Lint.DeadPeers = ref },
		"lint/nearMatches":          func(e *effect.Effect) { e.Lint.NearMatches = []effect.NearMatch{{}} },
		"lint/namedPortsUnresolved": func(e *effect.Effect) { e.Lint.NamedPortsUnresolved = ref },
		"lint/shadowedBy":           func(e *effect.Effect) { e.Lint.ShadowedBy = ref },
		"lint/redundantWith":        func(e *effect.Effect) { e.Lint.RedundantWith = ref },
		"lint/priorityTies":         func(e *effect.Effect) { e.Lint.PriorityTies = ref },
	} {
		e := nothing
		change(&e)
		for _, p := range effect.AllParts() {
			if !nothing.IsEmpty(p) || e.IsEmpty(p) != (p != part) {
				t.Errorf("with %s, %s is nothing: %v", part, p, e.IsEmpty(p))
			}
		}
	}
	if nothing.IsEmpty("lint") || nothing.IsEmpty("") {
		t.Error("what is no part is nothing")
	}
}
