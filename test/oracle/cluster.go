package oracle

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/policy"
)

// Cluster is the objects of a cluster as the API server shows them, and the administrator's
// default actions.
type Cluster struct {
	Pods                   []*corev1.Pod
	Namespaces             []*corev1.Namespace
	Nodes                  []*corev1.Node
	NetworkPolicies        []*networkingv1.NetworkPolicy
	ClusterNetworkPolicies []*policyv1alpha2.ClusterNetworkPolicy
	TierRoles              []*v1alpha1.TierRole
	Defaults               policy.Defaults
}

// PodAt is the pod that an address belongs to, or nil. Pods on the host network have no address
// of their own, ended pods have none any more. Of several that claim it, it is the one
// that is not terminating, then the newest, then the one with the smallest UID.
func PodAt(c *Cluster, a netip.Addr) *corev1.Pod {
	var owner *corev1.Pod
	for _, p := range c.Pods {
		if p.Spec.HostNetwork || p.Status.Phase == "Succeeded" || p.Status.Phase == "Failed" {
			continue
		}
		for _, ip := range p.Status.PodIPs {
			if is(ip.IP, a) && (owner == nil || newer(p, owner)) {
				owner = p
			}
		}
	}
	return owner
}

func newer(a, b *corev1.Pod) bool {
	if going, gone := a.DeletionTimestamp != nil, b.DeletionTimestamp != nil; going != gone {
		return gone
	}
	if x, y := a.CreationTimestamp.Unix(), b.CreationTimestamp.Unix(); x != y {
		return x > y
	}
	return a.UID < b.UID
}

// NodeAt is the node that has the address itself, or nil.
func NodeAt(c *Cluster, a netip.Addr) *corev1.Node {
	for _, n := range c.Nodes {
		if has(n, a) {
			return n
		}
	}
	return nil
}

// PodNetworkOf is the node in whose pod network the address lies, or nil.
func PodNetworkOf(c *Cluster, a netip.Addr) *corev1.Node {
	for _, n := range c.Nodes {
		if inPodNetwork(n, a) {
			return n
		}
	}
	return nil
}

// has says whether an address is one of the node's own. Some of them are names.
func has(n *corev1.Node, a netip.Addr) bool {
	return slices.ContainsFunc(n.Status.Addresses, func(own corev1.NodeAddress) bool { return is(own.Address, a) })
}

func inPodNetwork(n *corev1.Node, a netip.Addr) bool {
	networks := n.Spec.PodCIDRs
	if len(networks) == 0 {
		networks = []string{n.Spec.PodCIDR}
	}
	return slices.ContainsFunc(networks, func(text string) bool {
		network, ok := cidr(text)
		return ok && network.Contains(a)
	})
}

// is says whether the text is the address. An IPv4-mapped address is the IPv4 address.
func is(text string, a netip.Addr) bool {
	parsed, err := netip.ParseAddr(text)
	return err == nil && parsed.Unmap() == a
}

// namespaceLabels are those of the namespace; one that is not known has its name only.
func namespaceLabels(c *Cluster, name string) map[string]string {
	for _, n := range c.Namespaces {
		if n.Name == name {
			return n.Labels
		}
	}
	return map[string]string{"kubernetes.io/metadata.name": name}
}

// podLabels are the labels that selectors see: the pod's, but for the role, which is computed.
func podLabels(c *Cluster, p *corev1.Pod) map[string]string {
	seen := map[string]string{}
	for k, v := range p.Labels {
		if k != "tierwall.io/tier-role" {
			seen[k] = v
		}
	}
	if role := RoleOf(c, p); role != "" {
		seen["tierwall.io/tier-role"] = role
	}
	return seen
}

// RoleOf is the role of the most specific TierRole that binds the pod: one that names service
// accounts, then one with a pod selector, then one with namespaces alone; then the first by
// name. One that cannot be understood, or that goes by the label that shows roles, binds nothing.
func RoleOf(c *Cluster, p *corev1.Pod) string {
	role, best := "", ""
	for _, tr := range c.TierRoles {
		if !tierRoleUnderstood(tr) || !slices.Contains(tr.Spec.Namespaces, p.Namespace) {
			continue
		}
		account := p.Spec.ServiceAccountName
		if account == "" {
			account = "default"
		}
		if len(tr.Spec.ServiceAccounts) > 0 && !slices.Contains(tr.Spec.ServiceAccounts, account) {
			continue
		}
		if tr.Spec.PodSelector != nil && !selects(tr.Spec.PodSelector, p.Labels) {
			continue
		}
		rank := "3"
		if tr.Spec.PodSelector != nil {
			rank = "2"
		}
		if len(tr.Spec.ServiceAccounts) > 0 {
			rank = "1"
		}
		if rank += tr.Name; best == "" || rank < best {
			best, role = rank, tr.Spec.Role
		}
	}
	return role
}
