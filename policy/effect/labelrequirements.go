package effect

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// distinguishes reports whether a requirement of the selector differs for two sets of labels. A nil selector has no
// requirements.
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

// requirementHolds reports whether a label has a value that the requirement names, or exists if it names none. NotIn
// and DoesNotExist distinguish the same labels as In and Exists.
func requirementHolds(e metav1.LabelSelectorRequirement, labels map[string]string) bool {
	v, ok := labels[e.Key]
	return ok && (len(e.Values) == 0 || slices.Contains(e.Values, v))
}

func mentionsKey(s *metav1.LabelSelector, key string) bool {
	_, ok := s.MatchLabels[key]
	return ok || slices.ContainsFunc(s.MatchExpressions, func(e metav1.LabelSelectorRequirement) bool { return e.Key == key })
}
