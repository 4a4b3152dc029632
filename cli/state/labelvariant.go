package state

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/tierwall/tierwall/policy/compile"
)

// labelVariants are the stand-in with each label that a selector asks for and something may add
// to it, with several where one selector asks for several, and with values that controllers set.
func labelVariants(p *compile.Pod, open []OpenLabel, selectors []PodSelector) []*compile.Pod {
	var out []*compile.Pod
	add := func(l map[string]string) {
		v := labelVariant(p, l)
		if !slices.ContainsFunc(out, func(o *compile.Pod) bool { return o.Name == v.Name }) {
			out = append(out, v)
		}
	}
	for _, l := range open {
		for _, value := range l.Asked {
			if _, has := p.Labels[l.Key]; !has {
				add(map[string]string{l.Key: value})
			}
		}
	}
	for _, s := range selectors {
		if s.Namespace != "" && s.Namespace != p.Namespace {
			continue
		}
		if l := missingLabels(p, open, s.Selector); len(l) > 0 {
			add(l)
		}
	}
	return out
}

// missingLabels are what a pod needs to match the selector, if something may add all of them.
func missingLabels(p *compile.Pod, open []OpenLabel, s *metav1.LabelSelector) map[string]string {
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return nil
	}
	out := map[string]string{}
	requirements, _ := selector.Requirements()
	for _, r := range requirements {
		if r.Matches(labels.Set(p.Labels)) {
			continue
		}
		value, found := addable(r, p, open)
		if !found {
			return nil
		}
		out[r.Key()] = value
	}
	return out
}

// addable is a value with which something may add the label that is required.
func addable(r labels.Requirement, p *compile.Pod, open []OpenLabel) (value string, found bool) {
	if _, has := p.Labels[r.Key()]; has {
		return "", false
	}
	for _, l := range open {
		if l.Key != r.Key() {
			continue
		}
		for _, value := range l.candidates(r) {
			if r.Matches(labels.Set{l.Key: value}) {
				return value, true
			}
		}
	}
	return "", false
}

// candidates are values of the label that may fulfil the requirement.
func (l OpenLabel) candidates(r labels.Requirement) []string {
	if !l.Always {
		return l.Asked
	}
	out := []string{l.Prefix + "any"}
	for _, value := range sortedKeys(r.Values()) {
		if l.Accepts(value) {
			out = append(out, value)
		}
	}
	return out
}

// labelVariant is a stand-in with more labels.
func labelVariant(p *compile.Pod, more map[string]string) *compile.Pod {
	out := *p
	var texts []string
	for _, key := range sortedKeys(more) {
		texts = append(texts, key+"="+more[key])
	}
	out.Name = fmt.Sprintf("%s (%s)", p.Name, strings.Join(texts, ", "))
	out.Labels = maps.Clone(p.Labels)
	if out.Labels == nil {
		out.Labels = map[string]string{}
	}
	maps.Copy(out.Labels, more)
	return &out
}
