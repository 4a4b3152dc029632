package clustercache

import (
	"encoding/binary"
	"maps"
	"slices"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tierwall/tierwall/policy/compile"
)

// sharer lets objects that are alike share what they have in common, as the pods of one
// Deployment do: the API server's answers hold a copy in each. It is for the objects of one kind.
type sharer struct {
	texts  recent[string]
	labels recent[map[string]string]
	ports  recent[[]compile.NamedPort]
	key    []byte
}

// pod shares what the pod has in common with others.
func (s *sharer) pod(p *compile.Pod) {
	both := p.Name + string(p.UID) // one piece of memory instead of two
	p.Name, p.UID = both[:len(p.Name)], types.UID(both[len(p.Name):])
	p.Namespace, p.Node, p.ServiceAccount = s.text(p.Namespace), s.text(p.Node), s.text(p.ServiceAccount)
	p.Labels = s.shared(p.Labels)
	if len(p.Ports) > 0 {
		s.key = s.key[:0]
		for _, port := range p.Ports {
			s.add(port.Name)
			s.key = binary.BigEndian.AppendUint16(append(s.key, byte(port.Protocol)), port.Port)
		}
		p.Ports = s.ports.share(s.key, p.Ports)
	}
}

// networkPolicy shares the selectors of the policy with others.
func (s *sharer) networkPolicy(np *networkingv1.NetworkPolicy) {
	for selector := range compile.NetworkPolicySpec(np).PodSelectors() {
		s.selector(selector.Pods)
		s.selector(selector.Namespaces)
	}
}

func (s *sharer) selector(l *metav1.LabelSelector) {
	if l != nil {
		l.MatchLabels = s.shared(l.MatchLabels)
	}
}

// shared is the labels in a map that others may have too.
func (s *sharer) shared(l map[string]string) map[string]string {
	if len(l) == 0 {
		return l
	}
	s.key = s.key[:0]
	for _, k := range slices.Sorted(maps.Keys(l)) {
		s.add(k)
		s.add(l[k])
	}
	if known, ok := s.labels.find(s.key); ok {
		return known
	}
	key := slices.Clone(s.key) // which text uses as well
	return s.labels.share(key, s.ownLabels(l))
}

// ownLabels is the labels in a map of the right size, with keys and values that others may have too.
func (s *sharer) ownLabels(l map[string]string) map[string]string {
	out := make(map[string]string, len(l))
	for k, v := range l {
		out[s.text(k)] = s.text(v)
	}
	return out
}

func (s *sharer) text(t string) string {
	s.key = append(s.key[:0], t...)
	return s.texts.share(s.key, t)
}

// add writes a text behind its length.
func (s *sharer) add(text string) {
	s.key = append(binary.AppendUvarint(s.key, uint64(len(text))), text...)
}

// recent are values that were of use lately, by what they are; at least the last
// generation of them, and at most two.
type recent[V any] struct {
	young, old map[string]V
}

// generation is how many values a generation has. Pods come sorted by name at the start, and
// those of one Deployment at about one time afterwards.
const generation = 4096

// find is the value that is known by the key.
func (r *recent[V]) find(key []byte) (V, bool) {
	if known, ok := r.young[string(key)]; ok {
		return known, true
	}
	known, ok := r.old[string(key)]
	return known, ok
}

// share is the value that is known by the key, or else the given one from now on.
func (r *recent[V]) share(key []byte, v V) V {
	if known, ok := r.find(key); ok {
		v = known
	}
	if _, ok := r.young[string(key)]; ok {
		return v
	}
	if r.young == nil || len(r.young) >= generation {
		r.young, r.old = map[string]V{}, r.young
	}
	r.young[string(key)] = v
	return v
}
