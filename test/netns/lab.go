package netns

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/tierwall/tierwall/policy"
)

// Ports are those on which every Host answers by TCP and by UDP.
var Ports = []uint16{53, 80, 81, 443, 5432, 8080}

// Host is a pod, a node or a machine elsewhere: a namespace with addresses that
// answers on Ports.
type Host struct {
	*Space
	Name  string
	Addrs []netip.Addr
	// Node is the node that a pod runs on; nil for others.
	Node *Host
	arrivals
}

// Lab is nodes on one network with their pods behind them, and a machine elsewhere.
type Lab struct {
	Nodes map[string]*Host
	// Pods are by namespace and name.
	Pods  map[string]*Host
	World *Host

	network *Space
	links   int
	// guardLog is what the guards of its nodes' pods last wrote.
	guardLog lastGuarded
}

// Addresses of the machine that is neither a node nor a pod.
var (
	World4 = netip.MustParseAddr("203.0.113.9")
	World6 = netip.MustParseAddr("2001:db8::1")
)

// NewLab makes nodes with their addresses, and the machine elsewhere.
func NewLab(t testing.TB, nodes []policy.Host) *Lab {
	t.Helper()
	l := &Lab{Nodes: map[string]*Host{}, Pods: map[string]*Host{}, network: NewSpace(t)}
	l.network.Run(t, "ip", "link", "add", "br0", "type", "bridge")
	l.network.Run(t, "ip", "link", "set", "br0", "up")
	for _, n := range nodes {
		h := &Host{Space: NewSpace(t), Name: n.Name, Addrs: n.Addrs}
		l.Nodes[n.Name] = h
		l.plug(t, h)
		h.sysctl(t, "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
		h.track(t)
	}
	l.World = &Host{Space: NewSpace(t), Name: "world", Addrs: []netip.Addr{World4, World6}}
	l.plug(t, l.World)
	l.connect(t)
	for _, h := range l.Nodes {
		h.serve(t)
	}
	l.World.serve(t)
	return l
}

// track has a node track connections from the beginning, as every node does that
// translates addresses for Services.
func (h *Host) track(t testing.TB) {
	t.Helper()
	h.Run(t, "nft", "add table inet lab; add chain inet lab forward { type filter hook forward priority 10; };"+
		"add rule inet lab forward ct state invalid counter")
}

// plug connects a host to the nodes' network.
func (l *Lab) plug(t testing.TB, h *Host) {
	t.Helper()
	port := l.veth(t, l.network, h.Space)
	l.network.Run(t, "ip", "link", "set", port, "master", "br0", "up")
	h.addresses(t)
}

// veth makes a pair of interfaces between two namespaces. In the second it is
// called eth0; the name in the first is returned.
func (l *Lab) veth(t testing.TB, a, b *Space) string {
	t.Helper()
	l.links++
	name := fmt.Sprintf("veth%d", l.links)
	a.Run(t, "ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", b.Path())
	a.Run(t, "ip", "link", "set", name, "up")
	b.sysctl(t, "net.ipv6.conf.eth0.accept_dad=0", "net.ipv6.conf.eth0.accept_ra=0")
	b.Run(t, "ip", "link", "set", "eth0", "up")
	return name
}

// addresses gives a host's addresses to its interface. They can be used at once: nobody
// looks for duplicates first.
func (h *Host) addresses(t testing.TB) {
	t.Helper()
	for _, a := range h.Addrs {
		h.Run(t, "ip", "address", "add", fmt.Sprintf("%s/%d", a, a.BitLen()), "dev", "eth0", "nodad")
	}
}

// connect lets nodes and the machine elsewhere reach each other.
func (l *Lab) connect(t testing.TB) {
	t.Helper()
	all := []*Host{l.World}
	for _, n := range l.Nodes {
		all = append(all, n)
	}
	for _, from := range all {
		for _, to := range all {
			for _, a := range to.Addrs {
				if from != to {
					from.Run(t, "ip", "route", "add", a.String(), "dev", "eth0")
				}
			}
		}
	}
}

// AddPod makes a pod on a node, routed as the ptp CNI plugin does.
func (l *Lab) AddPod(t testing.TB, node, key string, addrs ...netip.Addr) *Host {
	t.Helper()
	n := l.Nodes[node]
	pod := &Host{Space: NewSpace(t), Name: key, Addrs: addrs, Node: n}
	l.Pods[key] = pod
	link := l.veth(t, n.Space, pod.Space)
	n.sysctl(t, "net.ipv6.conf."+link+".accept_dad=0")
	n.Run(t, "ip", "address", "add", "169.254.1.1/32", "dev", link)
	n.Run(t, "ip", "address", "add", "fe80::1/64", "dev", link, "nodad")
	pod.addresses(t)
	pod.Run(t, "ip", "route", "add", "default", "via", "169.254.1.1", "dev", "eth0", "onlink")
	pod.Run(t, "ip", "route", "add", "default", "via", "fe80::1", "dev", "eth0")
	for _, a := range addrs {
		n.Run(t, "ip", "route", "add", a.String(), "dev", link, "src", family(n.Addrs, a).String())
		l.route(t, n, a)
	}
	pod.serve(t)
	return pod
}

// route leads an address to a node, from everywhere else.
func (l *Lab) route(t testing.TB, node *Host, a netip.Addr) {
	t.Helper()
	for _, h := range append([]*Host{l.World}, l.others(node)...) {
		h.Run(t, "ip", "route", "add", a.String(), "via", family(node.Addrs, a).String(), "dev", "eth0", "onlink")
	}
}

func (l *Lab) others(node *Host) []*Host {
	var out []*Host
	for _, n := range l.Nodes {
		if n != node {
			out = append(out, n)
		}
	}
	return out
}

// ByAddr is the host that has an address, or nil.
func (l *Lab) ByAddr(a netip.Addr) *Host {
	for _, hosts := range []map[string]*Host{l.Nodes, l.Pods, {"": l.World}} {
		for _, h := range hosts {
			if family(h.Addrs, a) == a {
				return h
			}
		}
	}
	return nil
}

// family is the address of the list that has the same family as another one, or
// that one itself if it is in the list.
func family(addrs []netip.Addr, as netip.Addr) netip.Addr {
	var found netip.Addr
	for _, a := range addrs {
		if a == as || a.Is4() == as.Is4() && !found.IsValid() {
			found = a
		}
		if a == as {
			break
		}
	}
	return found
}

func (s *Space) sysctl(t testing.TB, settings ...string) {
	t.Helper()
	for _, setting := range settings {
		key, value, _ := strings.Cut(setting, "=")
		s.write(t, "/proc/sys/"+strings.ReplaceAll(key, ".", "/"), value)
	}
}
