package compile

import (
	"slices"

	"k8s.io/apimachinery/pkg/labels"
)

// selections finds those of many selections of pods that a pod is in. Each is
// filed under one of its requirements, the one with the fewest others, and is only looked
// at for pods that meet that one.
type selections[T comparable] map[anchor][]filed[T]

// anchor is what a pod must have to be in a selection: a namespace with the name, unless
// that is empty, and a label of its own or of its namespace, unless its key is empty.
type anchor struct {
	namespace   string
	ofNamespace bool
	label       label
}

type filed[T comparable] struct {
	*podSelection
	value T
}

func (x selections[T]) add(s *podSelection, value T) {
	for _, a := range x.anchors(s) {
		x[a] = append(x[a], filed[T]{s, value})
	}
}

// remove removes what was added with the value.
func (x selections[T]) remove(s *podSelection, value T) {
	for _, a := range anchorsOf(s) {
		for _, at := range a {
			kept := slices.DeleteFunc(x[at], func(f filed[T]) bool { return f.value == value })
			if x[at] = kept; len(kept) == 0 {
				delete(x, at)
			}
		}
	}
}

// anchors are where to file a selection: one place, or one for each value of a requirement.
func (x selections[T]) anchors(s *podSelection) []anchor {
	var best []anchor
	fewest := -1
	for _, places := range anchorsOf(s) {
		n := 0
		for _, a := range places {
			n += len(x[a])
		}
		if fewest < 0 || n < fewest {
			best, fewest = places, n
		}
	}
	return best
}

// anchorsOf are the places that a selection could be filed under: one list for each requirement.
func anchorsOf(s *podSelection) [][]anchor {
	name, named := s.namespaces.name()
	var out [][]anchor
	file := func(ofNamespace bool, reqs []requirement) {
		for i := range reqs {
			var places []anchor
			for _, l := range reqs[i].anchors() {
				places = append(places, anchor{namespace: name, ofNamespace: ofNamespace, label: l})
			}
			if len(places) > 0 {
				out = append(out, places)
			}
		}
	}
	if file(false, s.pods.requirements); !named {
		file(true, s.namespaces.requirements)
	}
	if named || len(out) == 0 {
		out = append(out, []anchor{{namespace: name}})
	}
	return out
}

// of are the values of the selections that a pod with the labels is in, in a namespace with
// the name and labels.
func (x selections[T]) of(namespace string, namespaceLabels, podLabels labels.Set) []T {
	if len(x) == 0 {
		return nil
	}
	var out []T
	look := func(a anchor) {
		for _, f := range x[a] {
			if f.namespaces.matches(namespaceLabels) && f.pods.matches(podLabels) {
				out = append(out, f.value)
			}
		}
	}
	lookIn := func(namespace string) {
		look(anchor{namespace: namespace})
		for k, v := range podLabels {
			look(anchor{namespace: namespace, label: label{key: k, value: v}})
			look(anchor{namespace: namespace, label: label{key: k, any: true}})
		}
	}
	if lookIn(""); namespace != "" {
		lookIn(namespace)
	}
	for k, v := range namespaceLabels {
		look(anchor{ofNamespace: true, label: label{key: k, value: v}})
		look(anchor{ofNamespace: true, label: label{key: k, any: true}})
	}
	return out
}
