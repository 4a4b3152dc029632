package effect

import (
	"maps"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// labelVocabulary holds the label keys and values that selectors mention. All other values of a key are the same to
// selectors. So the number of kinds of pods depends on policies, whatever labels pods have.
type labelVocabulary struct {
	values map[string]map[string]bool
	// mentions counts the values of a key by policy.
	mentions map[string]map[string]int
}

// otherValue stands for all values that no selector names; no label can have it.
const otherValue = "\x00"

func newVocabulary(all ...map[string]*terms) *labelVocabulary {
	v := &labelVocabulary{values: map[string]map[string]bool{}, mentions: map[string]map[string]int{}}
	for _, ts := range all {
		for _, t := range ts {
			v.addTerms(t)
		}
	}
	return v
}

// extendedBy returns a vocabulary with further policies; the original is not modified.
func (v *labelVocabulary) extendedBy(more []*terms) *labelVocabulary {
	if len(more) == 0 {
		return v
	}
	out, extra := &labelVocabulary{values: maps.Clone(v.values), mentions: maps.Clone(v.mentions)}, &labelVocabulary{
		values: map[string]map[string]bool{}, mentions: map[string]map[string]int{}}
	for _, t := range more {
		extra.addTerms(t)
	}
	for key := range extra.values {
		out.values[key], out.mentions[key] = maps.Clone(v.values[key]), maps.Clone(v.mentions[key])
		if out.values[key] == nil {
			out.values[key], out.mentions[key] = map[string]bool{}, map[string]int{}
		}
		maps.Copy(out.values[key], extra.values[key])
		maps.Copy(out.mentions[key], extra.mentions[key])
	}
	return out
}

func (v *labelVocabulary) addTerms(t *terms) {
	v.addSelector(t.name, t.subject.pods)
	for _, p := range t.peers {
		v.addSelector(t.name, p.pods)
	}
}

func (v *labelVocabulary) addSelector(policy string, s *metav1.LabelSelector) {
	for key, value := range s.MatchLabels {
		v.addValues(policy, key, value)
	}
	for _, e := range s.MatchExpressions {
		v.addValues(policy, e.Key, e.Values...)
	}
}

func (v *labelVocabulary) addValues(policy, key string, values ...string) {
	if v.values[key] == nil {
		v.values[key], v.mentions[key] = map[string]bool{}, map[string]int{}
	}
	for _, value := range values {
		v.values[key][value] = true
	}
	v.mentions[key][policy] += len(values)
}

// distinctValue returns the value of a label as selectors can tell it. Roles are computed, and always distinct.
func (v *labelVocabulary) distinctValue(key, value string) string {
	if key == roleLabel || v.values[key][value] {
		return value
	}
	return otherValue
}

// mentionedLabels returns the labels whose keys selectors mention.
func (v *labelVocabulary) mentionedLabels(labels map[string]string) map[string]string {
	out := map[string]string{}
	for key, value := range labels {
		if v.values[key] != nil {
			out[key] = value
		}
	}
	return out
}
