package uninstall

import (
	"context"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// cleanNodes makes every node agent remove its rules instead of keeping them,
// and waits for all of them. Without their DaemonSet it fails: rules outlive the
// agents, and nobody but an agent can tell which nodes have some.
func (u *Uninstaller) cleanNodes(ctx context.Context) error {
	err := u.turnToCleaning(ctx)
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("%w; the rules that its agents wrote stay on their nodes: bring the DaemonSet back with "+
			"\"helm rollback %s REVISION -n %s\" (the last of \"helm history\") and uninstall again; or run "+
			"\"enforcer cleanup\" on every node, as docs/operations.md says, and then uninstall with --no-hooks",
			err, u.Release, u.Namespace)
	}
	if err != nil {
		return err
	}
	return u.awaitClean(ctx)
}

// turnToCleaning changes the node agents' DaemonSet to clean its nodes.
func (u *Uninstaller) turnToCleaning(ctx context.Context) error {
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		ds, err := u.daemonSet(ctx)
		if err != nil {
			return err
		}
		if ds, err = cleaning(ds); err != nil {
			return err
		}
		return u.Client.Update(ctx, ds)
	})
	if err != nil {
		return fmt.Errorf("make DaemonSet %s/%s clean its nodes: %w", u.Namespace, u.DaemonSet, err)
	}
	return nil
}

// agentContainer is the container that writes a node's rules.
const agentContainer = "enforcer"

// cleaning is a node agents' DaemonSet whose pods clean their node, all at
// once, and are ready when it is clean.
func cleaning(ds *appsv1.DaemonSet) (*appsv1.DaemonSet, error) {
	ds = ds.DeepCopy()
	containers := ds.Spec.Template.Spec.Containers
	i := slices.IndexFunc(containers, func(c corev1.Container) bool { return c.Name == agentContainer })
	if i < 0 {
		return nil, fmt.Errorf("it has no container %s", agentContainer)
	}
	containers[i].Args = cleanupArgs(containers[i].Args)
	all := intstr.FromString("100%")
	ds.Spec.UpdateStrategy = appsv1.DaemonSetUpdateStrategy{
		Type:          appsv1.RollingUpdateDaemonSetStrategyType,
		RollingUpdate: &appsv1.RollingUpdateDaemonSet{MaxUnavailable: &all},
	}
	return ds, nil
}

// cleanupArgs are the arguments of the command that cleans a node, given those
// of the agent: the same address for the probes, the same log level.
func cleanupArgs(agent []string) []string {
	args := []string{"cleanup", "--stay"}
	for _, arg := range agent {
		name, _, _ := strings.Cut(arg, "=")
		if name == "--health-probe-bind-address" || name == "--log-level" {
			args = append(args, arg)
		}
	}
	return args
}

// awaitClean waits until every node that has an agent is clean.
func (u *Uninstaller) awaitClean(ctx context.Context) error {
	var state progress
	said := ""
	err := u.until(ctx, func(ctx context.Context) (bool, error) {
		current, pods, err := u.agents(ctx)
		if err != nil {
			return false, err
		}
		state = progressOf(current, pods)
		if text := state.String(); text != said {
			u.Log.Info(text)
			said = text
		}
		return state.done(), nil
	})
	if err != nil {
		return fmt.Errorf("%s; bring these nodes back and uninstall again, or uninstall with --no-hooks and be rid "+
			"of their rules by a restart or by \"enforcer cleanup\", as docs/operations.md says: %w", state, err)
	}
	return nil
}

// agents reads the node agents' DaemonSet and pods.
func (u *Uninstaller) agents(ctx context.Context) (*appsv1.DaemonSet, []corev1.Pod, error) {
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
