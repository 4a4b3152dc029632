package compile

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/tierwall/tierwall/policy"
)

// setNodes takes in nodes that changed, and what that means for who owns which address.
func (c *commit) setNodes(changed Objects[Node]) {
	touched := nodeChange{names: map[string]bool{}}
	first := c.frame == nil
	wasEmpty := len(c.networks.nodes) == 0
	for key, now := range changed {
		before := c.networks.nodes[key.Name]
		c.networks.set(key.Name, now)
		c.nodesChanged = true
		touched.add(key.Name, before, now)
	}
	if touched.all = wasEmpty != (len(c.networks.nodes) == 0); touched.any() {
		c.reclaim(&touched)
	}
	if !first && !touched.any() {
		return
	}
	nodes := slices.SortedFunc(maps.Values(c.networks.nodes), compareNodes)
	next := &policy.NodeConfig{Hosts: hosts(nodes, c.networks), Local: local(nodes, c.node), Unknown: unknown(c.defaults)}
	if first || !equalFrames(c.frame, next) {
		c.frame, c.change.Frame = next, next
	}
}

// nodeChange is what of some nodes changed that claims depend on.
type nodeChange struct {
	all      bool            // the first node came, or the last went
	names    map[string]bool // of nodes that came, went or changed
	networks []netip.Prefix  // among their podCIDRs, before and after
	addrs    []netip.Addr    // of their own, before and after
}

func (n *nodeChange) any() bool { return n.all || len(n.names) > 0 }

func (n *nodeChange) add(name string, before, now *Node) {
	switch {
	case before == nil && now == nil:
		return
	case before != nil && now != nil && slices.Equal(before.Addrs, now.Addrs) && slices.Equal(before.PodCIDRs, now.PodCIDRs):
		return
	}
	n.names[name] = true
	for _, node := range []*Node{before, now} {
		if node == nil {
			continue
		}
		n.addrs = append(n.addrs, addresses(node.Addrs)...)
		if before == nil || now == nil || !slices.Equal(before.PodCIDRs, now.PodCIDRs) {
			n.networks = append(n.networks, podCIDRs(node)...)
		}
	}
}

// concerns reports whether claims of the node's pods may have another place now.
func (n *nodeChange) concerns(name string, node *Node) bool {
	if n.all || n.names[name] {
		return true
	}
	if node == nil {
		return false // its pods' claims are Foreign before and after
	}
	own := podCIDRs(node)
	return slices.ContainsFunc(n.networks, func(changed netip.Prefix) bool {
		sameFamily := func(p netip.Prefix) bool { return family(p.Addr()) == family(changed.Addr()) }
		return slices.ContainsFunc(own, changed.Overlaps) || !slices.ContainsFunc(own, sameFamily)
	})
}

// maxChangedNetworks bounds the comparisons with changed networks; beyond it all claims are placed anew.
const maxChangedNetworks = 64

// reclaim places the claims anew that the change concerns.
func (c *commit) reclaim(n *nodeChange) {
	if len(c.onNode) == 0 {
		return
	}
	n.all = n.all || len(n.networks) > maxChangedNetworks
	addrs := map[netip.Addr]struct{}{}
	for name, pods := range c.onNode {
		if n.concerns(name, c.networks.nodes[name]) {
			for _, m := range pods {
				for _, a := range claimed(m.pod) {
					c.touch(m)
					addrs[a] = struct{}{}
				}
			}
		}
	}
	for _, a := range n.addrs {
		addrs[a] = struct{}{}
	}
	for a := range c.networks.hosts { // whose reports count where they did not, or the other way round
		if n.all || slices.ContainsFunc(n.networks, func(p netip.Prefix) bool { return p.Contains(a) }) {
			addrs[a] = struct{}{}
		}
	}
	for a := range addrs {
		c.reclaimAddr(a)
	}
}

// reclaimAddr places all claims to the address anew.
func (c *commit) reclaimAddr(a netip.Addr) {
	for _, m := range c.claims.contested[a] {
		c.touch(m)
	}
	if c.claims.contested[a] != nil {
		c.claims.resolveOwner(a, c.networks, c.touch)
	} else if owner := c.claims.owners.of(a); owner != nil {
		c.touch(owner)
		c.claim(a, owner)
	}
}

// claim notes that the pod claims the address, or that the place of its claim may have changed.
func (c *commit) claim(a netip.Addr, m *member) { c.claims.claim(a, m, c.networks, c.touch) }

// drop notes that the pod claims the address no longer.
func (c *commit) drop(a netip.Addr, m *member) { c.claims.drop(a, m, c.networks, c.touch) }

// moveToNode files the pod under the name of its node.
func (c *commit) moveToNode(m *member, node string) {
	if m.pod != nil {
		if m.pod.Node == node {
			return
		}
		c.leaveNode(m)
	}
	m.onNode = int32(len(c.onNode[node]))
	c.onNode[node] = append(c.onNode[node], m)
}

func (c *commit) leaveNode(m *member) {
	pods := c.onNode[m.pod.Node]
	last := len(pods) - 1
	moved := pods[last]
	pods[m.onNode], moved.onNode = moved, m.onNode
	if pods[last] = nil; last == 0 {
		delete(c.onNode, m.pod.Node)
		return
	}
	c.onNode[m.pod.Node] = pods[:last]
}
