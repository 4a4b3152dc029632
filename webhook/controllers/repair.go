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

// maxRetryInterval bounds the backoff for a pod that cannot be labelled.
const maxRetryInterval = 10 * time.Minute

// retryDelay is the backoff for a pod that could not be labelled.
type retryDelay struct {
	wait  time.Duration
	until time.Time
}

// repairRoleLabels sets the role label of every pod outside exempt namespaces to its computed role.
// Labels can be wrong after an outage of the webhook, and after TierRoles changed. Pods that cannot be
// labelled are retried with exponential backoff.
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

// nextRepair returns the time until the first retry of a pod, at most resyncInterval.
func (l *Reconciler) nextRepair() time.Duration {
	soonest := resyncInterval
	for _, d := range l.failingPods {
		soonest = min(soonest, time.Until(d.until))
	}
	return max(soonest, 0)
}

// patchRoleLabel sets the role label of the pod. If the name belongs to another pod by now, the webhook refuses a
// label that is wrong for it.
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
