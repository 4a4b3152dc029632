package uninstall

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestProgress(t *testing.T) {
	now := metav1.Now()
	leaving := cleaner("a", true)
	leaving.DeletionTimestamp = &now
	failing := cleaner("a", false)
	failing.Status.ContainerStatuses = []corev1.ContainerStatus{{
		LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 1, Message: "iptables: locked\n"}},
	}}
	noImage := cleaner("a", false)
	noImage.Status.ContainerStatuses = []corev1.ContainerStatus{{
		State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ErrImagePull", Message: "no such image"}},
	}}
	tests := []struct {
		name string
		pods []*corev1.Pod
		done bool
		says string
	}{
		{"all clean", []*corev1.Pod{cleaner("a", true), cleaner("b", true)}, true, "2 of 2 nodes are clean"},
		{"one not started", []*corev1.Pod{cleaner("a", true)}, false, "1 of 2 nodes are clean"},
		{"one under way", []*corev1.Pod{cleaner("a", true), cleaner("b", false)}, false, "not b (cleanup is under way)"},
		{"one still enforces", []*corev1.Pod{cleaner("a", true), agent("b")}, false, "not b (its agent is still to be replaced)"},
		{"an agent beside the cleaner could write again", []*corev1.Pod{agent("a"), cleaner("a", true), cleaner("b", true)}, false, "not a (its agent is still to be replaced)"},
		{"a cleaner on its way out is no proof", []*corev1.Pod{leaving, cleaner("b", true)}, false, "1 of 2"},
		{"cleanup fails", []*corev1.Pod{failing, cleaner("b", true)}, false, "not a (cleanup failed with code 1: iptables: locked)"},
		{"no image", []*corev1.Pod{noImage, cleaner("b", true)}, false, "not a (ErrImagePull: no such image)"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var pods []corev1.Pod
			for _, pod := range test.pods {
				pods = append(pods, *pod)
			}
			p := progressOf(cleaning, agents(2), pods)
			if p.isDone() != test.done {
				t.Errorf("done %t, want %t", p.isDone(), test.done)
			}
			if !strings.Contains(p.String(), test.says) {
				t.Errorf("says %q, want %q", p, test.says)
			}
		})
	}
}

func TestProgressWaitsForTheController(t *testing.T) {
	ds := agents(0)
	ds.Generation = 2
	if progressOf(cleaning, ds, nil).isDone() {
		t.Error("done before the DaemonSet's controller has seen the change")
	}
}
