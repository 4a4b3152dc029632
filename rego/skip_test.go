package rego

import (
	"encoding/json"
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/policy/effect"
)

// Those that are not asked about a change have nothing to say of it: neither where nothing has
// any effect, nor where everything has but what they look at.
func TestWhoIsNotAskedHasNothingToSay(t *testing.T) {
	nothing := effect.Compute(t.Context(), &compile.Snapshot{}, &compile.Snapshot{})
	var loud, few []string
	for _, e := range Library() {
		p, err := Prepare(t.Context(), &v1alpha1.Guardrail{ObjectMeta: metav1.ObjectMeta{Name: e.Name}, Spec: v1alpha1.GuardrailSpec{Library: e.Name}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if !p.skippable {
			loud = append(loud, e.Name)
			continue
		}
		elsewhere := everything()
		for _, part := range p.parts {
			forget(&elsewhere, part)
		}
		if everything := everything(); p.canSkip(&everything) || !p.canSkip(&nothing) || !p.canSkip(&elsewhere) {
			t.Errorf("%s is asked otherwise than by %v", e.Name, p.parts)
		}
		if len(p.parts) < 7 {
			few = append(few, e.Name)
		}
		for _, kind := range []string{"NetworkPolicy", "ClusterNetworkPolicy", "TierRole", "Pod", "Namespace", "Binding"} {
			object := json.RawMessage(`{"kind":"` + kind + `","metadata":{"name":"x","namespace":"prod"}}`)
			for operation, in := range map[string]Input{"CREATE": {Object: object}, "UPDATE": {Object: object, OldObject: object}, "DELETE": {OldObject: object}} {
				for _, in.Effect = range []effect.Effect{nothing, elsewhere} {
					for _, in.Source = range []Source{Admission, Audit, CLI} {
						in.Request = Request{Kind: GroupVersionKind{Kind: kind}, Operation: operation, Name: "x"}
						if a := asked(t, p, in); a.failure != nil || len(a.denials)+len(a.warnings) > 0 {
							t.Errorf("%s says of the %s of a %s without effect: %+v", e.Name, operation, kind, a)
						}
					}
				}
			}
		}
	}
	if !slices.Contains(loud, "owner-required") || slices.Contains(loud, "tier-order") || len(loud) > 5 {
		t.Errorf("asked about everything are %v", loud)
	}
	if !slices.Contains(few, "dns-stays") || len(few) < 10 {
		t.Errorf("asked about few parts are %v", few)
	}
}

func asked(t *testing.T, p *Prepared, in Input) answer {
	t.Helper()
	document, err := in.toDocument()
	if err != nil {
		t.Fatal(err)
	}
	w, end := startLimiter(t.Context())
	defer end()
	return p.evaluate(w, document, 1)
}

// everything is an effect that has something in every part.
func everything() effect.Effect {
	e := example.Effect
	e.Complete, e.Truncated, e.Incomplete = false, true, []string{"too much"}
	ref := []effect.Ref{{Policy: "NetworkPolicy prod/x", Rule: "/spec/ingress/0", By: "NetworkPolicy prod/y /spec/ingress/0"}}
	e.Removed, e.NoLongerIsolated = e.Added, e.NewlyIsolated
	e.Lint = effect.Lint{SelectsNothing: true, DeadPeers: ref, NearMatches: []effect.NearMatch{{}}, NamedPortsUnresolved: ref, ShadowedBy: ref, RedundantWith: ref, PriorityTies: ref}
	return e
}

// forget has a part of the effect as it is without any.
func forget(e *effect.Effect, part effect.Part) {
	switch part {
	case effect.Complete:
		e.Complete = true
	case effect.Incomplete:
		e.Incomplete = []string{}
	case effect.Truncated:
		e.Truncated = false
	case "added":
		e.Added = []effect.Row{}
	case "removed":
		e.Removed = []effect.Row{}
	case "newlyIsolated":
		e.NewlyIsolated = []effect.Isolation{}
	case "noLongerIsolated":
		e.NoLongerIsolated = []effect.Isolation{}
	case "roles/added":
		e.Roles.Added = map[string]map[string][]string{}
	case "lint/selectsNothing":
		e.Lint.SelectsNothing = false
	case "lint/deadPeers":
		e.Lint.DeadPeers = []effect.Ref{}
	case "lint/namedPortsUnresolved":
		e.Lint.NamedPortsUnresolved = []effect.Ref{}
	case "lint/shadowedBy":
		e.Lint.ShadowedBy = []effect.Ref{}
	case "lint/redundantWith":
		e.Lint.RedundantWith = []effect.Ref{}
	case "lint/priorityTies":
		e.Lint.PriorityTies = []effect.Ref{}
	}
}

// Only of the library is it known what it looks at.
func TestAnybodysRegoIsAskedAboutEverything(t *testing.T) {
	own := &v1alpha1.Guardrail{ObjectMeta: metav1.ObjectMeta{Name: "own"}, Spec: v1alpha1.GuardrailSpec{
		Rego: "package tierwall.guardrails.own\n\ndeny contains \"nothing opens\" if count(input.effect.added) == 0\n"}}
	e, errs := NewEngine(t.Context(), []*v1alpha1.Guardrail{own})
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	got, err := e.Judge(t.Context(), Input{Effect: effect.Compute(t.Context(), &compile.Snapshot{}, &compile.Snapshot{})})
	if err != nil || len(got.Denials) != 1 {
		t.Errorf("got %+v, %v, want one denial", got, err)
	}
}
