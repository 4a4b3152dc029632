package compile

import (
	"iter"

	"k8s.io/apimachinery/pkg/labels"
)

// labelIndex finds things by their labels. It is made, key by key, for those keys that selectors ask
// for: most labels are asked for by none.
type labelIndex[T comparable] struct {
	all  func() iter.Seq[T]
	of   func(T) labels.Set
	keys map[string]map[string]map[T]struct{} // by key and value
}

// indexedKeys limits how many keys are kept at a time, as every thing that comes is filed under each.
const indexedKeys = 64

func newLabelIndex[T comparable](all func() iter.Seq[T], of func(T) labels.Set) labelIndex[T] {
	return labelIndex[T]{all: all, of: of, keys: map[string]map[string]map[T]struct{}{}}
}

// add takes in a thing that is there from now on, with its labels.
func (x *labelIndex[T]) add(thing T) {
	l := x.of(thing)
	for key, values := range x.keys {
		if v, has := l[key]; has {
			file(values, v, thing)
		}
	}
}

func file[T comparable](values map[string]map[T]struct{}, v string, thing T) {
	if values[v] == nil {
		values[v] = map[T]struct{}{}
	}
	values[v][thing] = struct{}{}
}

// remove forgets a thing, while it still has the labels that it was added with.
func (x *labelIndex[T]) remove(thing T) {
	l := x.of(thing)
	for key, values := range x.keys {
		if v, has := l[key]; has {
			if delete(values[v], thing); len(values[v]) == 0 {
				delete(values, v)
			}
			if len(values) == 0 {
				delete(x.keys, key)
			}
		}
	}
}

// candidates are groups that together have all that the selector matches, found by its most
// selective requirement, and how many are in them. It is false when no requirement names what a
// thing must have.
func (x *labelIndex[T]) candidates(s selector) (best []map[T]struct{}, fewest int, found bool) {
	for i := range s.requirements {
		groups, ok := x.groups(s.requirements[i].anchors())
		if !ok {
			continue
		}
		n := 0
		for _, g := range groups {
			n += len(g)
		}
		if !found || n < fewest {
			best, fewest, found = groups, n, true
		}
	}
	return best, fewest, found
}

// groups are the things that have one of the labels, which are of one key.
func (x *labelIndex[T]) groups(of []label) (out []map[T]struct{}, ok bool) {
	for _, l := range of {
		values := x.key(l.key)
		if !l.any {
			out = append(out, values[l.value])
			continue
		}
		for _, group := range values {
			out = append(out, group)
		}
	}
	return out, len(of) > 0
}

func (x *labelIndex[T]) key(key string) map[string]map[T]struct{} {
	values, ok := x.keys[key]
	if !ok {
		if len(x.keys) >= indexedKeys {
			clear(x.keys)
		}
		values = map[string]map[T]struct{}{}
		x.keys[key] = values
		for thing := range x.all() {
			if v, has := x.of(thing)[key]; has {
				file(values, v, thing)
			}
		}
	}
	return values
}
