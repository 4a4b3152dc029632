package webhook

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tierwall/tierwall/api/v1alpha1"
)

func TestTierRolesThatCannotBeUnderstood(t *testing.T) {
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
			h := &TierRoles{Court: court(shop(), engine(t)), Decoder: decoder}
			answers(t, h.Handle(t.Context(), request("CREATE", "TierRole", "", nil, tierRole("x", c.spec))), c.allowed, c.message)
		})
	}
}

func TestGuardrailsThatCannotComeIntoForce(t *testing.T) {
	for _, c := range []struct {
		name    string
		g       *v1alpha1.Guardrail
		allowed bool
		message string
	}{
		{"sound", guardrail("a", "deny", "true"), true, ""},
		{"no Rego", guardrail("a", "deny", "this is no Rego"), false, ":4:"},
		{"unknown library", &v1alpha1.Guardrail{Spec: v1alpha1.GuardrailSpec{Library: "no-such"}}, false, "spec.library"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := &Guardrails{Decoder: decoder, Limit: 5 * time.Second}
			answers(t, h.Handle(t.Context(), request("CREATE", "Guardrail", "", nil, c.g)), c.allowed, c.message)
		})
	}
}

func TestObjectsThatGoAreLetGo(t *testing.T) {
	g, tr := guardrail("a", "deny", "this is no Rego"), tierRole("x", v1alpha1.TierRoleSpec{})
	now := metav1.Now()
	g.DeletionTimestamp, tr.DeletionTimestamp = &now, &now
	answers(t, (&Guardrails{Decoder: decoder, Limit: time.Second}).Handle(t.Context(), request("UPDATE", "Guardrail", "", g, g)), true, "")
	answers(t, (&TierRoles{Court: court(shop(), engine(t)), Decoder: decoder}).Handle(t.Context(), request("UPDATE", "TierRole", "", tr, tr)), true, "")
}
