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
// of their own, ended pods have none any more, and no pod has an address of a node, of the
// machine itself, of a link or of a group. Of several that claim it, one whose node has it in a pod network
// comes first and one whose node has not comes last; then one that is not terminating,
// then the oldest, then the one with the smallest UID.
func PodAt(c *Cluster, a netip.Addr) *corev1.Pod {
	if NodeAt(c, a) != nil || !ordinary(a) {
		return nil
	}
	var owner *corev1.Pod
	for _, p := range c.Pods {
		if p.Spec.HostNetwork || p.Status.Phase == "Succeeded" || p.Status.Phase == "Failed" {
			continue
		}
		for _, ip := range p.Status.PodIPs {
			if is(ip.IP, a) && (owner == nil || precedes(c, a, p, owner)) {
				owner = p
			}
		}
	}
	return owner
}

// allowedPodAt is the pod at an address as rules that allow see it: what a pod says of an address
// that its node's pod networks do not have allows nothing.
func allowedPodAt(c *Cluster, a netip.Addr) *corev1.Pod {
	if p := PodAt(c, a); p != nil && credit(c, a, p) > 0 {
		return p
	}
	return nil
}

func ordinary(a netip.Addr) bool {
	for _, text := range []string{"0.0.0.0/32", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "255.255.255.255/32", "::/128", "::1/128", "fe80::/10", "ff00::/8"} {
		if netip.MustParsePrefix(text).Contains(a) {
			return false
		}
	}
	return true
}

func precedes(c *Cluster, a netip.Addr, p, q *corev1.Pod) bool {
	if x, y := credit(c, a, p), credit(c, a, q); x != y {
		return x > y
	}
	if going, gone := p.DeletionTimestamp != nil, q.DeletionTimestamp != nil; going != gone {
		return gone
	}
	if x, y := p.CreationTimestamp.Unix(), q.CreationTimestamp.Unix(); x != y {
		return x < y
	}
	return p.UID < q.UID
}

// credit is 2 where the pod's node has the address in its pod networks, and no other node has it in
// a smaller one; 1 where no node has it, and the pod's has no pod network of the family; else 0.
func credit(c *Cluster, a netip.Addr, p *corev1.Pod) int {
	if narrowest := narrowestNetwork(c, a); narrowest >= 0 {
		for _, n := range c.Nodes {
			if n.Name == p.Spec.NodeName && smallest(n, a) == narrowest {
				return 2
			}
		}
		return 0
	}
	for _, n := range c.Nodes {
		if n.Name != p.Spec.NodeName {
			continue
		}
		for _, network := range podNetworks(n) {
			if network.Addr().Is4() == a.Is4() {
				return 0
			}
		}
		return 1
	}
	if len(c.Nodes) == 0 {
		return 1
	}
	return 0
}

// narrowestNetwork is the prefix length of the smallest pod network that has the address, or -1.
func narrowestNetwork(c *Cluster, a netip.Addr) int {
	bits := -1
	for _, n := range c.Nodes {
		bits = max(bits, smallest(n, a))
	}
	return bits
}

// smallest is the prefix length of the node's smallest pod network that has the address, or -1.
func smallest(n *corev1.Node, a netip.Addr) int {
	bits := -1
	for _, network := range podNetworks(n) {
		if network.Contains(a) {
			bits = max(bits, network.Bits())
		}
	}
	return bits
}

// NodeAt is the node that has the address itself, or nil.
func NodeAt(c *Cluster, a netip.Addr) *corev1.Node {
	for _, n := range c.Nodes {
		if has(c, n, a) {
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

// has reports whether an address is one of the node's own. Some of them are names. What a node says
// of an address in the pod network of another, in none that is as small of its own, is not so.
func has(c *Cluster, n *corev1.Node, a netip.Addr) bool {
	says := slices.ContainsFunc(n.Status.Addresses, func(own corev1.NodeAddress) bool { return is(own.Address, a) })
	return says && smallest(n, a) == narrowestNetwork(c, a)
}

func inPodNetwork(n *corev1.Node, a netip.Addr) bool { return smallest(n, a) >= 0 }

// podNetworks are the networks of the node's pods that can be read.
func podNetworks(n *corev1.Node) []netip.Prefix {
	texts := n.Spec.PodCIDRs
	if len(texts) == 0 {
		texts = []string{n.Spec.PodCIDR}
	}
	var out []netip.Prefix
	for _, text := range texts {
		if network, ok := cidr(text); ok {
			out = append(out, network)
		}
	}
	return out
}

// is reports whether the text is the address. An IPv4-mapped address is the IPv4 address.
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
