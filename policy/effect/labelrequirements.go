package effect

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// distinguishes reports whether a requirement of the selector answers differently for two sets of
// labels; nil has none.
func distinguishes(s *metav1.LabelSelector, before, after map[string]string) bool {
	if s == nil {
		return false
	}
	for key, value := range s.MatchLabels {
		if hasLabel(before, key, value) != hasLabel(after, key, value) {
			return true
		}
	}
	for _, e := range s.MatchExpressions {
		if requirementHolds(e, before) != requirementHolds(e, after) {
			return true
		}
	}
	return false
}

func hasLabel(labels map[string]string, key, value string) bool {
	v, ok := labels[key]
	return ok && v == value
}

// requirementHolds is whether a label is one that the requirement names, or is there where it names none. Its negation
// is told apart by the same.
func requirementHolds(e metav1.LabelSelectorRequirement, labels map[string]string) bool {
	v, ok := labels[e.Key]
	return ok && (len(e.Values) == 0 || slices.Contains(e.Values, v))
}

func mentionsKey(s *metav1.LabelSelector, key string) bool {
	_, ok := s.MatchLabels[key]
	return ok || slices.ContainsFunc(s.MatchExpressions, func(e metav1.LabelSelectorRequirement) bool { return e.Key == key })
}
