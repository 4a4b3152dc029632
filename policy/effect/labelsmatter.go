package effect

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/policy/compile"
)

// PodLabelsMatter reports whether a pod selector of any policy or TierRole may distinguish two sets of labels. If
// none does, pods with the one or the other are the same to every policy.
func PodLabelsMatter(s *compile.Snapshot, before, after map[string]string) bool {
	tell := func(l *metav1.LabelSelector) bool { return distinguishes(l, before, after) }
	return slices.ContainsFunc(s.TierRoles, func(tr *v1alpha1.TierRole) bool { return tell(tr.Spec.PodSelector) }) ||
		anySelector(s, tell, func(*metav1.LabelSelector) bool { return false })
}

// HasEquivalentPod reports whether a pod exists that no policy or TierRole can tell from this one. What is open to it
// is open to the existing one already.
func HasEquivalentPod(s *compile.Snapshot, pod *compile.Pod) bool {
	keys := map[string]bool{}
	note := func(l *metav1.LabelSelector) bool {
		if l != nil {
			for key := range l.MatchLabels {
				keys[key] = true
			}
			for _, e := range l.MatchExpressions {
				keys[e.Key] = true
			}
		}
		return false
	}
	anySelector(s, note, func(*metav1.LabelSelector) bool { return false })
	for _, tr := range s.TierRoles {
		note(tr.Spec.PodSelector)
	}
	delete(keys, roleLabel) // computed from what is compared
	alike := func(a, b map[string]string) bool {
		for key := range keys {
			x, inA := a[key]
			y, inB := b[key]
			if x != y || inA != inB {
				return false
			}
		}
		return true
	}
	return slices.ContainsFunc(s.Pods, func(p *compile.Pod) bool {
		return p.Namespace == pod.Namespace && p.ServiceAccount == pod.ServiceAccount && !p.HostNetwork && !p.Ended &&
			slices.Equal(p.Ports, pod.Ports) && alike(p.Labels, pod.Labels)
	})
}

// NamespaceLabelsMatter reports whether any namespace selector may distinguish two sets of labels.
func NamespaceLabelsMatter(s *compile.Snapshot, before, after map[string]string) bool {
	return anySelector(s, func(*metav1.LabelSelector) bool { return false },
		func(l *metav1.LabelSelector) bool { return distinguishes(l, before, after) })
}

// anySelector reports whether one of the functions is true for a selector of any policy.
func anySelector(s *compile.Snapshot, pods, namespaces func(*metav1.LabelSelector) bool) bool {
	for spec := range s.Specs() {
		for selector := range spec.PodSelectors() {
			if pods(selector.Pods) || namespaces(selector.Namespaces) {
				return true
			}
		}
	}
	return false
}
