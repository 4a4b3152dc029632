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
// and waits for all of them.
func (u *Uninstaller) cleanNodes(ctx context.Context) error {
	err := u.turnToCleaning(ctx)
	if apierrors.IsNotFound(err) {
		u.Log.Info("there are no node agents: no node to clean", "daemonSet", u.DaemonSet)
		return nil
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
		return fmt.Errorf("%s; bring these nodes back and uninstall again, or uninstall with --no-hooks "+
			"and restart them to be rid of their rules: %w", state, err)
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
