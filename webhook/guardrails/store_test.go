package guardrails

import (
	"log/slog"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/rego"
)

// newGuardrail returns a Guardrail that denies if the body holds; its message is "no".
func newGuardrail(name, body string) *v1alpha1.Guardrail {
	g := &v1alpha1.Guardrail{Spec: v1alpha1.GuardrailSpec{Enforcement: v1alpha1.EnforceDeny,
		Rego: "package tierwall.guardrails." + name + "\n\ndeny contains \"no\" if {\n\t" + body + "\n}\n"}}
	g.Name, g.UID, g.Generation = name, types.UID("uid-"+name), 1
	return g
}

// newLoadedStore returns a store with the guardrails in force.
func newLoadedStore(t *testing.T, guardrails ...*v1alpha1.Guardrail) *GuardrailStore {
	t.Helper()
	s := NewGuardrailStore(nil, slog.New(slog.DiscardHandler))
	s.Load(t.Context(), guardrails)
	return s
}

func judgeDenials(t *testing.T, s *GuardrailStore, namespace string) []rego.Violation {
	t.Helper()
	in := rego.Input{Source: rego.Admission, Namespace: rego.Namespace{Name: namespace},
		Request: rego.Request{Kind: rego.GroupVersionKind{Kind: "NetworkPolicy"}}}
	got, err := s.Judge(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	return got.Denials
}

// newBrokenGuardrail returns a Guardrail that does not compile.
func newBrokenGuardrail(name string, generation int64) *v1alpha1.Guardrail {
	g := newGuardrail(name, "this is no Rego")
	g.Generation = generation
	return g
}

func TestLoadReplacesGuardrails(t *testing.T) {
	s := newLoadedStore(t, newGuardrail("a", "true"))
	if got := judgeDenials(t, s, "shop"); len(got) != 1 || got[0].Guardrail != "a" {
		t.Errorf("denials %+v, want one of a", got)
	}
	s.Load(t.Context(), nil)
	if got := judgeDenials(t, s, "shop"); len(got) != 0 {
		t.Errorf("denials %+v, want none", got)
	}
}

func TestLastGoodVersionStaysInForce(t *testing.T) {
	s := newLoadedStore(t, newGuardrail("a", "true"))
	s.Load(t.Context(), []*v1alpha1.Guardrail{newBrokenGuardrail("a", 2)})
	if got := judgeDenials(t, s, "shop"); len(got) != 1 || got[0].Message != "no" {
		t.Errorf("denials %+v, want those of generation 1", got)
	}
	state, ok := s.State("uid-a")
	if !ok || state.Err == nil || state.InForce != 1 || state.Generation != 2 {
		t.Errorf("state %+v, want generation 1 in force and 2 refused", state)
	}
	s.Load(t.Context(), []*v1alpha1.Guardrail{newBrokenGuardrail("a", 3)})
	if got := judgeDenials(t, s, "shop"); len(got) != 1 || got[0].Message != "no" {
		t.Errorf("denials %+v, want those of generation 1 still", got)
	}
}

func TestBrokenGuardrailRefusesByName(t *testing.T) {
	bad := newBrokenGuardrail("bad", 1)
	bad.Spec.Namespaces = []string{"shop"}
	s := newLoadedStore(t, bad, newGuardrail("good", "false"))
	got := judgeDenials(t, s, "shop")
	if len(got) != 1 || got[0].Guardrail != "bad" || !strings.Contains(got[0].Message, "does not compile") {
		t.Errorf("denials %+v, want one of bad", got)
	}
	if got := judgeDenials(t, s, "test"); len(got) != 0 {
		t.Errorf("denials %+v in a namespace that it is not about", got)
	}
	bad.Spec.Enforcement = v1alpha1.EnforceWarn
	s.Load(t.Context(), []*v1alpha1.Guardrail{bad})
	if got := judgeDenials(t, s, "shop"); len(got) != 0 {
		t.Errorf("denials %+v of one that only warns", got)
	}
}

func TestRecreatedGuardrailHasNoLastGoodVersion(t *testing.T) {
	s := newLoadedStore(t, newGuardrail("a", "false"))
	again := newBrokenGuardrail("a", 1)
	again.UID = "uid-again"
	s.Load(t.Context(), []*v1alpha1.Guardrail{again})
	if got := judgeDenials(t, s, "shop"); len(got) != 1 || !strings.Contains(got[0].Message, "does not compile") {
		t.Errorf("denials %+v, want one", got)
	}
}

func TestGuardrailWithoutBundleIsBroken(t *testing.T) {
	g := &v1alpha1.Guardrail{Spec: v1alpha1.GuardrailSpec{Bundle: "no-telnet"}}
	g.Name, g.UID, g.Generation = "g", "uid-g", 1
	s := newLoadedStore(t, g)
	if got := judgeDenials(t, s, "shop"); len(got) != 1 || !strings.Contains(got[0].Message, "there is no bundle") {
		t.Errorf("denials %+v, want one of a broken guardrail", got)
	}
}

func TestUnchangedGuardrailIsNotPreparedAgain(t *testing.T) {
	a := newGuardrail("a", "true")
	s := newLoadedStore(t, a)
	before := s.lastGood[a.UID].Prepared
	s.Load(t.Context(), []*v1alpha1.Guardrail{a, newGuardrail("b", "true")})
	if s.lastGood[a.UID].Prepared != before {
		t.Error("it was prepared again")
	}
	changed := newGuardrail("a", "false")
	changed.Generation = 2
	s.Load(t.Context(), []*v1alpha1.Guardrail{changed})
	if got := judgeDenials(t, s, "shop"); len(got) != 0 {
		t.Errorf("denials %+v, want none of generation 2", got)
	}
}
