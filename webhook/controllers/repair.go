package controllers

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/policy/roles"
)

// maxRetryInterval is how long a pod that cannot be labelled is left alone at most.
const maxRetryInterval = 10 * time.Minute

// retryDelay is how long a pod that could not be labelled is left alone, and until when.
type retryDelay struct {
	wait  time.Duration
	until time.Time
}

// repairRoleLabels makes the role label of every pod show the role that the pod has: after
// an outage of the webhook, and after TierRoles changed. Exempt namespaces are
// left alone, as they are at admission. A pod that it fails for is tried again
// after twice the time each time, so that one that is refused costs next to nothing.
func (l *Reconciler) repairRoleLabels(ctx context.Context, snapshot *compile.Snapshot) error {
	computed, failing := roles.New(snapshot.TierRoles), map[types.UID]retryDelay{}
	defer func() { l.failingPods = failing }()
	return forEach(snapshot.Pods, func(p **compile.Pod) error {
		pod := *p
		role := computed.Of(pod.Namespace, pod.ServiceAccount, pod.Labels).Role
		shown, has := pod.Labels[v1alpha1.RoleLabel]
		if shown == role && has == (role != "") || slices.Contains(snapshot.Defaults.Exempt, pod.Namespace) {
			return nil
		}
		d, known := l.failingPods[pod.UID]
		if known && time.Now().Before(d.until) {
			failing[pod.UID] = d
			return nil
		}
		err := l.patchRoleLabel(ctx, pod, role)
		if err != nil {
			wait := min(max(2*d.wait, retryInterval), maxRetryInterval)
			failing[pod.UID] = retryDelay{wait, time.Now().Add(wait)}
		}
		return err
	})
}

// nextRepair is when the first of the pods that could not be labelled is to be tried
// again, but no later than an interval from now.
func (l *Reconciler) nextRepair() time.Duration {
	soonest := resyncInterval
	for _, d := range l.failingPods {
		soonest = min(soonest, time.Until(d.until))
	}
	return max(soonest, 0)
}

// patchRoleLabel changes the role label of the pod. Should another pod have its name by now, admission refuses a label
// that is not true of it.
func (l *Reconciler) patchRoleLabel(ctx context.Context, pod *compile.Pod, role string) error {
	var value *string // null removes (RFC 7396)
	if role != "" {
		value = &role
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": map[string]*string{v1alpha1.RoleLabel: value}}})
	if err != nil {
		return err
	}
	target := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name}}
	err = l.Client.Patch(ctx, target, client.RawPatch(types.MergePatchType, patch))
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("label pod %s/%s with its role %q: %w", pod.Namespace, pod.Name, role, err)
	}
	l.Log.InfoContext(ctx, "role label repaired", "pod", pod.Namespace+"/"+pod.Name, "role", role,
		"was", pod.Labels[v1alpha1.RoleLabel])
	return nil
}
