package compile

import (
	"k8s.io/apimachinery/pkg/labels"
)

// labelIndex finds things by their labels.
type labelIndex[T comparable] map[label]map[T]struct{}

func (x labelIndex[T]) add(thing T, l labels.Set) {
	for k, v := range l {
		for _, at := range [...]label{{key: k, value: v}, {key: k, any: true}} {
			if x[at] == nil {
				x[at] = map[T]struct{}{}
			}
			x[at][thing] = struct{}{}
		}
	}
}

func (x labelIndex[T]) remove(thing T, l labels.Set) {
	for k, v := range l {
		for _, at := range [...]label{{key: k, value: v}, {key: k, any: true}} {
			if delete(x[at], thing); len(x[at]) == 0 {
				delete(x, at)
			}
		}
	}
}

// candidates are groups that together have all that the selector matches, found by its most
// selective requirement, and how many are in them. It is false when no requirement names what a
// thing must have.
func (x labelIndex[T]) candidates(s selector) (best []map[T]struct{}, fewest int, found bool) {
	for i := range s.requirements {
		anchors := s.requirements[i].anchors()
		if len(anchors) == 0 {
			continue
		}
		var groups []map[T]struct{}
		n := 0
		for _, a := range anchors {
			groups, n = append(groups, x[a]), n+len(x[a])
		}
		if !found || n < fewest {
			best, fewest, found = groups, n, true
		}
	}
	return best, fewest, found
}
