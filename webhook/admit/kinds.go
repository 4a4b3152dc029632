package admit

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/policy/compile"
)

// objectKind describes the objects of one kind in a snapshot.
type objectKind[T any] struct {
	kind string
	list func(*compile.Snapshot) *[]*T
	key  func(*T) types.NamespacedName
	same func(a, b *T) bool
	// content returns what policy depends on.
	content func(*T) any
	// isTerminating reports whether an object is being deleted. It is nil for kinds whose deletion is not reviewed.
	isTerminating func(*T) bool
}

var (
	pods = objectKind[compile.Pod]{
		kind: "Pod",
		list: func(s *compile.Snapshot) *[]*compile.Pod { return &s.Pods },
		key: func(p *compile.Pod) types.NamespacedName {
			return types.NamespacedName{Namespace: p.Namespace, Name: p.Name}
		},
		same:    func(a, b *compile.Pod) bool { return maps.Equal(a.Labels, b.Labels) },
		content: func(p *compile.Pod) any { return p.Labels },
	}
	namespaces = objectKind[compile.Namespace]{
		kind:    "Namespace",
		list:    func(s *compile.Snapshot) *[]*compile.Namespace { return &s.Namespaces },
		key:     func(n *compile.Namespace) types.NamespacedName { return types.NamespacedName{Name: n.Name} },
		same:    func(a, b *compile.Namespace) bool { return maps.Equal(a.Labels, b.Labels) },
		content: func(n *compile.Namespace) any { return n.Labels },
	}
	networkPolicies = objectKind[networkingv1.NetworkPolicy]{
		kind:          "NetworkPolicy",
		list:          func(s *compile.Snapshot) *[]*networkingv1.NetworkPolicy { return &s.NetworkPolicies },
		key:           objectKey[networkingv1.NetworkPolicy],
		isTerminating: isTerminating[networkingv1.NetworkPolicy],
		same:          func(a, b *networkingv1.NetworkPolicy) bool { return equality.Semantic.DeepEqual(a.Spec, b.Spec) },
		content:       func(p *networkingv1.NetworkPolicy) any { return p.Spec },
	}
	clusterNetworkPolicies = objectKind[policyv1alpha2.ClusterNetworkPolicy]{
		kind:          "ClusterNetworkPolicy",
		list:          func(s *compile.Snapshot) *[]*policyv1alpha2.ClusterNetworkPolicy { return &s.ClusterNetworkPolicies },
		key:           objectKey[policyv1alpha2.ClusterNetworkPolicy],
		isTerminating: isTerminating[policyv1alpha2.ClusterNetworkPolicy],
		same: func(a, b *policyv1alpha2.ClusterNetworkPolicy) bool {
			return equality.Semantic.DeepEqual(a.Spec, b.Spec)
		},
		content: func(p *policyv1alpha2.ClusterNetworkPolicy) any { return p.Spec },
	}
	tierRoles = objectKind[v1alpha1.TierRole]{
		kind:          "TierRole",
		list:          func(s *compile.Snapshot) *[]*v1alpha1.TierRole { return &s.TierRoles },
		key:           objectKey[v1alpha1.TierRole],
		isTerminating: isTerminating[v1alpha1.TierRole],
		same:          func(a, b *v1alpha1.TierRole) bool { return equality.Semantic.DeepEqual(a.Spec, b.Spec) },
		content:       func(r *v1alpha1.TierRole) any { return r.Spec },
	}
)

func objectKey[T any, P apiObject[T]](o P) types.NamespacedName { return client.ObjectKeyFromObject(o) }

func isTerminating[T any, P apiObject[T]](o *T) bool { return P(o).GetDeletionTimestamp() != nil }

// newChange returns the change from old to now; nil means absent. The old object is that of the
// request, since a snapshot may have an older one.
func (k objectKind[T]) newChange(old, now *T) change {
	of := now
	if of == nil {
		of = old
	}
	key := k.key(of)
	unchanged := old != nil && now != nil && k.same(old, now)
	return change{
		object: k.kind + " " + key.String(), namespace: key.Namespace, isNetworkPolicy: k.kind == networkPolicies.kind, isNoop: unchanged,
		applyTo: func(s *compile.Snapshot) (*compile.Snapshot, *compile.Snapshot) {
			before, after := *s, *s
			*k.list(&before) = k.listWith(s, key, old)
			if *k.list(&after) = *k.list(&before); !unchanged {
				*k.list(&after) = k.listWith(s, key, now)
			}
			return &before, &after
		},
		variants: []variant{k.newVariant(key, old, false), k.newVariant(key, now, false)},
		current: func(s *compile.Snapshot) variant {
			v := k.newVariant(key, k.findObject(s, key), false)
			v.isCurrent = true
			return v
		},
		same:    k.sameValues,
		outcome: func() outcome { return k.outcomeOf(key, now) },
		shownAfter: func(first *compile.Snapshot) func(*compile.Snapshot) bool {
			had := k.findObject(first, key)
			return func(s *compile.Snapshot) bool {
				has := k.findObject(s, key)
				switch {
				case has == had:
					return false
				case has == nil || now == nil:
					return has == now || has != nil && k.isTerminating != nil && k.isTerminating(has)
				default:
					return k.same(has, now)
				}
			}
		},
		matters: func(*compile.Snapshot) bool { return true },
	}
}

// outcomeOf identifies the object with a value; nil means absent.
func (k objectKind[T]) outcomeOf(key types.NamespacedName, value *T) outcome {
	out := outcome{object: k.kind + " " + key.String()}
	if value != nil {
		content, err := json.Marshal(k.content(value))
		if err != nil {
			panic(fmt.Sprintf("marshal %s: %v", out.object, err)) // it was decoded from JSON
		}
		out.content = sha256.Sum256(content)
	}
	return out
}

// newVariant returns a variant with the value; nil means absent.
func (k objectKind[T]) newVariant(key types.NamespacedName, value *T, terminating bool) variant {
	v := variant{text: k.describeAssumption(key, value, terminating), set: func(s *compile.Snapshot) *compile.Snapshot {
		out := *s
		*k.list(&out) = k.listWith(s, key, value)
		return &out
	}}
	if value != nil {
		v.value = value // a nil *T in an interface would not be nil
	}
	return v
}

func (k objectKind[T]) sameValues(a, b any) bool {
	if a == nil || b == nil {
		return a == b
	}
	return k.same(a.(*T), b.(*T))
}

// pendingDeletions returns the deletions of the kind's terminating objects.
func (k objectKind[T]) pendingDeletions(s *compile.Snapshot) []change {
	var out []change
	for _, o := range *k.list(s) {
		if k.isTerminating(o) {
			c := k.newChange(o, nil)
			c.variants[1] = k.newVariant(k.key(o), nil, true)
			out = append(out, c)
		}
	}
	return out
}

// findObject returns the object with the key, or nil.
func (k objectKind[T]) findObject(s *compile.Snapshot, key types.NamespacedName) *T {
	list := *k.list(s)
	if i := slices.IndexFunc(list, func(o *T) bool { return k.key(o) == key }); i >= 0 {
		return list[i]
	}
	return nil
}

// listWith returns the objects with the one of the key replaced by put, or removed if put is nil. Objects that
// policy cannot tell apart, and lists without a difference, are kept, since they are compiled already.
func (k objectKind[T]) listWith(s *compile.Snapshot, key types.NamespacedName, put *T) []*T {
	list := *k.list(s)
	i := slices.IndexFunc(list, func(o *T) bool { return k.key(o) == key })
	switch {
	case i < 0 && put == nil, i >= 0 && put != nil && k.same(list[i], put):
		return list
	case i < 0:
		return append(slices.Clip(list), put)
	case put == nil:
		return slices.Concat(list[:i], list[i+1:])
	default:
		out := slices.Clone(list)
		out[i] = put
		return out
	}
}

func (k objectKind[T]) describeAssumption(key fmt.Stringer, value *T, isTerminating bool) string {
	switch {
	case value == nil && isTerminating:
		return fmt.Sprintf("%s %s, which is being deleted, is gone", k.kind, key)
	case value == nil:
		return fmt.Sprintf("%s %s is not there, as a change in flight may have it", k.kind, key)
	default:
		return fmt.Sprintf("%s %s is as a change in flight has it", k.kind, key)
	}
}
