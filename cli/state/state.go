// Package state is the objects of a cluster, as they are or as they would be
// when a folder of manifests is applied.
package state

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/tierwall/tierwall/api/v1alpha1"
)

// State is objects by their kind, namespace and name. It is not changed once made.
type State struct {
	objects map[Key]client.Object
	// replaced has the objects that With put something in the place of, and nil for those that it added.
	replaced map[Key]client.Object
}

// Key names an object.
type Key struct{ Kind, Namespace, Name string }

// KeyOf is the key of an object of a kind.
func KeyOf(kind string, o client.Object) Key { return Key{kind, o.GetNamespace(), o.GetName()} }

// New is the state of a cluster that has the objects.
func New(objects map[Key]client.Object) State { return State{objects: objects} }

// With is the state in which the objects are too, in the place of those with the same key.
func (s State) With(objects map[Key]client.Object) State {
	out := State{objects: maps.Clone(s.objects), replaced: maps.Clone(s.replaced)}
	if out.objects == nil {
		out.objects = map[Key]client.Object{}
	}
	if out.replaced == nil {
		out.replaced = map[Key]client.Object{}
	}
	for k, o := range objects {
		if _, known := out.replaced[k]; !known {
			out.replaced[k] = out.objects[k]
		}
		out.objects[k] = o
	}
	return out
}

// Get is an object, or nil.
func (s State) Get(k Key) client.Object { return s.objects[k] }

// Has reports whether there is an object of a kind.
func (s State) Has(kinds ...string) bool {
	for k := range s.objects {
		if slices.Contains(kinds, k.Kind) {
			return true
		}
	}
	return false
}

// Guardrails are the Guardrail objects, by name.
func (s State) Guardrails() []*v1alpha1.Guardrail {
	var out []*v1alpha1.Guardrail
	for _, k := range s.keys() {
		if g, ok := s.objects[k].(*v1alpha1.Guardrail); ok {
			out = append(out, g)
		}
	}
	return out
}

// Policies are the NetworkPolicies and ClusterNetworkPolicies, by name.
func (s State) Policies() (nps []*networkingv1.NetworkPolicy, cnps []*policyv1alpha2.ClusterNetworkPolicy) {
	for _, o := range s.objects {
		switch o := o.(type) {
		case *networkingv1.NetworkPolicy:
			nps = append(nps, o)
		case *policyv1alpha2.ClusterNetworkPolicy:
			cnps = append(cnps, o)
		}
	}
	slices.SortFunc(nps, func(a, b *networkingv1.NetworkPolicy) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	slices.SortFunc(cnps, func(a, b *policyv1alpha2.ClusterNetworkPolicy) int { return strings.Compare(a.Name, b.Name) })
	return nps, cnps
}

func (s State) keys() []Key {
	return slices.SortedFunc(maps.Keys(s.objects), compareKeys)
}

func compareKeys(a, b Key) int {
	return cmp.Or(strings.Compare(a.Kind, b.Kind), strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
}
