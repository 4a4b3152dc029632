package state

import (
	"regexp"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// scheduled is the name of a Job that a CronJob made: its own name and a time in minutes or seconds.
var scheduled = regexp.MustCompile(`^(.+)-[0-9]{8,10}$`)

// controllerOf is the key of the object that controls another, if any does.
func controllerOf(namespace string, o metav1.Object) (Key, bool) {
	r := metav1.GetControllerOfNoCopy(o)
	if r == nil {
		return Key{}, false
	}
	return Key{r.Kind, namespace, r.Name}, true
}

// ownersOf are the workloads that made the pod, the nearest first, whether they are among the
// objects or not. Of one that is not, the next is told by its name: a ReplicaSet is called
// after its Deployment and the hash of the template, a Job after its CronJob and a time.
func (s State) ownersOf(p *corev1.Pod) []Key {
	k, ok := controllerOf(p.Namespace, p)
	if !ok {
		return nil
	}
	out := []Key{k}
	for range 4 { // no chain of owners is longer
		if o := s.objects[k]; o != nil {
			if k, ok = controllerOf(p.Namespace, o); !ok {
				return out
			}
			out = append(out, k)
			continue
		}
		if k, ok = ownerByName(k, p.Labels); !ok {
			return out
		}
		out = append(out, k)
	}
	return out
}

func ownerByName(k Key, podLabels map[string]string) (Key, bool) {
	switch k.Kind {
	case "ReplicaSet":
		hash := podLabels[appsv1.DefaultDeploymentUniqueLabelKey]
		name, ok := strings.CutSuffix(k.Name, "-"+hash)
		return Key{"Deployment", k.Namespace, name}, ok && hash != ""
	case "Job":
		if m := scheduled.FindStringSubmatch(k.Name); m != nil {
			return Key{"CronJob", k.Namespace, m[1]}, true
		}
	}
	return Key{}, false
}

// workloadOf is the outermost workload among the objects that made the pod.
func (s State) workloadOf(p *corev1.Pod) (Key, bool) {
	owners := s.ownersOf(p)
	for i := len(owners) - 1; i >= 0; i-- {
		if o := s.objects[owners[i]]; o != nil && Template(o) != nil {
			return owners[i], true
		}
	}
	return Key{}, false
}

// isPart reports whether the workload is part of another one among the objects, as a
// ReplicaSet is of its Deployment.
func (s State) isPart(k Key) bool {
	owner, ok := controllerOf(k.Namespace, s.objects[k])
	return ok && s.objects[owner] != nil && Template(s.objects[owner]) != nil
}

// podsByWorkload are the pods of each workload that is among the objects, or that made a pod
// which is, by each of its owners. Pods that have ended are left out.
func (s State) podsByWorkload() map[Key][]*corev1.Pod {
	out := map[Key][]*corev1.Pod{}
	for _, o := range s.objects {
		p, ok := o.(*corev1.Pod)
		if !ok || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
			continue
		}
		for _, k := range s.ownersOf(p) {
			out[k] = append(out[k], p)
		}
	}
	return out
}
