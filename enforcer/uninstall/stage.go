package uninstall

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

const (
	// agentContainer is the container that writes a node's rules.
	agentContainer = "enforcer"
	// cniContainer is the one that keeps the CNI plugin installed, where there is one.
	cniContainer = "cni"
)

// stage is a step of the uninstall on every node: a change of the node agents' pods, and a condition to wait for.
type stage struct {
	// reached describes a node that has finished.
	reached string
	// change changes the containers of the pods, and reports whether there is anything to do.
	change func([]corev1.Container) (bool, error)
	// changed reports whether a pod was created after the change.
	changed func(corev1.Pod) bool
	// done reports whether such a pod has done its work.
	done func(corev1.Pod) bool
}

// unchaining takes the CNI plugin out of the node's network, with the agent still there.
var unchaining = stage{
	reached: "without the CNI plugin",
	change: func(containers []corev1.Container) (bool, error) {
		c := findContainer(containers, cniContainer)
		if c == nil {
			return false, nil
		}
		if c.Args = []string{"remove", "--stay"}; c.ReadinessProbe != nil && c.ReadinessProbe.Exec != nil {
			probe := c.ReadinessProbe.Exec.Command
			c.ReadinessProbe.Exec.Command = append(probe[:1:1], "check-removed")
		}
		return true, nil
	},
	changed: func(pod corev1.Pod) bool { return runsCommand(pod, cniContainer, "remove") },
	done: func(pod corev1.Pod) bool {
		return slices.ContainsFunc(pod.Status.ContainerStatuses, func(s corev1.ContainerStatus) bool { return s.Name == cniContainer && s.Ready })
	},
}

// cleaning removes the rules. Its pods are ready when the node is clean.
var cleaning = stage{
	reached: "clean",
	change: func(containers []corev1.Container) (bool, error) {
		c := findContainer(containers, agentContainer)
		if c == nil {
			return false, fmt.Errorf("it has no container %s", agentContainer)
		}
		c.Args = cleanupArgs(c.Args)
		return true, nil
	},
	changed: func(pod corev1.Pod) bool { return runsCommand(pod, agentContainer, "cleanup") },
	done: func(pod corev1.Pod) bool {
		return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
		})
	},
}

func findContainer(containers []corev1.Container, name string) *corev1.Container {
	if i := slices.IndexFunc(containers, func(c corev1.Container) bool { return c.Name == name }); i >= 0 {
		return &containers[i]
	}
	return nil
}

// runsCommand reports whether a pod's container runs this command of its program.
func runsCommand(pod corev1.Pod, name, command string) bool {
	c := findContainer(pod.Spec.Containers, name)
	return c != nil && len(c.Args) > 0 && c.Args[0] == command
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
