package state

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tierwall/tierwall/policy/compile"
)

// PodSelector is a selector for pods, with the namespace where it asks in one alone.
type PodSelector struct {
	Selector  *metav1.LabelSelector
	Namespace string
}

// PodSelectors are the selectors for pods of all policies and TierRoles.
func PodSelectors(s *compile.Snapshot) []PodSelector {
	var out []PodSelector
	add := func(l *metav1.LabelSelector, namespace string) {
		if l != nil {
			out = append(out, PodSelector{l, namespace})
		}
	}
	for spec := range s.Specs() {
		for selector := range spec.PodSelectors() {
			if selector.Namespaces == nil {
				add(selector.Pods, selector.Namespace)
			} else {
				add(selector.Pods, "")
			}
		}
	}
	for _, tr := range s.TierRoles {
		add(tr.Spec.PodSelector, "")
	}
	return out
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// Services are the Services among the objects, sorted.
func (s State) Services() []*corev1.Service { return objectsOf[*corev1.Service](s, "Service") }

// EndpointSlices are the EndpointSlices among the objects, sorted.
func (s State) EndpointSlices() []*discoveryv1.EndpointSlice {
	return objectsOf[*discoveryv1.EndpointSlice](s, "EndpointSlice")
}

// Endpoints are the Endpoints among the objects, sorted.
func (s State) Endpoints() []*corev1.Endpoints { //nolint:staticcheck // older dumps have them
	return objectsOf[*corev1.Endpoints](s, "Endpoints") //nolint:staticcheck // as above
}

// objectsOf are the objects of a kind, sorted.
func objectsOf[O any](s State, kind string) []O {
	var keys []Key
	for k := range s.objects {
		if k.Kind == kind {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, compareKeys)
	var out []O
	for _, k := range keys {
		if o, ok := s.objects[k].(O); ok {
			out = append(out, o)
		}
	}
	return out
}
