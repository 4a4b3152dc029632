package state

import corev1 "k8s.io/api/core/v1"

// WithPodsOf returns the state with the pods that another state has of the same workloads, where this one has
// none. Manifests and a dump of the cluster that runs them can be compared then, pod by pod. The pods get
// the labels and the account that this state's template gives them.
func (s State) WithPodsOf(other State) State {
	own, others := s.podsByWorkload(), other.podsByWorkload()
	out := s.With(nil)
	for k, pods := range others {
		if len(own[k]) > 0 || !s.needsStandIn(k, nil) || other.objects[k] == nil {
			continue
		}
		out.replaced[k] = other.objects[k]
		for _, p := range pods {
			out.addPodOf(other, p)
		}
	}
	return out
}

// addPodOf adds a pod of another state, and those of its owners that are not there.
func (s State) addPodOf(other State, p *corev1.Pod) {
	for _, k := range append(other.ownersOf(p), KeyOf("Pod", p)) {
		if o := other.objects[k]; o != nil && s.objects[k] == nil {
			s.objects[k] = o
		}
	}
}
