// Package compile turns the objects of a cluster into a policy.Program. It is
// pure: it reads no clock, opens no socket and logs nothing. What it cannot
// understand it denies and reports as a policy.Problem.
package compile

import (
	"net/netip"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/policy"
)

// Snapshot is the state of a cluster at one moment, reduced to what policy
// depends on. The compiler does not change it.
type Snapshot struct {
	Pods                   []*Pod
	Namespaces             []*Namespace
	Nodes                  []*Node
	NetworkPolicies        []*networkingv1.NetworkPolicy
	ClusterNetworkPolicies []*policyv1alpha2.ClusterNetworkPolicy
	TierRoles              []*v1alpha1.TierRole
	Defaults               policy.Defaults
}

// Pod is what policy depends on of a core/v1 Pod.
type Pod struct {
	Namespace, Name string
	UID             types.UID
	Node            string
	ServiceAccount  string
	Labels          map[string]string
	// Addrs are the pod's addresses, at most one of each IP family.
	Addrs       []netip.Addr
	HostNetwork bool
	// Ended is true for the phases Succeeded and Failed: the address is no longer the pod's.
	Ended bool
	// Terminating is true once deletion was requested. The pod keeps its address unless another pod claims it.
	Terminating bool
	// Created orders pods that claim one address, in seconds since the Unix epoch.
	Created int64
	// Representative is true of a pod that a caller makes up to stand for others: its addresses are its own anywhere.
	Representative bool
	// Ports are the named container ports.
	Ports []NamedPort
}

// NamedPort is a container port with a name.
type NamedPort struct {
	Name     string
	Protocol policy.Protocol
	Port     uint16
}

// Namespace is what policy depends on of a core/v1 Namespace.
type Namespace struct {
	Name   string
	Labels map[string]string
}

// Node is what policy depends on of a core/v1 Node.
type Node struct {
	Name     string
	Labels   map[string]string
	Addrs    []netip.Addr
	PodCIDRs []netip.Prefix
}
