package clustercache

import (
	"fmt"
	"reflect"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/policy/compile"
)

// kinds are the objects that policy depends on.
type kinds struct {
	pods                   *store[corev1.Pod, compile.Pod]
	namespaces             *store[corev1.Namespace, compile.Namespace]
	nodes                  *store[corev1.Node, compile.Node]
	networkPolicies        *store[networkingv1.NetworkPolicy, networkingv1.NetworkPolicy]
	clusterNetworkPolicies *store[policyv1alpha2.ClusterNetworkPolicy, policyv1alpha2.ClusterNetworkPolicy]
	tierRoles              *store[v1alpha1.TierRole, v1alpha1.TierRole]
}

func newKinds(w *Watcher) kinds {
	var sharedByPods, sharedByPolicies sharer
	pod := func(p *corev1.Pod) *compile.Pod {
		out := Pod(p)
		sharedByPods.pod(out)
		return out
	}
	networkPolicy := func(np *networkingv1.NetworkPolicy) *networkingv1.NetworkPolicy {
		sharedByPolicies.networkPolicy(np)
		return bare(np)
	}
	k := kinds{
		pods: newStore(w, pod, equal,
			func(p *compile.Pod) types.NamespacedName {
				return types.NamespacedName{Namespace: p.Namespace, Name: p.Name}
			},
			func(u *compile.Update) *compile.Objects[compile.Pod] { return &u.Pods }),
		namespaces: newStore(w, Namespace, equal,
			func(n *compile.Namespace) types.NamespacedName { return types.NamespacedName{Name: n.Name} },
			func(u *compile.Update) *compile.Objects[compile.Namespace] { return &u.Namespaces }),
		nodes: newStore(w, Node, equal,
			func(n *compile.Node) types.NamespacedName { return types.NamespacedName{Name: n.Name} },
			func(u *compile.Update) *compile.Objects[compile.Node] { return &u.Nodes }),
		networkPolicies: newStore(w, networkPolicy,
			func(a, b *networkingv1.NetworkPolicy) bool {
				return sameEnd(a, b) && equality.Semantic.DeepEqual(a.Spec, b.Spec)
			}, keyOf,
			func(u *compile.Update) *compile.Objects[networkingv1.NetworkPolicy] { return &u.NetworkPolicies }),
		clusterNetworkPolicies: newStore(w, bare,
			func(a, b *policyv1alpha2.ClusterNetworkPolicy) bool {
				return sameEnd(a, b) && equality.Semantic.DeepEqual(a.Spec, b.Spec)
			}, keyOf,
			func(u *compile.Update) *compile.Objects[policyv1alpha2.ClusterNetworkPolicy] {
				return &u.ClusterNetworkPolicies
			}),
		tierRoles: newStore(w, bare,
			func(a, b *v1alpha1.TierRole) bool {
				return sameEnd(a, b) && equality.Semantic.DeepEqual(a.Spec, b.Spec)
			}, keyOf,
			func(u *compile.Update) *compile.Objects[v1alpha1.TierRole] { return &u.TierRoles }),
	}
	k.pods.amend = w.withAttachment
	k.pods.gone = func(pod types.NamespacedName) { delete(w.attachments, pod) }
	k.networkPolicies.pack, k.networkPolicies.unpack = packNetworkPolicy, unpackNetworkPolicy
	return k
}

// object is an object of any kind.
type object interface {
	metav1.Object
	runtime.Object
}

func keyOf[O any, P interface {
	*O
	object
}](o P) types.NamespacedName {
	return nameOf(o)
}

func nameOf(o metav1.Object) types.NamespacedName {
	return types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()}
}

// sameEnd reports whether both objects are terminating or neither is: admission judges with those that are as if they
// could be gone at any moment.
func sameEnd(a, b metav1.Object) bool {
	return (a.GetDeletionTimestamp() != nil) == (b.GetDeletionTimestamp() != nil)
}

// packNetworkPolicy is what policy depends on of the object, as protobuf.
func packNetworkPolicy(np *networkingv1.NetworkPolicy) string {
	reduced := networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: np.Namespace, Name: np.Name}, Spec: np.Spec}
	packed, err := reduced.Marshal()
	if err != nil {
		panic(fmt.Sprintf("packing NetworkPolicy %s/%s: %v", np.Namespace, np.Name, err)) // into memory: it cannot fail
	}
	return string(packed)
}

func unpackNetworkPolicy(packed string) *networkingv1.NetworkPolicy {
	out := &networkingv1.NetworkPolicy{}
	if err := out.Unmarshal([]byte(packed)); err != nil {
		panic(fmt.Sprintf("unpacking a NetworkPolicy: %v", err)) // it was packed here
	}
	return out
}

// reflected is a store as a reflector sees it.
type reflected interface {
	toolscache.TransformingStore
	// example is an object of the kind.
	example() object
	// seen reports whether all that existed at the start is known.
	seen() bool
}

// byResource are the stores by the name of the resource in the API.
func (k *kinds) byResource() map[string]reflected {
	return map[string]reflected{
		"pods": k.pods, "namespaces": k.namespaces, "nodes": k.nodes, "networkpolicies": k.networkPolicies,
		"clusternetworkpolicies": k.clusterNetworkPolicies, "tierroles": k.tierRoles,
	}
}

// update is all objects there are.
func (k *kinds) update() *compile.Update {
	return &compile.Update{
		Pods: k.pods.handOver(), Namespaces: k.namespaces.handOver(), Nodes: k.nodes.handOver(),
		NetworkPolicies:        k.networkPolicies.handOver(),
		ClusterNetworkPolicies: k.clusterNetworkPolicies.handOver(),
		TierRoles:              k.tierRoles.handOver(),
	}
}

func newStore[O, V any](
	w *Watcher, reduce func(*O) *V, same func(a, b *V) bool, key func(*V) types.NamespacedName, in func(*compile.Update) *compile.Objects[V],
) *store[O, V] {
	return &store[O, V]{watcher: w, objects: compile.Objects[V]{}, reduce: reduce, same: same, key: key, in: in}
}

// equal compares what was reduced to nothing but what policy depends on.
func equal[V any](a, b *V) bool { return reflect.DeepEqual(a, b) }

// bare is an object without what only its authors need.
func bare[O any, P interface {
	*O
	object
}](o P) P {
	o.SetManagedFields(nil)
	o.SetAnnotations(nil)
	return o
}
