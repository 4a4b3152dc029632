package webhook

import (
	"fmt"

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
	// before and after are the cluster without and with the change.
	before, after *compile.Snapshot
	// problems are the fields that could not be understood, where the change touches the spec.
	problems []policy.Problem
	// finishing is true where an object that is being deleted changes in nothing but its metadata.
	finishing bool
}

// newChange reads the change from the request. What the request says of the
// policy before it counts, not what the snapshot knows: that may be older.
func newChange(d admission.Decoder, req admission.Request, s *compile.Snapshot) (change, error) {
	switch req.Kind.Kind {
	case "NetworkPolicy":
		return networkPolicyChange(d, req, s)
	case "ClusterNetworkPolicy":
		return clusterNetworkPolicyChange(d, req, s)
	default:
		return change{}, fmt.Errorf("kind %s is no policy", req.Kind.Kind)
	}
}

func networkPolicyChange(d admission.Decoder, req admission.Request, s *compile.Snapshot) (change, error) {
	old, now, err := decodeBoth[networkingv1.NetworkPolicy](d, req)
	if err != nil {
		return change{}, err
	}
	before, after := *s, *s
	before.NetworkPolicies = replace(s.NetworkPolicies, old, now, old)
	after.NetworkPolicies = replace(s.NetworkPolicies, old, now, now)
	c := change{before: &before, after: &after}
	if now == nil {
		return c, nil
	}
	if old != nil && equality.Semantic.DeepEqual(old.Spec, now.Spec) {
		c.finishing = now.DeletionTimestamp != nil
		return c, nil
	}
	c.problems = compile.ValidateNetworkPolicy(now)
	return c, nil
}

func clusterNetworkPolicyChange(d admission.Decoder, req admission.Request, s *compile.Snapshot) (change, error) {
	old, now, err := decodeBoth[policyv1alpha2.ClusterNetworkPolicy](d, req)
	if err != nil {
		return change{}, err
	}
	before, after := *s, *s
	before.ClusterNetworkPolicies = replace(s.ClusterNetworkPolicies, old, now, old)
	after.ClusterNetworkPolicies = replace(s.ClusterNetworkPolicies, old, now, now)
	c := change{before: &before, after: &after}
	if now == nil {
		return c, nil
	}
	if old != nil && equality.Semantic.DeepEqual(old.Spec, now.Spec) {
		c.finishing = now.DeletionTimestamp != nil
		return c, nil
	}
	c.problems = compile.ValidateClusterNetworkPolicy(now)
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
	of := now
	if of == nil {
		of = old
	}
	out := make([]P, 0, len(list)+1)
	for _, o := range list {
		if of == nil || client.ObjectKeyFromObject(o) != client.ObjectKeyFromObject(of) {
			out = append(out, o)
		}
	}
	if put != nil {
		out = append(out, put)
	}
	return out
}
