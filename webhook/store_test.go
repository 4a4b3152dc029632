package webhook

import (
	"testing"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/rego"
)

func denials(t *testing.T, e *GuardrailStore, namespace string) []rego.Violation {
	t.Helper()
	in := rego.Input{Source: rego.Admission, Namespace: rego.Namespace{Name: namespace},
		Request: rego.Request{Kind: rego.GroupVersionKind{Kind: "NetworkPolicy"}}}
	got, err := e.Judge(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	return got.Denials
}

// broken is a Guardrail that does not compile.
func broken(name string, generation int64) *v1alpha1.Guardrail {
	g := guardrail(name, "deny", "this is no Rego")
	g.Generation = generation
	return g
}

func TestGuardrailsComeIntoForceAndGo(t *testing.T) {
	e := engine(t, guardrail("a", "deny", "true"))
	if got := denials(t, e, "shop"); len(got) != 1 || got[0].Guardrail != "a" {
		t.Errorf("denials %+v, want one of a", got)
	}
	e.Load(t.Context(), nil)
	if got := denials(t, e, "shop"); len(got) != 0 {
		t.Errorf("denials %+v, want none", got)
	}
}

func TestABrokenGuardrailLeavesItsLastGoodVersionInForce(t *testing.T) {
	e := engine(t, guardrail("a", "deny", "true"))
	e.Load(t.Context(), []*v1alpha1.Guardrail{broken("a", 2)})
	if got := denials(t, e, "shop"); len(got) != 1 || got[0].Message != "no" {
		t.Errorf("denials %+v, want those of generation 1", got)
	}
	state, ok := e.State("uid-a")
	if !ok || state.Err == nil || state.InForce != 1 || state.Generation != 2 {
		t.Errorf("state %+v, want generation 1 in force and 2 refused", state)
	}
	e.Load(t.Context(), []*v1alpha1.Guardrail{broken("a", 3)})
	if got := denials(t, e, "shop"); len(got) != 1 || got[0].Message != "no" {
		t.Errorf("denials %+v, want those of generation 1 still", got)
	}
}

func TestAGuardrailThatNeverWasGoodRefusesByItsName(t *testing.T) {
	bad := broken("bad", 1)
	bad.Spec.Namespaces = []string{"shop"}
	e := engine(t, bad, guardrail("good", "deny", "false"))
	got := denials(t, e, "shop")
	if len(got) != 1 || got[0].Guardrail != "bad" || !contains(got[0].Message, "does not compile") {
		t.Errorf("denials %+v, want one of bad", got)
	}
	if got := denials(t, e, "test"); len(got) != 0 {
		t.Errorf("denials %+v in a namespace that it is not about", got)
	}
	bad.Spec.Enforcement = v1alpha1.EnforceWarn
	e.Load(t.Context(), []*v1alpha1.Guardrail{bad})
	if got := denials(t, e, "shop"); len(got) != 0 {
		t.Errorf("denials %+v of one that only warns", got)
	}
}

// A Guardrail that was deleted and made anew has no good version before.
func TestANewGuardrailOfTheSameNameIsAnother(t *testing.T) {
	e := engine(t, guardrail("a", "deny", "false"))
	again := broken("a", 1)
	again.UID = "uid-again"
	e.Load(t.Context(), []*v1alpha1.Guardrail{again})
	if got := denials(t, e, "shop"); len(got) != 1 || !contains(got[0].Message, "does not compile") {
		t.Errorf("denials %+v, want one", got)
	}
}

func TestABundleTakesThePlaceOfTheOneBefore(t *testing.T) {
	g := &v1alpha1.Guardrail{Spec: v1alpha1.GuardrailSpec{Bundle: "no-telnet"}}
	g.Name, g.UID, g.Generation = "g", "uid-g", 1
	e := engine(t, g)
	if got := denials(t, e, "shop"); len(got) != 1 || !contains(got[0].Message, "there is no bundle") {
		t.Errorf("denials %+v, want one of a broken guardrail", got)
	}
}

func TestAGuardrailThatDidNotChangeIsNotPreparedAgain(t *testing.T) {
	a := guardrail("a", "deny", "true")
	e := engine(t, a)
	before := e.lastGood[a.UID].Prepared
	e.Load(t.Context(), []*v1alpha1.Guardrail{a, guardrail("b", "deny", "true")})
	if e.lastGood[a.UID].Prepared != before {
		t.Error("it was prepared again")
	}
	changed := guardrail("a", "deny", "false")
	changed.Generation = 2
	e.Load(t.Context(), []*v1alpha1.Guardrail{changed})
	if got := denials(t, e, "shop"); len(got) != 0 {
		t.Errorf("denials %+v, want none of generation 2", got)
	}
}
