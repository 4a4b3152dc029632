package admit

import (
	"fmt"
	"maps"
	"slices"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/clustercache"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/policy/effect"
)

// change is what a request would do to one object that policy depends on.
type change struct {
	// object is its kind, namespace and name.
	object, namespace string
	isNetworkPolicy   bool
	// isNoop is true where the object stays what it is, as far as policy depends on it.
	isNoop bool
	// applyTo returns the cluster without and with the change, where it is like the snapshot otherwise.
	applyTo func(*compile.Snapshot) (before, after *compile.Snapshot)
	// variants are the object before and after the change.
	variants []variant
	// current returns the object as a snapshot has it.
	current func(*compile.Snapshot) variant
	// same reports whether two values of the object are the same to policy.
	same func(a, b any) bool
	// shownAfter returns a function that reports whether a later snapshot shows the outcome. A
	// snapshot that showed the same before does not count.
	shownAfter func(*compile.Snapshot) func(*compile.Snapshot) bool
	// matters reports whether the change can open or close anything; it is fast.
	matters func(*compile.Snapshot) bool
}

// hasSameOutcome reports whether two changes have the same outcomes.
func (c change) hasSameOutcome(o change) bool {
	return c.object == o.object && len(c.variants) == len(o.variants) &&
		c.same(c.variants[0].value, o.variants[0].value) && c.same(c.variants[1].value, o.variants[1].value)
}

// objectKind are those of one kind in a snapshot.
type objectKind[T any] struct {
	kind string
	list func(*compile.Snapshot) *[]*T
	key  func(*T) types.NamespacedName
	same func(a, b *T) bool
	// isTerminating reports whether an object is being deleted; nil for kinds whose end opens nothing.
	isTerminating func(*T) bool
}

var (
	pods = objectKind[compile.Pod]{
		kind: "Pod",
		list: func(s *compile.Snapshot) *[]*compile.Pod { return &s.Pods },
		key: func(p *compile.Pod) types.NamespacedName {
			return types.NamespacedName{Namespace: p.Namespace, Name: p.Name}
		},
		same: func(a, b *compile.Pod) bool { return maps.Equal(a.Labels, b.Labels) },
	}
	namespaces = objectKind[compile.Namespace]{
		kind: "Namespace",
		list: func(s *compile.Snapshot) *[]*compile.Namespace { return &s.Namespaces },
		key:  func(n *compile.Namespace) types.NamespacedName { return types.NamespacedName{Name: n.Name} },
		same: func(a, b *compile.Namespace) bool { return maps.Equal(a.Labels, b.Labels) },
	}
	networkPolicies = objectKind[networkingv1.NetworkPolicy]{
		kind:          "NetworkPolicy",
		list:          func(s *compile.Snapshot) *[]*networkingv1.NetworkPolicy { return &s.NetworkPolicies },
		key:           objectKey[networkingv1.NetworkPolicy],
		isTerminating: isTerminating[networkingv1.NetworkPolicy],
		same:          func(a, b *networkingv1.NetworkPolicy) bool { return equality.Semantic.DeepEqual(a.Spec, b.Spec) },
	}
	clusterNetworkPolicies = objectKind[policyv1alpha2.ClusterNetworkPolicy]{
		kind:          "ClusterNetworkPolicy",
		list:          func(s *compile.Snapshot) *[]*policyv1alpha2.ClusterNetworkPolicy { return &s.ClusterNetworkPolicies },
		key:           objectKey[policyv1alpha2.ClusterNetworkPolicy],
		isTerminating: isTerminating[policyv1alpha2.ClusterNetworkPolicy],
		same: func(a, b *policyv1alpha2.ClusterNetworkPolicy) bool {
			return equality.Semantic.DeepEqual(a.Spec, b.Spec)
		},
	}
	tierRoles = objectKind[v1alpha1.TierRole]{
		kind:          "TierRole",
		list:          func(s *compile.Snapshot) *[]*v1alpha1.TierRole { return &s.TierRoles },
		key:           objectKey[v1alpha1.TierRole],
		isTerminating: isTerminating[v1alpha1.TierRole],
		same:          func(a, b *v1alpha1.TierRole) bool { return equality.Semantic.DeepEqual(a.Spec, b.Spec) },
	}
)

func objectKey[T any, P apiObject[T]](o P) types.NamespacedName { return client.ObjectKeyFromObject(o) }

func isTerminating[T any, P apiObject[T]](o *T) bool { return P(o).GetDeletionTimestamp() != nil }

// newChange is from old to now; nil is absent. What the request says of the object
// before it counts, not what a snapshot knows: that may be older.
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
		same: k.sameValues,
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

// newVariant is the object as one value; nil is absent.
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

// pendingDeletions returns the deletions of the objects that are being deleted.
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

// findObject is the object of the key, or nil.
func (k objectKind[T]) findObject(s *compile.Snapshot, key types.NamespacedName) *T {
	list := *k.list(s)
	if i := slices.IndexFunc(list, func(o *T) bool { return k.key(o) == key }); i >= 0 {
		return list[i]
	}
	return nil
}

// listWith are the objects without that of the key, and with put unless it is nil. One that is the same is kept, and
// the list where nothing differs, since they were read already.
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

// podLabelChange is that of a pod's labels. A pod on the host network, or one that has ended, is none of policy's.
func podLabelChange(pod *compile.Pod, labels map[string]string) change {
	now := *pod
	now.Labels = labels
	c := pods.newChange(pod, &now)
	c.matters = func(s *compile.Snapshot) bool {
		return !pod.HostNetwork && !pod.Ended && effect.PodLabelsMatter(s, pod.Labels, labels)
	}
	return c
}

// newPodChange is a pod that comes, as if one without labels got its labels: what is open to pods of its namespace and
// service account whatever their labels was judged when it was opened. So was what is open to a pod like it.
func newPodChange(pod *compile.Pod) change {
	bare := *pod
	bare.Labels = nil
	c := podLabelChange(&bare, pod.Labels)
	labelsMatter := c.matters
	c.matters = func(s *compile.Snapshot) bool { return labelsMatter(s) && !effect.HasEquivalentPod(s, pod) }
	return c
}

func namespaceLabelChange(old, now *corev1.Namespace) change {
	c := namespaces.newChange(clustercache.Namespace(old), clustercache.Namespace(now))
	c.matters = func(s *compile.Snapshot) bool { return effect.NamespaceLabelsMatter(s, old.Labels, now.Labels) }
	return c
}

// apiObject is a pointer to an API object of type T.
type apiObject[T any] interface {
	*T
	client.Object
}

// decodeOldAndNew reads the object before and after the request; nil is absent.
func decodeOldAndNew[T any, P apiObject[T]](d admission.Decoder, req admission.Request) (old, now P, err error) {
	if old, err = decodeObject[T, P](d, req, req.OldObject); err != nil {
		return nil, nil, fmt.Errorf("read the %s before the change: %w", req.Kind.Kind, err)
	}
	if now, err = decodeObject[T, P](d, req, req.Object); err != nil {
		return nil, nil, fmt.Errorf("read the %s: %w", req.Kind.Kind, err)
	}
	if old == nil && now == nil {
		return nil, nil, fmt.Errorf("the request has no %s", req.Kind.Kind)
	}
	return old, now, nil
}

func decodeObject[T any, P apiObject[T]](d admission.Decoder, req admission.Request, raw runtime.RawExtension) (P, error) {
	if len(raw.Raw) == 0 {
		return nil, nil
	}
	o := P(new(T))
	if err := d.DecodeRaw(raw, o); err != nil {
		return nil, err
	}
	if o.GetNamespace() == "" {
		o.SetNamespace(req.Namespace)
	}
	return o, nil
}

// isDeletion reports whether an update is the deletion of an object: it removes the last finalizer of one that is terminating.
func isDeletion[T any, P apiObject[T]](req admission.Request, now P) bool {
	return req.Operation == admissionv1.Update && now.GetDeletionTimestamp() != nil && len(now.GetFinalizers()) == 0
}

// asDeletion is a request as the DELETE that it amounts to.
func asDeletion(req admission.Request) admission.Request {
	req.Operation, req.Object = admissionv1.Delete, runtime.RawExtension{}
	return req
}
