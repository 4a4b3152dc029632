//go:build admission

package admission

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tierwall/tierwall/api/v1alpha1"
)

func namespaceObject(name string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
}

// forbids is a Guardrail against policies whose name is the word.
func forbids(name, word, namespace string) *v1alpha1.Guardrail {
	return &v1alpha1.Guardrail{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.GuardrailSpec{
		Namespaces: []string{namespace},
		Rego: `package tierwall.guardrails.` + strings.ReplaceAll(name, "-", "_") + `

deny contains "this name is taken" if input.request.name == "` + word + `"
`}}
}

func TestGuardrailsComeIntoForceWithoutARestart(t *testing.T) {
	shop(t, "reload")
	policy := func() error {
		return world.admin.Create(t.Context(), toTier("reload", "secret", "backend", fromTier("frontend")), client.DryRunAll)
	}
	if err := policy(); err != nil {
		t.Fatalf("before the guardrail: %v", err)
	}
	g := forbids("no-secrets", "secret", "reload")
	create(t, g)
	becomes(t, "in force", func() error {
		if err := policy(); err == nil || !strings.Contains(err.Error(), "this name is taken (Guardrail no-secrets") {
			return errors.New("the answer is " + fmt.Sprint(err))
		}
		return nil
	})
	becomes(t, "reported", func() error { return condition(t, g, "Active", metav1.ConditionTrue, "InForce") })
	g.Spec.Rego = forbids("no-secrets", "public", "reload").Spec.Rego
	if err := world.admin.Update(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	becomes(t, "changed", policy)
}

func becomes(t *testing.T, what string, try func() error) {
	t.Helper()
	if err := eventually(t.Context(), try); err != nil {
		t.Errorf("%s: %v", what, err)
	}
}

// condition checks a condition of a Guardrail or TierRole, whose newest version it reads.
func condition(t *testing.T, o client.Object, kind string, status metav1.ConditionStatus, reason string) error {
	t.Helper()
	if err := world.admin.Get(t.Context(), client.ObjectKeyFromObject(o), o); err != nil {
		return err
	}
	var conditions []metav1.Condition
	switch o := o.(type) {
	case *v1alpha1.Guardrail:
		conditions = o.Status.Conditions
	case *v1alpha1.TierRole:
		conditions = o.Status.Conditions
	}
	c := meta.FindStatusCondition(conditions, kind)
	if c == nil {
		return errors.New("no condition " + kind)
	}
	if c.Status != status || c.Reason != reason || c.ObservedGeneration != o.GetGeneration() {
		return fmt.Errorf("condition %+v of generation %d, want %s %s", c, o.GetGeneration(), status, reason)
	}
	return nil
}

func TestBadGuardrailsAreRefusedWithTheirPlace(t *testing.T) {
	good := `package tierwall.guardrails.hostile

deny contains "x" if `
	for name, c := range map[string]struct{ rego, want string }{
		"syntax":          {good + "this is no Rego\n", ":3:"},
		"another package": {"package data.tierwall.lib\n\ndeny contains \"x\"\n", "package"},
		"network":         {good + `http.send({"method": "GET", "url": "http://example.com"})` + "\n", "http.send"},
		"environment":     {good + `opa.runtime().env.HOME == "x"` + "\n", "opa.runtime"},
		"unsafe variable": {good + "undefined_thing == 1\n", ":3:"},
	} {
		t.Run(name, func(t *testing.T) {
			g := &v1alpha1.Guardrail{ObjectMeta: metav1.ObjectMeta{Name: "hostile"}, Spec: v1alpha1.GuardrailSpec{Rego: c.rego}}
			refusedWith(t, world.admin.Create(t.Context(), g, client.DryRunAll), "Guardrail hostile: spec.rego", c.want)
		})
	}
	unknown := &v1alpha1.Guardrail{ObjectMeta: metav1.ObjectMeta{Name: "unknown"}, Spec: v1alpha1.GuardrailSpec{Library: "no-such-thing"}}
	refusedWith(t, world.admin.Create(t.Context(), unknown), "spec.library", "no-such-thing")
	fine := forbids("good-at-first", "x", "nowhere")
	create(t, fine)
	fine.Spec.Rego = good + "this is no Rego\n"
	refusedWith(t, world.admin.Update(t.Context(), fine), "spec.rego")
}

func TestTierRolesThatCannotBeUnderstoodAreRefused(t *testing.T) {
	circular := &v1alpha1.TierRole{ObjectMeta: metav1.ObjectMeta{Name: "circular"}, Spec: v1alpha1.TierRoleSpec{
		Role: "data", Namespaces: []string{"shop"},
		PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{v1alpha1.RoleLabel: "data"}}}}
	refusedWith(t, world.admin.Create(t.Context(), circular), "TierRole circular: spec.podSelector", "cannot follow from the label that shows it")
}

func TestTierRolesSayWhenTheyConflict(t *testing.T) {
	shop(t, "conflict")
	other := &v1alpha1.TierRole{ObjectMeta: metav1.ObjectMeta{Name: "conflict-z"}, Spec: v1alpha1.TierRoleSpec{
		Role: "backend", Namespaces: []string{"conflict"}, ServiceAccounts: []string{"web"}}}
	create(t, other)
	create(t, pod("conflict", "web", "web"))
	for _, name := range []string{"conflict-z", "conflict-frontend"} {
		tr := &v1alpha1.TierRole{ObjectMeta: metav1.ObjectMeta{Name: name}}
		becomes(t, name, func() error { return condition(t, tr, "Conflicting", metav1.ConditionTrue, "Ambiguous") })
		becomes(t, name, func() error { return condition(t, tr, "Ready", metav1.ConditionTrue, "Understood") })
	}
	calm := &v1alpha1.TierRole{ObjectMeta: metav1.ObjectMeta{Name: "conflict-data"}}
	becomes(t, "conflict-data", func() error { return condition(t, calm, "Conflicting", metav1.ConditionFalse, "NoConflict") })
}
