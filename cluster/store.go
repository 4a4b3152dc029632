package cluster

import (
	"fmt"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tierwall/tierwall/policy/compile"
)

// store keeps the objects of one kind, reduced to what policy depends on, as a
// Reflector tells of them. Objects as the API server shows them, of type *O, are not kept, not
// even while the first list comes in.
type store[O, V any] struct {
	watcher *Watcher
	objects map[types.NamespacedName]*V
	reduce  func(*O) *V
	same    func(a, b *V) bool
	// in is where an update has objects of the kind.
	in     func(*compile.Update) *compile.Objects[V]
	synced atomic.Bool
}

// item is an object reduced, with its name.
type item[V any] struct {
	key   types.NamespacedName
	value *V
}

// item reduces an object, unless it is already.
func (s *store[O, V]) item(obj any) (item[V], error) {
	switch o := obj.(type) {
	case item[V]:
		return o, nil
	case client.Object:
		typed, ok := obj.(*O)
		if !ok {
			break
		}
		return item[V]{client.ObjectKeyFromObject(o), s.reduce(typed)}, nil
	}
	return item[V]{}, fmt.Errorf("%T where %T is expected", obj, new(O))
}

// Transformer reduces the objects of the first list one by one.
func (s *store[O, V]) Transformer() toolscache.TransformFunc {
	return func(obj any) (any, error) { return s.item(obj) }
}

// Add takes in a new object.
func (s *store[O, V]) Add(obj any) error { return s.Update(obj) }

// Update takes in an object that changed.
func (s *store[O, V]) Update(obj any) error {
	i, err := s.item(obj)
	if err != nil {
		return err
	}
	s.watcher.mu.Lock()
	defer s.watcher.mu.Unlock()
	s.set(i)
	return nil
}

// Delete forgets an object.
func (s *store[O, V]) Delete(obj any) error {
	o, ok := obj.(client.Object)
	if !ok {
		return fmt.Errorf("%T where %T is expected", obj, new(O))
	}
	s.watcher.mu.Lock()
	defer s.watcher.mu.Unlock()
	s.remove(client.ObjectKeyFromObject(o))
	return nil
}

// Replace takes in all objects that there are.
func (s *store[O, V]) Replace(list []any, _ string) error {
	items := make([]item[V], len(list))
	there := make(map[types.NamespacedName]bool, len(list))
	for n, obj := range list {
		i, err := s.item(obj)
		if err != nil {
			return err
		}
		items[n], list[n] = i, nil
		there[i.key] = true
	}
	s.watcher.mu.Lock()
	defer s.watcher.mu.Unlock()
	for key := range s.objects {
		if !there[key] {
			s.remove(key)
		}
	}
	for _, i := range items {
		s.set(i)
	}
	s.synced.Store(true)
	return nil
}

// Resync has nothing to do: readers ask for the state when they want it.
func (s *store[O, V]) Resync() error { return nil }

func (s *store[O, V]) example() client.Object { return any(new(O)).(client.Object) }

func (s *store[O, V]) seen() bool { return s.synced.Load() }

// set and remove need the watcher's lock.
func (s *store[O, V]) set(i item[V]) {
	if old, ok := s.objects[i.key]; ok && s.same(old, i.value) {
		return
	}
	s.objects[i.key] = i.value
	s.tell(i.key, i.value)
}

func (s *store[O, V]) remove(key types.NamespacedName) {
	if _, ok := s.objects[key]; ok {
		delete(s.objects, key)
		s.tell(key, nil)
	}
}

func (s *store[O, V]) tell(key types.NamespacedName, now *V) {
	if s.watcher.pending != nil {
		s.in(s.watcher.pending).Set(key, now)
	}
	s.watcher.tell()
}

// values are the objects, in any order.
func (s *store[O, V]) values() []*V {
	out := make([]*V, 0, len(s.objects))
	for _, v := range s.objects {
		out = append(out, v)
	}
	return out
}
