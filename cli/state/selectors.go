package state

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

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
	for _, np := range s.NetworkPolicies {
		peers := func(peers []networkingv1.NetworkPolicyPeer) {
			for _, p := range peers {
				if p.NamespaceSelector == nil {
					add(p.PodSelector, np.Namespace)
				} else {
					add(p.PodSelector, "")
				}
			}
		}
		add(&np.Spec.PodSelector, np.Namespace)
		for _, r := range np.Spec.Ingress {
			peers(r.From)
		}
		for _, r := range np.Spec.Egress {
			peers(r.To)
		}
	}
	addPods := func(p *policyv1alpha2.NamespacedPod) {
		if p != nil {
			add(&p.PodSelector, "")
		}
	}
	for _, cnp := range s.ClusterNetworkPolicies {
		addPods(cnp.Spec.Subject.Pods)
		for _, r := range cnp.Spec.Ingress {
			for _, p := range r.From {
				addPods(p.Pods)
			}
		}
		for _, r := range cnp.Spec.Egress {
			for _, p := range r.To {
				addPods(p.Pods)
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
