// Package uninstall removes tierwall from a cluster completely. Helm runs
// it in two hooks: Prepare before it deletes the release's objects, Finish
// after.
//
// A node agent that stops leaves its last program in force, so the nodes have
// to be cleaned while the agents are still there. The CustomResourceDefinitions
// have to stay until Helm has deleted the release's own objects of their kinds.
package uninstall

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Uninstaller removes one release of tierwall from a cluster.
type Uninstaller struct {
	// Client reads from the API server itself, not from a cache.
	Client client.Client
	// Release and Namespace are the Helm release's.
	Release, Namespace string
	// DaemonSet is the name of the node agents' DaemonSet.
	DaemonSet string
	// Secrets and Leases are names of objects in the namespace that are no
	// objects of the release and go with it.
	Secrets, Leases []string
	// KeepCRDs leaves the CustomResourceDefinitions, and with them every
	// TierRole and Guardrail.
	KeepCRDs bool
	// Poll is the interval between checks of what is awaited.
	Poll time.Duration
	Log  *slog.Logger
}

// Prepare stops admission control by tierwall and removes its rules from every
// node. It returns when the nodes are clean, or with an error that names those
// that are not when ctx ends. Where the agents' DaemonSet is gone it fails at
// once and says how to clean the nodes by hand.
func (u *Uninstaller) Prepare(ctx context.Context) error {
	// First: nothing else may depend on webhooks that are about to go.
	if err := u.deleteAdmission(ctx); err != nil {
		return err
	}
	return u.cleanNodes(ctx)
}

// Finish removes what the release's objects leave behind once Helm has deleted
// them: secrets, leases and CustomResourceDefinitions.
func (u *Uninstaller) Finish(ctx context.Context) error {
	if err := u.awaitPodsGone(ctx); err != nil {
		return err
	}
	if err := u.deleteLeftovers(ctx); err != nil {
		return err
	}
	return u.deleteDefinitions(ctx)
}

// componentLabels select the objects of a component of the release, or of all of it.
func (u *Uninstaller) componentLabels(component string) client.MatchingLabels {
	labels := client.MatchingLabels{
		"app.kubernetes.io/name":     "tierwall",
		"app.kubernetes.io/instance": u.Release,
	}
	if component != "" {
		labels["app.kubernetes.io/component"] = component
	}
	return labels
}

// deleteObject deletes an object that may be gone already.
func (u *Uninstaller) deleteObject(ctx context.Context, what string, object client.Object) error {
	err := u.Client.Delete(ctx, object)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("delete %s %s: %w", what, object.GetName(), err)
	}
	u.Log.Info("deleted", "kind", what, "name", object.GetName())
	return nil
}

// pollUntil polls until done returns true, or ctx ends. It continues after errors, as of an API server that does not
// answer for a moment.
func (u *Uninstaller) pollUntil(ctx context.Context, done wait.ConditionWithContextFunc) error {
	var last error
	err := wait.PollUntilContextCancel(ctx, u.Poll, true, func(ctx context.Context) (bool, error) {
		ok, err := done(ctx)
		if ctx.Err() == nil {
			last = err
		}
		return ok && err == nil, nil
	})
	return errors.Join(err, last)
}

// awaitPodsGone waits for the release's pods to end, so that none of them
// makes anew what is deleted next.
func (u *Uninstaller) awaitPodsGone(ctx context.Context) error {
	var left int
	err := u.pollUntil(ctx, func(ctx context.Context) (bool, error) {
		left = 0
		for _, component := range []string{"webhook", "enforcer"} {
			var pods corev1.PodList
			if err := u.Client.List(ctx, &pods, client.InNamespace(u.Namespace), u.componentLabels(component)); err != nil {
				return false, err
			}
			left += len(pods.Items)
		}
		return left == 0, nil
	})
	if err != nil {
		return fmt.Errorf("wait for the %d pods of release %s to end: %w", left, u.Release, err)
	}
	return nil
}

// daemonSet reads the node agents' DaemonSet.
func (u *Uninstaller) daemonSet(ctx context.Context) (*appsv1.DaemonSet, error) {
	var ds appsv1.DaemonSet
	key := client.ObjectKey{Namespace: u.Namespace, Name: u.DaemonSet}
	if err := u.Client.Get(ctx, key, &ds); err != nil {
		return nil, fmt.Errorf("read DaemonSet %s: %w", key, err)
	}
	return &ds, nil
}
