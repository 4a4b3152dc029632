package admit

import (
	"context"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/rego"
)

func TestInvalidTierRoleIsRefused(t *testing.T) {
	circular := &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: role, Operator: "Exists"}}}
	for _, c := range []struct {
		name    string
		spec    v1alpha1.TierRoleSpec
		allowed bool
		message string
	}{
		{"sound", v1alpha1.TierRoleSpec{Role: "data", Namespaces: []string{"shop"}}, true, ""},
		{"no namespace", v1alpha1.TierRoleSpec{Role: "data"}, false, "spec.namespaces"},
		{"no label value", v1alpha1.TierRoleSpec{Role: "Data!", Namespaces: []string{"shop"}}, false, "spec.role"},
		{"follows from itself", v1alpha1.TierRoleSpec{Role: "data", Namespaces: []string{"shop"}, PodSelector: circular}, false, "spec.podSelector"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := &TierRoleHandler{Reviewer: newReviewer(newShopCluster(), newLoadedStore(t)), Decoder: decoder}
			assertResponse(t, h.Handle(t.Context(), newRequest("CREATE", "TierRole", "", nil, newTierRole("x", c.spec))), c.allowed, c.message)
		})
	}
}

func TestInvalidGuardrailIsRefused(t *testing.T) {
	for _, c := range []struct {
		name    string
		g       *v1alpha1.Guardrail
		allowed bool
		message string
	}{
		{"sound", newGuardrail("a", "deny", "true"), true, ""},
		{"no Rego", newGuardrail("a", "deny", "this is no Rego"), false, ":4:"},
		{"unknown library", &v1alpha1.Guardrail{Spec: v1alpha1.GuardrailSpec{Library: "no-such"}}, false, "spec.library"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := &GuardrailHandler{Reviewer: &Reviewer{Limit: time.Minute}, Decoder: decoder}
			assertResponse(t, h.Handle(t.Context(), newRequest("CREATE", "Guardrail", "", nil, c.g)), c.allowed, c.message)
		})
	}
}

func TestTerminatingInvalidObjectCanBeUpdated(t *testing.T) {
	g, tr := newGuardrail("a", "deny", "this is no Rego"), newTierRole("x", v1alpha1.TierRoleSpec{})
	now := metav1.Now()
	g.DeletionTimestamp, tr.DeletionTimestamp = &now, &now
	assertResponse(t, (&GuardrailHandler{Reviewer: &Reviewer{Limit: time.Minute}, Decoder: decoder}).Handle(t.Context(), newRequest("UPDATE", "Guardrail", "", g, g)), true, "")
	assertResponse(t, (&TierRoleHandler{Reviewer: newReviewer(newShopCluster(), newLoadedStore(t)), Decoder: decoder}).Handle(t.Context(), newRequest("UPDATE", "TierRole", "", tr, tr)), true, "")
}

func TestGuardrailWarnsOfExistingViolations(t *testing.T) {
	warns, audits := newGuardrail("a", "deny", "true"), newGuardrail("a", "deny", "true")
	warns.Spec.Enforcement, audits.Spec.Enforcement = v1alpha1.EnforceWarn, v1alpha1.EnforceAudit
	for _, c := range []struct {
		name     string
		old, now *v1alpha1.Guardrail
		existing []string
		err      error
		warning  string
	}{
		{"nothing", nil, newGuardrail("a", "deny", "true"), nil, nil, ""},
		{"three", nil, newGuardrail("a", "deny", "true"), []string{"x", "y", "z"}, nil, "Guardrail a would deny 3 that exist: x, y, z; they stay as they are"},
		{"many", nil, warns, []string{"1", "2", "3", "4", "5", "6", "7"}, nil, "Guardrail a would warn of 7 that exist: 1, 2, 3, 4, 5 and 2 others; they stay as they are"},
		{"an audit", nil, audits, []string{"x"}, nil, "Guardrail a would find 1 that exist: x; they stay as they are"},
		{"no time", nil, warns, nil, context.DeadlineExceeded, "Guardrail a: what exists could not be judged in time (context deadline exceeded); its status will tell"},
		{"another label", newGuardrail("a", "deny", "true"), newGuardrail("a", "deny", "true"), []string{"x"}, nil, ""},
		{"another spec", newGuardrail("a", "deny", "false"), newGuardrail("a", "deny", "true"), []string{"x"}, nil, "Guardrail a would deny 1 that exist: x; they stay as they are"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := &GuardrailHandler{Reviewer: &Reviewer{Limit: time.Minute}, Decoder: decoder, Existing: func(_ context.Context, e *rego.Engine) ([]string, error) {
				if r, err := e.Judge(t.Context(), rego.Input{}); err != nil || len(r.Denials)+len(r.Warnings)+len(r.Audited) != 1 {
					t.Errorf("asked another guardrail: %+v, %v", r, err)
				}
				return c.existing, c.err
			}}
			var old any
			if c.old != nil {
				old = c.old
			}
			got := h.Handle(t.Context(), newRequest("CREATE", "Guardrail", "", old, c.now))
			assertResponse(t, got, true, "")
			if strings.Join(got.Warnings, "|") != c.warning {
				t.Errorf("warnings %q, want %q", got.Warnings, c.warning)
			}
		})
	}
}
