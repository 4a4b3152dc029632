package differential

import (
	"reflect"
	"slices"
	"strings"
)

// Shrink makes what the pointer leads to smaller for as long as fails says that it still
// fails, and does so until nothing more can be left out: no element or part of a list, no
// entry of a map, nothing that a pointer leads to (A. Zeller and R. Hildebrandt,
// Simplifying and Isolating Failure-Inducing Input, 2002). It writes to everything that the
// pointer leads to, so that nothing of it may be shared; backing arrays and maps may be.
func Shrink(value any, fails func() bool) {
	s := &shrinker{fails: fails}
	for s.smaller = true; s.smaller; {
		s.smaller = false
		s.inside(reflect.ValueOf(value))
	}
}

type shrinker struct {
	fails   func() bool
	smaller bool // than at the start of the round
}

// try sets a place to another value, and back if it does not fail with that.
func (s *shrinker) try(place, value reflect.Value) bool {
	before := reflect.New(place.Type()).Elem()
	before.Set(place)
	place.Set(value)
	if s.fails() {
		s.smaller = true
		return true
	}
	place.Set(before)
	return false
}

// inside makes the parts of a value smaller.
func (s *shrinker) inside(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			s.inside(v.Elem())
		}
	case reflect.Struct:
		for _, field := range v.Fields() {
			if field.CanSet() {
				s.place(field)
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			s.inside(v.Index(i))
		}
	}
}

// place makes what is in a field smaller: first as a whole, then its parts.
func (s *shrinker) place(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		if v.IsNil() || s.try(v, reflect.Zero(v.Type())) {
			return
		}
	}
	switch v.Kind() {
	case reflect.Slice:
		s.list(v)
	case reflect.Map:
		s.entries(v)
	}
	s.inside(v)
}

// list leaves out parts of a list, the large ones first.
func (s *shrinker) list(v reflect.Value) {
	for size := v.Len() / 2; size > 0; size /= 2 {
		for from := 0; from < v.Len(); {
			to := min(from+size, v.Len())
			rest := reflect.AppendSlice(reflect.MakeSlice(v.Type(), 0, v.Len()), v.Slice(0, from))
			rest = reflect.AppendSlice(rest, v.Slice(to, v.Len()))
			if !s.try(v, rest) {
				from = to
			}
		}
	}
}

// entries leaves out entries of a map, in the order of their keys where these are texts.
func (s *shrinker) entries(v reflect.Value) {
	keys := v.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
	for _, leaveOut := range keys {
		rest := reflect.MakeMap(v.Type())
		for it := v.MapRange(); it.Next(); {
			if !it.Key().Equal(leaveOut) {
				rest.SetMapIndex(it.Key(), it.Value())
			}
		}
		s.try(v, rest)
	}
}
