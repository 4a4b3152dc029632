package compile

import (
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/tierwall/tierwall/api/v1alpha1"
)

// Update is a number of objects that changed, each as it is now; nil is one that is
// deleted. The zero value is no object. Keys without a namespace are those of the cluster's objects.
type Update struct {
	Pods                   Objects[Pod]
	Namespaces             Objects[Namespace]
	Nodes                  Objects[Node]
	NetworkPolicies        Objects[networkingv1.NetworkPolicy]
	ClusterNetworkPolicies Objects[policyv1alpha2.ClusterNetworkPolicy]
	TierRoles              Objects[v1alpha1.TierRole]
}

// Objects are objects of one kind by namespace and name.
type Objects[O any] map[types.NamespacedName]*O

// Set notes what an object is now, or with nil that it is deleted.
func (o *Objects[O]) Set(key types.NamespacedName, now *O) {
	if *o == nil {
		*o = Objects[O]{}
	}
	(*o)[key] = now
}

// Len is how many objects changed.
func (u *Update) Len() int {
	return len(u.Pods) + len(u.Namespaces) + len(u.Nodes) + len(u.NetworkPolicies) + len(u.ClusterNetworkPolicies) + len(u.TierRoles)
}

// Update is the update that makes the snapshot of nothing.
func (s *Snapshot) Update() *Update {
	u := &Update{}
	for _, o := range s.Pods {
		u.Pods.Set(types.NamespacedName{Namespace: o.Namespace, Name: o.Name}, o)
	}
	for _, o := range s.Namespaces {
		u.Namespaces.Set(types.NamespacedName{Name: o.Name}, o)
	}
	for _, o := range s.Nodes {
		u.Nodes.Set(types.NamespacedName{Name: o.Name}, o)
	}
	for _, o := range s.NetworkPolicies {
		u.NetworkPolicies.Set(types.NamespacedName{Namespace: o.Namespace, Name: o.Name}, o)
	}
	for _, o := range s.ClusterNetworkPolicies {
		u.ClusterNetworkPolicies.Set(types.NamespacedName{Name: o.Name}, o)
	}
	for _, o := range s.TierRoles {
		u.TierRoles.Set(types.NamespacedName{Name: o.Name}, o)
	}
	return u
}
