package compile

import (
	"k8s.io/apimachinery/pkg/labels"
)

// selections finds those of many selections of pods that a pod is in. Each is filed under one of its requirements,
// the one with the fewest others, and is only looked at for pods that meet that one.
type selections[T comparable] struct {
	byAnchor map[anchor][]slot[T]
	filed    map[T]*filedSelection[T]
}

// filedSelection is a selection with its places: positions[i] is where it is in the list of anchors[i].
type filedSelection[T comparable] struct {
	*podSelection
	value     T
	anchors   []anchor
	positions []int
}

// slot is one place of a selection: the index of an anchor among the selection's own.
type slot[T comparable] struct {
	*filedSelection[T]
	index int
}

func newSelections[T comparable]() selections[T] {
	return selections[T]{byAnchor: map[anchor][]slot[T]{}, filed: map[T]*filedSelection[T]{}}
}

// anchor is what a pod must have to be in a selection: a namespace with the name, unless
// that is empty, and a label of its own or of its namespace, unless its key is empty.
type anchor struct {
	namespace   string
	ofNamespace bool
	label       label
}

// add files a selection under a value that has none yet.
func (x selections[T]) add(s *podSelection, value T) {
	anchors := x.anchors(s)
	f := &filedSelection[T]{podSelection: s, value: value, anchors: anchors, positions: make([]int, len(anchors))}
	x.filed[value] = f
	for i, a := range anchors {
		f.positions[i] = len(x.byAnchor[a])
		x.byAnchor[a] = append(x.byAnchor[a], slot[T]{f, i})
	}
}

// remove removes the selection of a value. It costs the same however many others have the same anchors.
func (x selections[T]) remove(value T) {
	f := x.filed[value]
	if f == nil {
		return
	}
	delete(x.filed, value)
	for i, a := range f.anchors {
		list := x.byAnchor[a]
		end := len(list) - 1
		last := list[end]
		list[f.positions[i]] = last
		last.positions[last.index] = f.positions[i]
		list[end] = slot[T]{}
		if x.byAnchor[a] = list[:end]; end == 0 {
			delete(x.byAnchor, a)
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
			n += len(x.byAnchor[a])
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
	if len(x.filed) == 0 {
		return nil
	}
	var out []T
	look := func(a anchor) {
		for _, f := range x.byAnchor[a] {
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
