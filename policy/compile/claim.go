package compile

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
)

// Place is where an address lies that a pod claims, as seen from the pod's node. Lower values are stronger claims.
type Place uint8

const (
	// InOwnNetwork is an address in the podCIDRs of the pod's node.
	InOwnNetwork Place = iota
	// Unallocated is an address in nobody's podCIDRs, of a pod whose node has no podCIDRs of the IP family.
	Unallocated
	// Foreign is an address outside of the networks of the pod's node, or of a pod without a node.
	Foreign
	// Unusable is an address that no pod can have: a node's, or loopback, link-local, multicast or unspecified.
	Unusable
)

// Claim is a pod's claim to an address.
type Claim struct {
	Pod   *Pod
	Place Place
}

// Compare orders two claims to one address, the owner's first: by place, then a pod that is not terminating, then the
// oldest, so that who comes later takes nothing over. UIDs and names only make the order total.
func (c Claim) Compare(other Claim) int {
	return cmp.Or(
		cmp.Compare(c.Place, other.Place),
		compareBools(c.Pod.Terminating, other.Pod.Terminating),
		cmp.Compare(c.Pod.Created, other.Pod.Created),
		strings.Compare(string(c.Pod.UID), string(other.Pod.UID)),
		comparePods(c.Pod, other.Pod))
}

// compareBools orders false before true.
func compareBools(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	default:
		return 1
	}
}

// NodeNetworks are the addresses of the nodes and the networks of their pods, indexed by address.
type NodeNetworks struct {
	nodes map[string]*Node
	// pods are the names of the nodes that have a network among their podCIDRs; hosts, of those that report an address.
	pods  map[netip.Prefix][]string
	hosts map[netip.Addr][]string
	// lengths are the prefix lengths of pods by IP family, longest first.
	lengths [2][]int
}

// NewNodeNetworks indexes the nodes.
func NewNodeNetworks(nodes []*Node) *NodeNetworks {
	n := &NodeNetworks{nodes: map[string]*Node{}, pods: map[netip.Prefix][]string{}, hosts: map[netip.Addr][]string{}}
	for _, node := range nodes {
		n.set(node.Name, node)
	}
	return n
}

// set replaces a node, or with nil removes it.
func (n *NodeNetworks) set(name string, now *Node) {
	if before := n.nodes[name]; before != nil {
		for _, p := range podCIDRs(before) {
			removeName(n.pods, p, name)
		}
		for _, a := range addresses(before.Addrs) {
			removeName(n.hosts, a, name)
		}
		delete(n.nodes, name)
	}
	if now != nil {
		for _, p := range podCIDRs(now) {
			n.pods[p] = append(n.pods[p], name)
		}
		for _, a := range addresses(now.Addrs) {
			n.hosts[a] = append(n.hosts[a], name)
		}
		n.nodes[name] = now
	}
	n.lengths = [2][]int{} // found again when an address is looked up
}

func removeName[K comparable](from map[K][]string, key K, name string) {
	if rest := slices.DeleteFunc(from[key], func(s string) bool { return s == name }); len(rest) > 0 {
		from[key] = rest
	} else {
		delete(from, key)
	}
}

// home are the nodes whose podCIDRs have the address, by the longest prefix that does.
func (n *NodeNetworks) home(a netip.Addr) []string {
	if len(n.pods) == 0 {
		return nil
	}
	if n.lengths[0] == nil {
		n.findLengths()
	}
	for _, bits := range n.lengths[family(a)] {
		if p, err := a.Prefix(bits); err == nil && n.pods[p] != nil {
			return n.pods[p]
		}
	}
	return nil
}

func (n *NodeNetworks) findLengths() {
	var seen [2][129]bool
	for p := range n.pods {
		seen[family(p.Addr())][p.Bits()] = true
	}
	for f := range seen {
		n.lengths[f] = []int{}
		for bits := 128; bits >= 0; bits-- {
			if seen[f][bits] {
				n.lengths[f] = append(n.lengths[f], bits)
			}
		}
	}
}

// family is 0 for IPv4 and 1 for IPv6.
func family(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

// isNodeAddress reports whether a node's own report of the address counts: not within the podCIDRs of another node.
func (n *NodeNetworks) isNodeAddress(a netip.Addr) bool {
	return slices.ContainsFunc(n.hosts[a], func(name string) bool { return n.canBeNodeAddress(name, a) })
}

func (n *NodeNetworks) canBeNodeAddress(name string, a netip.Addr) bool {
	home := n.home(a)
	return len(home) == 0 || slices.Contains(home, name)
}

// nodeAddrs are the addresses of the node whose report counts.
func (n *NodeNetworks) nodeAddrs(node *Node) []netip.Addr {
	return own(addresses(node.Addrs), func(a netip.Addr) bool { return n.canBeNodeAddress(node.Name, a) })
}

// Claim is the pod's claim to one of its addresses, which is unmapped.
func (n *NodeNetworks) Claim(p *Pod, a netip.Addr) Claim { return Claim{p, n.place(p, a)} }

func (n *NodeNetworks) place(p *Pod, a netip.Addr) Place {
	if p.Representative {
		return InOwnNetwork
	}
	if !canBePods(a) || n.isNodeAddress(a) {
		return Unusable
	}
	switch home := n.home(a); {
	case slices.Contains(home, p.Node):
		return InOwnNetwork
	case len(home) == 0 && n.unallocated(p.Node, family(a)):
		return Unallocated
	default:
		return Foreign
	}
}

// unallocated reports whether the node exists and has no podCIDRs of the family, or whether no node is known.
func (n *NodeNetworks) unallocated(node string, f int) bool {
	known := n.nodes[node]
	if known == nil {
		return len(n.nodes) == 0
	}
	return !slices.ContainsFunc(podCIDRs(known), func(p netip.Prefix) bool { return family(p.Addr()) == f })
}

// canBePods reports whether a pod can have the address at all (RFC 6890).
func canBePods(a netip.Addr) bool {
	return !a.IsUnspecified() && !a.IsLoopback() && !a.IsMulticast() && !a.IsLinkLocalUnicast() && a != broadcast
}

// broadcast is the limited broadcast address (RFC 919).
var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// owners are the pods that the addresses belong to; an address that no pod can have has none.
func (n *NodeNetworks) owners(pods []*Pod) map[netip.Addr]Claim {
	owners := make(map[netip.Addr]Claim, 2*len(pods))
	for _, p := range pods {
		for _, a := range claimed(p) {
			claim := n.Claim(p, a)
			if other, taken := owners[a]; claim.Place != Unusable && (!taken || claim.Compare(other) < 0) {
				owners[a] = claim
			}
		}
	}
	return owners
}

// Owner is the pod among those that the address belongs to, or nil.
func Owner(nodes []*Node, pods []*Pod, a netip.Addr) *Pod {
	return NewNodeNetworks(nodes).owners(pods)[a.Unmap()].Pod
}
