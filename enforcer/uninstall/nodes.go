package uninstall

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// cleanNodes makes every node agent remove its rules instead of keeping them,
// and waits for all of them; before that, while there still are agents that new pods
// can wait for, it has the CNI plugin removed. Without their DaemonSet it fails: rules
// outlive the agents, and nobody but an agent can tell which nodes have some.
func (u *Uninstaller) cleanNodes(ctx context.Context) error {
	for _, s := range []stage{unchaining, cleaning} {
		if err := u.runStage(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// runStage runs a stage on every node.
func (u *Uninstaller) runStage(ctx context.Context, s stage) error {
	needed, err := u.changeAgents(ctx, s)
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("%w; the rules that its agents wrote stay on their nodes: bring the DaemonSet back with "+
			"\"helm rollback %s REVISION -n %s\" (the last of \"helm history\") and uninstall again; or run "+
			"\"enforcer cleanup\" on every node, as docs/operations.md says, and then uninstall with --no-hooks",
			err, u.Release, u.Namespace)
	}
	if err != nil || !needed {
		return err
	}
	return u.awaitStage(ctx, s)
}

// changeAgents changes the node agents' DaemonSet, to run the stage on all nodes at once. It
// reports whether the stage is needed.
func (u *Uninstaller) changeAgents(ctx context.Context, s stage) (needed bool, err error) {
	err = retry.RetryOnConflict(retry.DefaultRetry, func() error {
		ds, err := u.daemonSet(ctx)
		if err != nil {
			return err
		}
		ds = ds.DeepCopy()
		if needed, err = s.change(ds.Spec.Template.Spec.Containers); err != nil || !needed {
			return err
		}
		all := intstr.FromString("100%")
		ds.Spec.UpdateStrategy = appsv1.DaemonSetUpdateStrategy{
			Type:          appsv1.RollingUpdateDaemonSetStrategyType,
			RollingUpdate: &appsv1.RollingUpdateDaemonSet{MaxUnavailable: &all},
		}
		return u.Client.Update(ctx, ds)
	})
	if err != nil {
		return false, fmt.Errorf("make DaemonSet %s/%s clean its nodes: %w", u.Namespace, u.DaemonSet, err)
	}
	return needed, nil
}

// awaitStage waits until every node with an agent has finished the stage.
func (u *Uninstaller) awaitStage(ctx context.Context, s stage) error {
	var state progress
	said := ""
	err := u.pollUntil(ctx, func(ctx context.Context) (bool, error) {
		current, pods, err := u.readAgents(ctx)
		if err != nil {
			return false, err
		}
		state = progressOf(s, current, pods)
		if text := state.String(); text != said {
			u.Log.Info(text)
			said = text
		}
		return state.isDone(), nil
	})
	if err != nil {
		return fmt.Errorf("%s; bring these nodes back and uninstall again, or uninstall with --no-hooks and remove "+
			"their rules by a restart or by \"enforcer cleanup\", as docs/operations.md says: %w", state, err)
	}
	return nil
}

// readAgents reads the node agents' DaemonSet and pods.
func (u *Uninstaller) readAgents(ctx context.Context) (*appsv1.DaemonSet, []corev1.Pod, error) {
	ds, err := u.daemonSet(ctx)
	if err != nil {
		return nil, nil, err
	}
	selector, err := metav1.LabelSelectorAsSelector(ds.Spec.Selector)
	if err != nil {
		return nil, nil, fmt.Errorf("selector of DaemonSet %s: %w", u.DaemonSet, err)
	}
	var pods corev1.PodList
	err = u.Client.List(ctx, &pods, client.InNamespace(u.Namespace), client.MatchingLabelsSelector{Selector: selector})
	if err != nil {
		return nil, nil, fmt.Errorf("list the pods of DaemonSet %s: %w", u.DaemonSet, err)
	}
	return ds, pods.Items, nil
}
