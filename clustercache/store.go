package clustercache

import (
	"fmt"
	"maps"
	"sync/atomic"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"

	"github.com/tierwall/tierwall/policy/compile"
)

// store keeps the objects of one kind, reduced to what policy depends on, as a
// Reflector tells of them. Objects as the API server shows them, of type *O, are not kept, not
// even while the first list comes in.
type store[O, V any] struct {
	watcher *Watcher
	objects compile.Objects[V]
	reduce  func(*O) *V
	key     func(*V) types.NamespacedName
	same    func(a, b *V) bool
	// pack and unpack are set where objects need not be kept whole once a reader has taken them.
	pack   func(*V) string
	unpack func(string) *V
	// packed are the objects packed, in place of objects, from then on.
	packed map[types.NamespacedName]string
	// amend, where it is set, adds what is known of an object besides what the API server shows.
	amend func(types.NamespacedName, *V) *V
	// gone, where it is set, is told of each object that is deleted.
	gone func(types.NamespacedName)
	// in is where an update has objects of the kind.
	in     func(*compile.Update) *compile.Objects[V]
	synced atomic.Bool
}

// reduced is the object reduced, unless it is already.
func (s *store[O, V]) reduced(obj any) (*V, error) {
	switch o := obj.(type) {
	case *O:
		return s.reduce(o), nil
	case *V: // where this is another type
		return o, nil
	default:
		return nil, fmt.Errorf("%T where %T is expected", obj, new(O))
	}
}

// Transformer reduces the objects of the first list one by one.
func (s *store[O, V]) Transformer() toolscache.TransformFunc {
	return func(obj any) (any, error) { return s.reduced(obj) }
}

// Add takes in a new object.
func (s *store[O, V]) Add(obj any) error { return s.Update(obj) }

// Update takes in an object that changed.
func (s *store[O, V]) Update(obj any) error {
	v, err := s.reduced(obj)
	if err != nil {
		return err
	}
	s.watcher.mu.Lock()
	defer s.watcher.mu.Unlock()
	s.set(s.key(v), v)
	return nil
}

// Delete forgets an object.
func (s *store[O, V]) Delete(obj any) error {
	o, ok := obj.(metav1.Object)
	if !ok {
		return fmt.Errorf("%T where %T is expected", obj, new(O))
	}
	s.watcher.mu.Lock()
	defer s.watcher.mu.Unlock()
	s.remove(nameOf(o))
	return nil
}

// Replace takes in all objects that there are.
func (s *store[O, V]) Replace(list []any, _ string) error {
	now := make(compile.Objects[V], len(list))
	for n, obj := range list {
		v, err := s.reduced(obj)
		if err != nil {
			return err
		}
		list[n] = nil // so that it need not be kept any longer
		now[s.key(v)] = v
	}
	s.watcher.mu.Lock()
	defer s.watcher.mu.Unlock()
	if len(s.objects)+len(s.packed) == 0 && s.watcher.pending == nil {
		s.objects = now // at first, when there is nobody to tell each of them
		s.watcher.tell()
	} else {
		s.replace(now)
	}
	s.synced.Store(true)
	return nil
}

func (s *store[O, V]) replace(now compile.Objects[V]) {
	for key := range s.objects {
		if now[key] == nil {
			s.remove(key)
		}
	}
	for key := range s.packed {
		if now[key] == nil {
			s.remove(key)
		}
	}
	for key, v := range now {
		s.set(key, v)
	}
}

// Resync has nothing to do: readers ask for the state when they want it.
func (s *store[O, V]) Resync() error { return nil }

func (s *store[O, V]) example() object { return any(new(O)).(object) }

func (s *store[O, V]) seen() bool { return s.synced.Load() }

// replace, set, put and remove need the watcher's lock.
func (s *store[O, V]) set(key types.NamespacedName, v *V) {
	if s.amend != nil {
		v = s.amend(key, v)
	}
	s.put(key, v)
}

func (s *store[O, V]) put(key types.NamespacedName, v *V) {
	if s.packed != nil {
		if packed := s.pack(v); s.packed[key] != packed {
			s.packed[key] = packed
			s.tell(key, v)
		}
		return
	}
	if old, ok := s.objects[key]; !ok || !s.same(old, v) {
		s.objects[key] = v
		s.tell(key, v)
	}
}

func (s *store[O, V]) remove(key types.NamespacedName) {
	if s.gone != nil {
		s.gone(key)
	}
	_, whole := s.objects[key]
	_, packed := s.packed[key]
	if whole || packed {
		delete(s.objects, key)
		delete(s.packed, key)
		s.tell(key, nil)
	}
}

// handOver gives all objects to a reader that keeps what it takes.
func (s *store[O, V]) handOver() compile.Objects[V] {
	if s.pack == nil {
		return maps.Clone(s.objects)
	}
	out := s.objects
	s.objects, s.packed = nil, make(map[types.NamespacedName]string, len(out))
	for key, v := range out {
		s.packed[key] = s.pack(v)
	}
	return out
}

func (s *store[O, V]) tell(key types.NamespacedName, now *V) {
	if s.watcher.pending != nil {
		s.in(s.watcher.pending).Set(key, now)
	}
	s.watcher.tell()
}

// values are the objects, in any order.
func (s *store[O, V]) values() []*V {
	out := make([]*V, 0, len(s.objects)+len(s.packed))
	for _, v := range s.objects {
		out = append(out, v)
	}
	for _, packed := range s.packed {
		out = append(out, s.unpack(packed))
	}
	return out
}
