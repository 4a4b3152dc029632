package controllers

import (
	"context"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/policy/roles"
)

// updateTierRoles writes the status of every TierRole.
func (l *Reconciler) updateTierRoles(ctx context.Context, snapshot *compile.Snapshot) error {
	list := &v1alpha1.TierRoleList{}
	if err := l.listObjects(ctx, list); err != nil {
		return err
	}
	conflicts := roleConflicts(snapshot)
	return forEach(list.Items, func(tr *v1alpha1.TierRole) error {
		before := tr.DeepCopy()
		meta.SetStatusCondition(&tr.Status.Conditions, readyCondition(tr))
		meta.SetStatusCondition(&tr.Status.Conditions, conflictingCondition(tr, conflicts[tr.Name]))
		return l.writeStatus(ctx, before, tr)
	})
}

// roleConflicts returns, by TierRole, texts about the pods to which another TierRole gives another role.
func roleConflicts(snapshot *compile.Snapshot) map[string][]string {
	computed := roles.New(snapshot.TierRoles)
	out := map[string][]string{}
	for _, pod := range snapshot.Pods {
		m := computed.Of(pod.Namespace, pod.ServiceAccount, pod.Labels)
		for _, other := range m.Conflicts {
			key := pod.Namespace + "/" + pod.Name
			out[m.TierRole] = append(out[m.TierRole], fmt.Sprintf("pod %s: wins over TierRole %s", key, other))
			out[other] = append(out[other], fmt.Sprintf("pod %s: TierRole %s wins", key, m.TierRole))
		}
	}
	return out
}

func readyCondition(tr *v1alpha1.TierRole) metav1.Condition {
	c := metav1.Condition{Type: "Ready", ObservedGeneration: tr.Generation,
		Status: metav1.ConditionTrue, Reason: "Understood", Message: "binds pods"}
	if errs := roles.Validate(tr); len(errs) > 0 {
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, "Invalid", "binds no pods: "+errs.ToAggregate().Error()
	}
	return c
}

func conflictingCondition(tr *v1alpha1.TierRole, conflicts []string) metav1.Condition {
	c := metav1.Condition{Type: "Conflicting", ObservedGeneration: tr.Generation,
		Status: metav1.ConditionFalse, Reason: "NoConflict", Message: "no other TierRole of the same kind gives its pods another role"}
	if len(conflicts) == 0 {
		return c
	}
	slices.Sort(conflicts)
	const shown = 5
	text := strings.Join(conflicts[:min(shown, len(conflicts))], "; ")
	if more := len(conflicts) - shown; more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	c.Status, c.Reason, c.Message = metav1.ConditionTrue, "Ambiguous", text
	return c
}

// writeStatus patches the status of an object if it changed.
func (l *Reconciler) writeStatus(ctx context.Context, before, now client.Object) error {
	patch := client.MergeFrom(before)
	data, err := patch.Data(now)
	if err != nil {
		return err
	}
	if string(data) == "{}" {
		return nil
	}
	err = l.Client.Status().Patch(ctx, now, patch)
	if err = client.IgnoreNotFound(err); err != nil && !apierrors.IsConflict(err) {
		return fmt.Errorf("write the status of %T %s: %w", now, now.GetName(), err)
	}
	return nil
}
