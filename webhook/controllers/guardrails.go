package controllers

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/webhook/bundle"
	"github.com/tierwall/tierwall/webhook/guardrails"
)

// updateGuardrails writes the status of every Guardrail that was loaded.
func (l *Reconciler) updateGuardrails(ctx context.Context) error {
	list := &v1alpha1.GuardrailList{}
	if err := l.listObjects(ctx, list); err != nil {
		return err
	}
	return forEach(list.Items, func(g *v1alpha1.Guardrail) error {
		state, ok := l.States.State(g.UID)
		if !ok || state.Generation != g.Generation {
			return nil // not loaded yet; loading it starts another pass
		}
		before := g.DeepCopy()
		meta.SetStatusCondition(&g.Status.Conditions, activeCondition(state))
		if g.Spec.Bundle != "" && l.Bundle != nil {
			meta.SetStatusCondition(&g.Status.Conditions, bundleCurrentCondition(l.Bundle(), g.Generation))
		} else {
			meta.RemoveStatusCondition(&g.Status.Conditions, bundleCurrent)
		}
		g.Status.ActiveGeneration, g.Status.BundleRevision = state.InForce, max(state.Bundle, g.Status.BundleRevision)
		return l.writeStatus(ctx, before, g)
	})
}

func activeCondition(s guardrails.GuardrailState) metav1.Condition {
	c := metav1.Condition{Type: "Active", ObservedGeneration: s.Generation,
		Status: metav1.ConditionTrue, Reason: "InForce", Message: "in force"}
	switch {
	case s.Err == nil && s.Bundle != 0:
		c.Message = fmt.Sprintf("in force, from bundle revision %d", s.Bundle)
	case s.Err == nil:
	case s.InForce != 0:
		c.Status, c.Reason = metav1.ConditionFalse, "LastGoodInForce"
		c.Message = fmt.Sprintf("generation %d stays in force: %v", s.InForce, s.Err)
	default:
		c.Status, c.Reason = metav1.ConditionFalse, "Broken"
		c.Message = fmt.Sprintf("policy changes in its namespaces are refused: %v", s.Err)
	}
	return c
}

// bundleCurrent is the type of the condition that reports whether the newest bundle of the source is in force.
const bundleCurrent = "BundleCurrent"

func bundleCurrentCondition(s bundle.PollState, generation int64) metav1.Condition {
	c := metav1.Condition{Type: bundleCurrent, ObservedGeneration: generation, Status: metav1.ConditionTrue,
		Reason: "Current", Message: fmt.Sprintf("revision %d", s.Revision)}
	switch {
	case s.Err == nil && s.Revision != 0:
	case s.Err == nil:
		c.Status, c.Reason, c.Message = metav1.ConditionUnknown, "NotAsked", "the bundle was not asked for yet"
	case s.Revision != 0:
		c.Status, c.Reason = metav1.ConditionFalse, "LastGoodInForce"
		c.Message = fmt.Sprintf("revision %d stays in force: %v", s.Revision, s.Err)
	default:
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, "NoBundle", s.Err.Error()
	}
	return c
}
