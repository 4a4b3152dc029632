package uninstall

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// progress says how far the cleaning of the nodes is.
type progress struct {
	// observed is false until the DaemonSet's controller has seen the change.
	observed bool
	// wanted is the number of nodes that have to be clean.
	wanted int
	// clean are the nodes that are, dirty those that are not, with the reason.
	clean []string
	dirty map[string]string
}

// progressOf is how far the cleaning is, by the state of a DaemonSet and its pods.
func progressOf(ds *appsv1.DaemonSet, pods []corev1.Pod) progress {
	p := progress{
		observed: ds.Status.ObservedGeneration >= ds.Generation,
		wanted:   int(ds.Status.DesiredNumberScheduled),
		dirty:    map[string]string{},
	}
	clean := map[string]bool{}
	for _, pod := range pods {
		if node := pod.Spec.NodeName; cleans(pod) && ready(pod) {
			clean[node] = true
		} else {
			p.dirty[node] = why(pod)
		}
	}
	for node := range p.dirty {
		delete(clean, node)
	}
	p.clean = slices.Sorted(maps.Keys(clean))
	return p
}

// done says whether every node is clean.
func (p progress) done() bool {
	return p.observed && len(p.dirty) == 0 && len(p.clean) >= p.wanted
}

// String names the nodes that are not clean, and why.
func (p progress) String() string {
	text := fmt.Sprintf("%d of %d nodes are clean", len(p.clean), max(p.wanted, len(p.clean)+len(p.dirty)))
	var reasons []string
	for _, node := range slices.Sorted(maps.Keys(p.dirty)) {
		reasons = append(reasons, fmt.Sprintf("%s (%s)", node, p.dirty[node]))
	}
	if len(reasons) > 0 {
		text += ", not " + strings.Join(reasons, ", ")
	}
	return text
}

// cleans says whether a pod of the node agents cleans its node.
func cleans(pod corev1.Pod) bool {
	return slices.ContainsFunc(pod.Spec.Containers, func(c corev1.Container) bool {
		return c.Name == agentContainer && len(c.Args) > 0 && c.Args[0] == "cleanup"
	})
}

// ready says whether a pod is ready and is not on its way out.
func ready(pod corev1.Pod) bool {
	return pod.DeletionTimestamp == nil && slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// why says what a pod that has not cleaned its node waits for.
func why(pod corev1.Pod) string {
	if !cleans(pod) {
		return "its agent is still to be replaced"
	}
	for _, status := range pod.Status.ContainerStatuses {
		if ended := status.LastTerminationState.Terminated; ended != nil {
			return fmt.Sprintf("cleanup failed with code %d: %s", ended.ExitCode, strings.TrimSpace(ended.Message))
		}
		if waiting := status.State.Waiting; waiting != nil {
			return strings.TrimSuffix(waiting.Reason+": "+waiting.Message, ": ")
		}
	}
	return "cleanup is under way"
}
