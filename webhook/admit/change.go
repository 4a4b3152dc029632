package admit

import (
	"crypto/sha256"

	corev1 "k8s.io/api/core/v1"

	"github.com/tierwall/tierwall/clustercache"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/policy/effect"
)

// change is what a request does to one object that policy depends on.
type change struct {
	// object is the object's kind, namespace and name.
	object, namespace string
	isNetworkPolicy   bool
	// size is the bytes of the objects in the request.
	size int
	// isNoop is true if nothing of the object changes that policy depends on.
	isNoop bool
	// applyTo returns the snapshot without and with the change.
	applyTo func(*compile.Snapshot) (before, after *compile.Snapshot)
	// variants are the values of the object before and after the change.
	variants []variant
	// current returns the value that a snapshot has.
	current func(*compile.Snapshot) variant
	// same reports whether two values of the object differ in nothing that policy depends on.
	same func(a, b any) bool
	// outcome identifies the object with its value after the change.
	outcome func() outcome
	// shownAfter returns a function that reports whether a snapshot shows the outcome and differs from the given one.
	shownAfter func(*compile.Snapshot) func(*compile.Snapshot) bool
	// matters reports whether the change can open or close anything, without computing its effect.
	matters func(*compile.Snapshot) bool
}

// outcome identifies an object with a value. It is comparable.
type outcome struct {
	object  string
	content [sha256.Size]byte
}

// hasSameOutcome reports whether two changes are of the same object, from the same value to the same value.
func (c change) hasSameOutcome(o change) bool {
	return c.object == o.object && len(c.variants) == len(o.variants) &&
		c.same(c.variants[0].value, o.variants[0].value) && c.same(c.variants[1].value, o.variants[1].value)
}

// podLabelChange returns the change of a pod's labels. Policy does not apply to pods on the host network or that ended.
func podLabelChange(pod *compile.Pod, labels map[string]string) change {
	now := *pod
	now.Labels = labels
	c := pods.newChange(pod, &now)
	c.matters = func(s *compile.Snapshot) bool {
		return !pod.HostNetwork && !pod.Ended && effect.PodLabelsMatter(s, pod.Labels, labels)
	}
	return c
}

// newPodChange returns the creation of a pod, as the change of a pod without labels to one with them. What is open to all
// pods of the namespace and service account, or to an equivalent pod, was reviewed when it was opened.
func newPodChange(pod *compile.Pod) change {
	bare := *pod
	bare.Labels = nil
	c := podLabelChange(&bare, pod.Labels)
	labelsMatter := c.matters
	c.matters = func(s *compile.Snapshot) bool { return labelsMatter(s) && !effect.HasEquivalentPod(s, pod) }
	return c
}

func namespaceLabelChange(old, now *corev1.Namespace) change {
	c := namespaces.newChange(clustercache.Namespace(old), clustercache.Namespace(now))
	c.matters = func(s *compile.Snapshot) bool { return effect.NamespaceLabelsMatter(s, old.Labels, now.Labels) }
	return c
}
