package compile

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/roles"
)

// nameLabel is the label that the API server keeps equal to a namespace's name.
const nameLabel = corev1.LabelMetadataName

// cluster is the snapshot's pods, namespaces and nodes, indexed for selectors.
type cluster struct {
	pods       []*pod // those that have an address, sorted by namespace and name
	namespaces map[string]*namespace
	nodes      []*Node // sorted by name
	networks   *NodeNetworks

	selectedNamespaces map[string][]*namespace // by selector
	byLabel            map[label][]*pod        // nil until asked for
	byPort             map[portName][]policy.Element
}

// pod is one that policy applies to, with the labels that selectors see and
// the addresses that are its own.
type pod struct {
	*Pod
	labels labels.Set
	addrs  []netip.Addr
	// confirmed are those of addrs that are not Foreign.
	confirmed []netip.Addr
}

// peerAddrs are the addresses of the pod as a peer: Foreign ones only where foreign is true.
func (p *pod) peerAddrs(foreign bool) []netip.Addr {
	if foreign {
		return p.addrs
	}
	return p.confirmed
}

type namespace struct {
	name   string
	labels labels.Set
	pods   []*pod
}

func newCluster(s *Snapshot) *cluster {
	c := &cluster{
		namespaces:         make(map[string]*namespace, len(s.Namespaces)),
		selectedNamespaces: map[string][]*namespace{},
		nodes:              slices.SortedFunc(slices.Values(s.Nodes), compareNodes),
		networks:           NewNodeNetworks(s.Nodes),
	}
	for _, n := range s.Namespaces {
		c.namespaces[n.Name] = &namespace{name: n.Name, labels: namespaceLabels(n)}
	}
	owners := c.networks.owners(s.Pods)
	tierRoles := roles.New(s.TierRoles)
	c.pods = make([]*pod, 0, len(s.Pods))
	for _, p := range s.Pods {
		if addrs := own(claimed(p), func(a netip.Addr) bool { return owners[a].Pod == p }); len(addrs) > 0 {
			role := tierRoles.Of(p.Namespace, p.ServiceAccount, p.Labels)
			confirmed := own(addrs, func(a netip.Addr) bool { return owners[a].Place != Foreign })
			c.pods = append(c.pods, &pod{Pod: p, labels: role.Apply(p.Labels), addrs: addrs, confirmed: confirmed})
		}
	}
	slices.SortFunc(c.pods, func(a, b *pod) int { return comparePods(a.Pod, b.Pod) })
	for _, p := range c.pods {
		ns := c.namespaces[p.Namespace]
		if ns == nil {
			ns = &namespace{name: p.Namespace, labels: labels.Set{nameLabel: p.Namespace}}
			c.namespaces[p.Namespace] = ns
		}
		ns.pods = append(ns.pods, p)
	}
	return c
}

func compareNodes(a, b *Node) int { return strings.Compare(a.Name, b.Name) }

func comparePods(a, b *Pod) int {
	return cmp.Or(
		strings.Compare(a.Namespace, b.Namespace),
		strings.Compare(a.Name, b.Name),
		strings.Compare(string(a.UID), string(b.UID)))
}

func namespaceLabels(n *Namespace) labels.Set {
	if n.Labels[nameLabel] == n.Name {
		return n.Labels
	}
	out := make(labels.Set, len(n.Labels)+1)
	for k, v := range n.Labels {
		out[k] = v
	}
	out[nameLabel] = n.Name
	return out
}

// namespacesOf are the namespaces that the selector matches, sorted by name.
func (c *cluster) namespacesOf(s selector) []*namespace {
	if found, ok := c.selectedNamespaces[s.text]; ok {
		return found
	}
	var out []*namespace
	if name, ok := s.name(); ok {
		if ns := c.namespaces[name]; ns != nil && s.matches(ns.labels) {
			out = append(out, ns)
		}
	} else {
		for _, ns := range c.namespaces {
			if s.matches(ns.labels) {
				out = append(out, ns)
			}
		}
	}
	slices.SortFunc(out, func(a, b *namespace) int { return strings.Compare(a.name, b.name) })
	c.selectedNamespaces[s.text] = out
	return out
}

// members are the pods that one selector matches in the namespaces that the other matches.
func (c *cluster) members(namespaces, pods selector) []*pod {
	in := c.namespacesOf(namespaces)
	if len(in) > 1 && !pods.everything() {
		if candidates, ok := c.candidates(pods); ok {
			return c.filter(candidates, in, pods)
		}
	}
	var out []*pod
	for _, ns := range in {
		if pods.everything() {
			out = append(out, ns.pods...)
			continue
		}
		for _, p := range ns.pods {
			if pods.matches(p.labels) {
				out = append(out, p)
			}
		}
	}
	return out
}

func (c *cluster) filter(candidates []*pod, in []*namespace, pods selector) []*pod {
	wanted := make(map[string]bool, len(in))
	for _, ns := range in {
		wanted[ns.name] = true
	}
	var out []*pod
	for _, p := range candidates {
		if wanted[p.Namespace] && pods.matches(p.labels) {
			out = append(out, p)
		}
	}
	return out
}

// candidates are a superset of the pods that the selector matches, found by its most
// selective requirement. It is false when no requirement names what a pod must have.
func (c *cluster) candidates(s selector) (best []*pod, found bool) {
	if c.byLabel == nil {
		c.indexLabels()
	}
	for i := range s.requirements {
		anchors := s.requirements[i].anchors()
		if len(anchors) == 0 {
			continue
		}
		pods := c.byLabel[anchors[0]]
		if len(anchors) > 1 {
			pods = slices.Clone(pods)
		}
		for _, a := range anchors[1:] {
			pods = append(pods, c.byLabel[a]...)
		}
		if !found || len(pods) < len(best) {
			best, found = pods, true
		}
	}
	return best, found
}

func (c *cluster) indexLabels() {
	c.byLabel = make(map[label][]*pod, len(c.pods))
	for _, p := range c.pods {
		for k, v := range p.labels {
			c.byLabel[label{key: k, value: v}] = append(c.byLabel[label{key: k, value: v}], p)
			c.byLabel[label{key: k, any: true}] = append(c.byLabel[label{key: k, any: true}], p)
		}
	}
}

func (c *cluster) podAddrs(s *podSelection) []netip.Addr {
	var out []netip.Addr
	for _, p := range c.members(s.namespaces, s.pods) {
		out = append(out, p.peerAddrs(s.foreign)...)
	}
	return out
}

func (c *cluster) nodeAddrs(s selector) []netip.Addr { return c.networks.selectedNodeAddrs(s) }

// selectedNodeAddrs are the addresses of those of the nodes that the selector matches.
func (n *NodeNetworks) selectedNodeAddrs(s selector) []netip.Addr {
	var out []netip.Addr
	for _, node := range n.nodes {
		if s.matches(node.Labels) {
			out = append(out, n.nodeAddrs(node)...)
		}
	}
	return out
}

func (c *cluster) namedPorts(wanted portName) []policy.Element {
	if c.byPort == nil {
		c.byPort = map[portName][]policy.Element{}
		for _, p := range c.pods {
			for _, port := range p.Ports {
				for _, foreign := range []bool{false, true} {
					key := portName{port.Name, port.Protocol, foreign}
					for _, a := range p.peerAddrs(foreign) {
						c.byPort[key] = append(c.byPort[key], port.element(a))
					}
				}
			}
		}
	}
	return slices.Clone(c.byPort[wanted])
}

// element is the port at an address.
func (p NamedPort) element(a netip.Addr) policy.Element {
	e := policy.AddressElement(a)
	e.Protocol, e.Port = p.Protocol, p.Port
	return e
}
