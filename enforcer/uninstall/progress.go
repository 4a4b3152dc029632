package uninstall

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// progress is how many nodes have finished a stage.
type progress struct {
	// observed is false until the DaemonSet's controller has seen the change.
	observed bool
	// wanted is the number of nodes that have to finish.
	wanted int
	// reached describes a node that has finished.
	reached string
	// clean are the nodes that have finished, dirty the others, with the reason.
	clean []string
	dirty map[string]string
}

// progressOf returns the progress of a stage, from the state of a DaemonSet and its pods.
func progressOf(s stage, ds *appsv1.DaemonSet, pods []corev1.Pod) progress {
	p := progress{
		observed: ds.Status.ObservedGeneration >= ds.Generation,
		reached:  s.reached,
		wanted:   int(ds.Status.DesiredNumberScheduled),
		dirty:    map[string]string{},
	}
	clean := map[string]bool{}
	for _, pod := range pods {
		if node := pod.Spec.NodeName; s.changed(pod) && pod.DeletionTimestamp == nil && s.done(pod) {
			clean[node] = true
		} else {
			p.dirty[node] = s.pendingReason(pod)
		}
	}
	for node := range p.dirty {
		delete(clean, node)
	}
	p.clean = slices.Sorted(maps.Keys(clean))
	return p
}

// isDone reports whether every node has finished.
func (p progress) isDone() bool {
	return p.observed && len(p.dirty) == 0 && len(p.clean) >= p.wanted
}

// String names the nodes that have not finished, and why.
func (p progress) String() string {
	text := fmt.Sprintf("%d of %d nodes are %s", len(p.clean), max(p.wanted, len(p.clean)+len(p.dirty)), p.reached)
	var reasons []string
	for _, node := range slices.Sorted(maps.Keys(p.dirty)) {
		reasons = append(reasons, fmt.Sprintf("%s (%s)", node, p.dirty[node]))
	}
	if len(reasons) > 0 {
		text += ", not " + strings.Join(reasons, ", ")
	}
	return text
}

// pendingReason returns what a pod waits for whose node has not finished the stage.
func (s stage) pendingReason(pod corev1.Pod) string {
	if !s.changed(pod) {
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
