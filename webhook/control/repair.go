package control

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/policy/roles"
)

// repair makes every pod's role label show the role that the pod has: after an
// outage of the webhook, and after TierRoles changed.
func (l *Loop) repair(ctx context.Context, snapshot *compile.Snapshot) error {
	computed := roles.New(snapshot.TierRoles)
	return each(snapshot.Pods, func(p **compile.Pod) error {
		pod := *p
		role := computed.Of(pod.Namespace, pod.ServiceAccount, pod.Labels).Role
		shown, has := pod.Labels[v1alpha1.RoleLabel]
		if shown == role && has == (role != "") {
			return nil
		}
		return l.relabel(ctx, pod, role)
	})
}

// relabel changes the role label of this very pod, not of one of its name.
func (l *Loop) relabel(ctx context.Context, pod *compile.Pod, role string) error {
	var value *string // null removes (RFC 7396)
	if role != "" {
		value = &role
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid": pod.UID, "labels": map[string]*string{v1alpha1.RoleLabel: value},
	}})
	if err != nil {
		return err
	}
	target := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name}}
	err = l.Client.Patch(ctx, target, client.RawPatch(types.MergePatchType, patch))
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil // gone, or another pod by now
	}
	if err != nil {
		return fmt.Errorf("label pod %s/%s with its role %q: %w", pod.Namespace, pod.Name, role, err)
	}
	l.Log.InfoContext(ctx, "role label repaired", "pod", pod.Namespace+"/"+pod.Name, "role", role,
		"was", pod.Labels[v1alpha1.RoleLabel])
	return nil
}
