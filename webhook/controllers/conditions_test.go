package controllers

import (
	"errors"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/webhook/bundle"
	"github.com/tierwall/tierwall/webhook/guardrails"
)

func tierRole(name, role, account string) *v1alpha1.TierRole {
	return &v1alpha1.TierRole{ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1alpha1.TierRoleSpec{Role: role, Namespaces: []string{"shop"}, ServiceAccounts: []string{account}}}
}

func TestConflictsAreToldOnBothSides(t *testing.T) {
	s := &compile.Snapshot{
		TierRoles: []*v1alpha1.TierRole{tierRole("a", "data", "pg"), tierRole("b", "backend", "pg"), tierRole("c", "data", "pg"), tierRole("d", "frontend", "web")},
		Pods:      []*compile.Pod{{Namespace: "shop", Name: "db", ServiceAccount: "pg"}, {Namespace: "shop", Name: "web", ServiceAccount: "web"}},
	}
	got := roleConflicts(s)
	for name, want := range map[string]string{"a": "pod shop/db: wins over TierRole b", "b": "pod shop/db: TierRole a wins", "c": "", "d": ""} {
		if text := strings.Join(got[name], ";"); text != want {
			t.Errorf("TierRole %s: %q, want %q", name, text, want)
		}
	}
}

func TestManyConflictsAreCounted(t *testing.T) {
	c := conflictingCondition(tierRole("a", "data", "pg"), []string{"1", "2", "3", "4", "5", "6", "7"})
	if c.Status != metav1.ConditionTrue || !strings.HasSuffix(c.Message, "and 2 more") {
		t.Errorf("condition %+v", c)
	}
}

func TestATierRoleThatIsNotUnderstoodIsNotReady(t *testing.T) {
	if c := readyCondition(tierRole("a", "No Label!", "pg")); c.Status != metav1.ConditionFalse || !strings.Contains(c.Message, "spec.role") {
		t.Errorf("condition %+v", c)
	}
}

func TestGuardrailConditions(t *testing.T) {
	for _, c := range []struct {
		state  guardrails.GuardrailState
		status metav1.ConditionStatus
		reason string
	}{
		{guardrails.GuardrailState{Generation: 2, InForce: 2}, metav1.ConditionTrue, "InForce"},
		{guardrails.GuardrailState{Generation: 2, InForce: 1, Err: errors.New("bad")}, metav1.ConditionFalse, "LastGoodInForce"},
		{guardrails.GuardrailState{Generation: 2, Err: errors.New("bad")}, metav1.ConditionFalse, "Broken"},
	} {
		if got := activeCondition(c.state); got.Status != c.status || got.Reason != c.reason || got.ObservedGeneration != 2 {
			t.Errorf("state %+v: condition %+v, want %s %s", c.state, got, c.status, c.reason)
		}
	}
}

func TestBundleConditions(t *testing.T) {
	for _, c := range []struct {
		state   bundle.PollState
		status  metav1.ConditionStatus
		reason  string
		message string
	}{
		{bundle.PollState{Revision: 7, Polled: true}, metav1.ConditionTrue, "Current", "revision 7"},
		{bundle.PollState{}, metav1.ConditionUnknown, "NotAsked", "not asked"},
		{bundle.PollState{Revision: 7, Polled: true, Err: errors.New("unsigned")}, metav1.ConditionFalse, "LastGoodInForce", "revision 7 stays in force: unsigned"},
		{bundle.PollState{Polled: true, Err: errors.New("unsigned")}, metav1.ConditionFalse, "NoBundle", "unsigned"},
	} {
		if got := bundleCurrentCondition(c.state, 3); got.Status != c.status || got.Reason != c.reason || got.ObservedGeneration != 3 || !strings.Contains(got.Message, c.message) {
			t.Errorf("state %+v: condition %+v", c.state, got)
		}
	}
}
