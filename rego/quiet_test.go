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

// Those that are not asked about a change without effect would have said nothing.
func TestWhoIsNotAskedHasNothingToSay(t *testing.T) {
	nothing := effect.Of(t.Context(), &compile.Snapshot{}, &compile.Snapshot{})
	var loud []string
	for _, e := range Library() {
		p, err := Prepare(t.Context(), &v1alpha1.Guardrail{ObjectMeta: metav1.ObjectMeta{Name: e.Name}, Spec: v1alpha1.GuardrailSpec{Library: e.Name}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if !p.quiet {
			loud = append(loud, e.Name)
			continue
		}
		for _, kind := range []string{"NetworkPolicy", "ClusterNetworkPolicy", "TierRole", "Pod", "Namespace", "Binding"} {
			object := json.RawMessage(`{"kind":"` + kind + `","metadata":{"name":"x","namespace":"prod"}}`)
			for operation, in := range map[string]Input{"CREATE": {Object: object}, "UPDATE": {Object: object, OldObject: object}, "DELETE": {OldObject: object}} {
				for _, in.Source = range []Source{Admission, Audit, CLI} {
					in.Request, in.Effect = Request{Kind: GroupVersionKind{Kind: kind}, Operation: operation, Name: "x"}, nothing
					document, err := in.document()
					if err != nil {
						t.Fatal(err)
					}
					if a := p.ask(t.Context(), document, 1); a.failure != nil || len(a.denials)+len(a.warnings) > 0 {
						t.Errorf("%s says of the %s of a %s without effect: %+v", e.Name, operation, kind, a)
					}
				}
			}
		}
	}
	if !slices.Contains(loud, "owner-required") || slices.Contains(loud, "tier-order") || len(loud) > 5 {
		t.Errorf("asked about everything are %v", loud)
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
	got, err := e.Judge(t.Context(), Input{Effect: effect.Of(t.Context(), &compile.Snapshot{}, &compile.Snapshot{})})
	if err != nil || len(got.Denials) != 1 {
		t.Errorf("got %+v, %v, want one denial", got, err)
	}
}
