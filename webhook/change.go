package webhook

import (
	"fmt"
	"slices"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
)

// change is what a request would do to one policy.
type change struct {
	// object is the policy's kind, namespace and name.
	object string
	// on is the cluster without and with the change, where it is like the snapshot otherwise.
	on func(*compile.Snapshot) (before, after *compile.Snapshot)
	// shown says whether the policy is in the snapshot as the change leaves it.
	shown func(*compile.Snapshot) bool
	// problems are the fields that could not be understood, where the change touches the spec.
	problems []policy.Problem
	// finishing is true where an object that is being deleted changes in nothing but its metadata.
	finishing bool
}

// newChange reads the change from the request. What the request says of the
// policy before it counts, not what a snapshot knows: that may be older.
func newChange(d admission.Decoder, req admission.Request) (change, error) {
	read := networkPolicyChange
	switch req.Kind.Kind {
	case "NetworkPolicy":
	case "ClusterNetworkPolicy":
		read = clusterNetworkPolicyChange
	default:
		return change{}, fmt.Errorf("kind %s is no policy", req.Kind.Kind)
	}
	c, err := read(d, req)
	c.object = req.Kind.Kind + " " + req.Namespace + "/" + req.Name
	return c, err
}

func networkPolicyChange(d admission.Decoder, req admission.Request) (change, error) {
	old, now, err := decodeBoth[networkingv1.NetworkPolicy](d, req)
	if err != nil {
		return change{}, err
	}
	same := func(a, b *networkingv1.NetworkPolicy) bool { return equality.Semantic.DeepEqual(a.Spec, b.Spec) }
	c := change{
		on: func(s *compile.Snapshot) (*compile.Snapshot, *compile.Snapshot) {
			before, after := *s, *s
			before.NetworkPolicies = replace(s.NetworkPolicies, old, now, old)
			after.NetworkPolicies = replace(s.NetworkPolicies, old, now, now)
			return &before, &after
		},
		shown: func(s *compile.Snapshot) bool { return listed(s.NetworkPolicies, old, now, same) },
	}
	switch {
	case now == nil:
	case old != nil && same(old, now):
		c.finishing = now.DeletionTimestamp != nil
	default:
		c.problems = compile.ValidateNetworkPolicy(now)
	}
	return c, nil
}

func clusterNetworkPolicyChange(d admission.Decoder, req admission.Request) (change, error) {
	old, now, err := decodeBoth[policyv1alpha2.ClusterNetworkPolicy](d, req)
	if err != nil {
		return change{}, err
	}
	same := func(a, b *policyv1alpha2.ClusterNetworkPolicy) bool {
		return equality.Semantic.DeepEqual(a.Spec, b.Spec)
	}
	c := change{
		on: func(s *compile.Snapshot) (*compile.Snapshot, *compile.Snapshot) {
			before, after := *s, *s
			before.ClusterNetworkPolicies = replace(s.ClusterNetworkPolicies, old, now, old)
			after.ClusterNetworkPolicies = replace(s.ClusterNetworkPolicies, old, now, now)
			return &before, &after
		},
		shown: func(s *compile.Snapshot) bool { return listed(s.ClusterNetworkPolicies, old, now, same) },
	}
	switch {
	case now == nil:
	case old != nil && same(old, now):
		c.finishing = now.DeletionTimestamp != nil
	default:
		c.problems = compile.ValidateClusterNetworkPolicy(now)
	}
	return c, nil
}

// object is a pointer to an API object of type T.
type object[T any] interface {
	*T
	client.Object
}

// decodeBoth reads the object before and after the request; nil is absent.
func decodeBoth[T any, P object[T]](d admission.Decoder, req admission.Request) (old, now P, err error) {
	if old, err = decode[T, P](d, req, req.OldObject); err != nil {
		return nil, nil, fmt.Errorf("read the %s before the change: %w", req.Kind.Kind, err)
	}
	if now, err = decode[T, P](d, req, req.Object); err != nil {
		return nil, nil, fmt.Errorf("read the %s: %w", req.Kind.Kind, err)
	}
	return old, now, nil
}

func decode[T any, P object[T]](d admission.Decoder, req admission.Request, raw runtime.RawExtension) (P, error) {
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

// replace is the list without the object of old and now, and with put unless it is nil.
func replace[T any, P object[T]](list []P, old, now, put P) []P {
	out := make([]P, 0, len(list)+1)
	for _, o := range list {
		if !named(o, old, now) {
			out = append(out, o)
		}
	}
	if put != nil {
		out = append(out, put)
	}
	return out
}

// listed says whether the list has the object as it is now, or has it no more where that is nil.
func listed[T any, P object[T]](list []P, old, now P, same func(a, b P) bool) bool {
	i := slices.IndexFunc(list, func(o P) bool { return named(o, old, now) })
	if i < 0 || now == nil {
		return i < 0 && now == nil
	}
	return same(list[i], now)
}

// named says whether an object is that of old and now, of which one may be nil.
func named[T any, P object[T]](o, old, now P) bool {
	of := now
	if of == nil {
		of = old
	}
	return of != nil && o.GetName() == of.GetName() && o.GetNamespace() == of.GetNamespace()
}
