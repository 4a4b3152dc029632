//go:build netns

package netns

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/tierwall/tierwall/enforcer/spoof"
	"github.com/tierwall/tierwall/policy"
)

// dialLinkLocal connects by TCP to a link-local address at eth0.
func dialLinkLocal(from *Host, to string, port int, patience time.Duration) error {
	return from.Do(func() error {
		eth0, err := net.InterfaceByName("eth0") // by its number: package net keeps names, whatever the namespace
		if err != nil {
			return err
		}
		c, err := net.DialTimeout("tcp", fmt.Sprintf("[%s%%%d]:%d", to, eth0.Index, port), patience)
		if err != nil {
			return err
		}
		return c.Close()
	})
}

// linkLocalOf is the address that the kernel gave to eth0.
func linkLocalOf(t *testing.T, h *Host) netip.Addr {
	t.Helper()
	var out netip.Addr
	if !within(forAllowed, func() bool {
		if err := h.Do(func() error {
			eth0, err := net.InterfaceByName("eth0")
			if err != nil {
				return err
			}
			addrs, err := eth0.Addrs()
			for _, a := range addrs {
				if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is6() && p.Addr().IsLinkLocalUnicast() {
					out = p.Addr()
				}
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return out.IsValid()
	}) {
		t.Fatalf("%s has no link-local address", h.Name)
	}
	return out
}

// A pod's link-local address is no endpoint's, so policy does not judge it: nothing but neighbour discovery comes from it,
// whether sources are held against the routes or not. What comes by the node's own links is let be.
func TestAPodSendsNothingFromItsLinkLocalAddress(t *testing.T) {
	for name, k := range guards {
		for variant, kernel := range map[string]spoof.Kernel{name: k, name + ", any source": k.WithAnySource()} {
			t.Run(variant, func(t *testing.T) {
				t.Parallel()
				l := spoofLab(t)
				pod, node := l.Pods[victim.Key()], l.Nodes["node"]
				for _, port := range []int{80, 8080} {
					if err := dialLinkLocal(pod, "fe80::1", port, forAllowed); err != nil {
						t.Fatalf("nothing is guarded, and the node's port is out of reach: the test shows nothing: %v", err)
					}
				}
				l.guard(t, kernel, spoofProgram(attacker, victim))
				l.awaitGuarded(t, kernel, l.linkOf(t, victim.Addrs[0]), true)
				for _, port := range []int{80, 8080} {
					if dialLinkLocal(pod, "fe80::1", port, forDenied) == nil {
						t.Errorf("port %d of the node is reached", port)
					}
				}
				own := linkLocalOf(t, pod)
				seen := l.inputs(t)
				for shape, packet := range map[string]func(mark []byte) []byte{
					"a datagram to the node's address": func(m []byte) []byte { return datagram(own, spoofNode.Addrs[1], 80, m) },
					"a datagram to all nodes":          func(m []byte) []byte { return datagram(own, netip.MustParseAddr("ff02::1"), 80, m) },
					"a datagram from another address":  func(m []byte) []byte { return datagram(netip.MustParseAddr("fe80::77"), spoofNode.Addrs[1], 80, m) },
					"a forwarded solicitation":         func(m []byte) []byte { return discoveryPacket(135, 0, 254, own, spoofNode.Addrs[1], m) },
					"an advertisement with a code":     func(m []byte) []byte { return discoveryPacket(136, 1, 255, own, spoofNode.Addrs[1], m) },
					"a router's advertisement":         func(m []byte) []byte { return discoveryPacket(134, 0, 255, own, netip.MustParseAddr("ff02::1"), m) },
					"a redirect":                       func(m []byte) []byte { return discoveryPacket(137, 0, 255, own, spoofNode.Addrs[1], m) },
					"a datagram from 169.254.7.7":      func(m []byte) []byte { return datagram(netip.MustParseAddr("169.254.7.7"), spoofNode.Addrs[0], 80, m) },
				} {
					if seen(pod, packet, forDenied/2) {
						t.Errorf("%s passes", shape)
					}
				}
				if !seen(pod, func(m []byte) []byte { return discoveryPacket(135, 0, 255, own, spoofNode.Addrs[1], m) }, forAllowed) {
					t.Error("a solicitation does not pass")
				}
				node.Run(t, "ip", "-6", "neighbour", "flush", "all")
				pod.Run(t, "ip", "-6", "neighbour", "flush", "all")
				l.expect(t, victim.Key(), policy.Flow{Source: victim.Addrs[1], Destination: World6, Protocol: policy.TCP, DestinationPort: 80}, true)
				// Routing daemons and DHCP speak by link-local addresses at the node's own links.
				uplink := linkLocalOf(t, node)
				if err := dialLinkLocal(l.World, uplink.String(), 80, forAllowed); err != nil {
					t.Errorf("the node is out of reach by its own link: %v", err)
				}
			})
		}
	}
}

// inputs has the node count marked packets that get as far as its input hook, and reports whether one that a pod sends does.
func (l *Lab) inputs(t *testing.T) func(from *Host, packet func(mark []byte) []byte, patience time.Duration) bool {
	t.Helper()
	node := l.Nodes["node"]
	node.Run(t, "nft", `add table inet inputs; add counter inet inputs marked;
		add chain inet inputs input { type filter hook input priority -5; };
		add rule inet inputs input ip6 flowlabel 0x77777 counter name marked;
		add rule inet inputs input ip id 0x7777 counter name marked`)
	return func(from *Host, packet func(mark []byte) []byte, patience time.Duration) bool {
		node.Run(t, "nft", "reset", "counter", "inet", "inputs", "marked")
		return within(patience, func() bool {
			gateway := l.gateway(t, from)
			if err := from.Do(func() error { return transmit(packet(marker()), gateway) }); err != nil {
				t.Fatal(err)
			}
			return counted(t, node.Run(t, "nft", "list", "counter", "inet", "inputs", "marked")) > 0
		})
	}
}

// bridgeLab is a node with two pods on a bridge, whose packets the kernel hands to the packet filter.
func bridgeLab(t *testing.T) (l *Lab, a, b *Host) {
	t.Helper()
	l = NewLab(t, []policy.Host{spoofNode})
	node := l.Nodes["node"]
	node.sysctl(t, "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0",
		"net.bridge.bridge-nf-call-iptables=1", "net.bridge.bridge-nf-call-ip6tables=1")
	node.Run(t, "ip", "link", "add", "cni0", "type", "bridge")
	node.sysctl(t, "net.ipv6.conf.cni0.accept_dad=0")
	node.Run(t, "ip", "link", "set", "cni0", "up")
	node.Run(t, "ip", "address", "add", "10.0.1.1/24", "dev", "cni0")
	node.Run(t, "ip", "address", "add", "fd00:2:0:1::1/64", "dev", "cni0", "nodad")
	return l, l.addBridgedPod(t, closedPod), l.addBridgedPod(t, openPod)
}

// addBridgedPod makes a pod on the bridge cni0 of the node.
func (l *Lab) addBridgedPod(t *testing.T, e policy.Endpoint) *Host {
	t.Helper()
	node := l.Nodes["node"]
	pod := &Host{Space: NewSpace(t), Name: e.Key(), Addrs: e.Addrs, Node: node}
	l.Pods[e.Key()] = pod
	link := l.veth(t, node.Space, pod.Space)
	node.Run(t, "ip", "link", "set", link, "master", "cni0")
	for _, a := range e.Addrs {
		pod.Run(t, "ip", "address", "add", netip.PrefixFrom(a, map[bool]int{true: 24, false: 64}[a.Is4()]).String(), "dev", "eth0", "nodad")
	}
	pod.Run(t, "ip", "route", "add", "default", "via", "10.0.1.1")
	pod.Run(t, "ip", "route", "add", "default", "via", "fd00:2:0:1::1")
	for _, a := range e.Addrs {
		l.route(t, node, a)
	}
	pod.serve(t)
	return pod
}

// Policy judges addresses of endpoints. Pods on one bridge have others by which they could reach each other: link-local ones,
// and those of groups.
func TestPodsOnABridgeDoNotReachEachOtherByLinkLocalAddresses(t *testing.T) {
	for name, k := range guards {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, closed, open := bridgeLab(t)
			seen := closed.sniff(t)
			mac := closed.hardwareAddress(t, "eth0")
			local, to := linkLocalOf(t, open), linkLocalOf(t, closed)
			source4, source6 := openPod.Addrs[0], openPod.Addrs[1]
			shapes := map[string]func(mark []byte) []byte{
				"from one link-local address to another": func(m []byte) []byte { return datagram(local, to, 80, m) },
				"to a link-local address":                func(m []byte) []byte { return datagram(source6, to, 80, m) },
				"from a link-local address":              func(m []byte) []byte { return datagram(local, closedPod.Addrs[1], 80, m) },
				"to all nodes":                           func(m []byte) []byte { return datagram(source6, netip.MustParseAddr("ff02::1"), 80, m) },
				"to a group":                             func(m []byte) []byte { return datagram(source4, netip.MustParseAddr("224.0.0.251"), 5353, m) },
				"to all":                                 func(m []byte) []byte { return datagram(source4, netip.MustParseAddr("255.255.255.255"), 80, m) },
				"from 169.254.9.9":                       func(m []byte) []byte { return datagram(netip.MustParseAddr("169.254.9.9"), closedPod.Addrs[0], 80, m) },
				"from an address of the world":           func(m []byte) []byte { return datagram(netip.MustParseAddr("198.51.100.9"), closedPod.Addrs[0], 80, m) },
				"a router's advertisement":               func(m []byte) []byte { return discoveryPacket(134, 0, 255, local, netip.MustParseAddr("ff02::1"), m) },
				"a redirect":                             func(m []byte) []byte { return discoveryPacket(137, 0, 255, local, closedPod.Addrs[1], m) },
				"a forwarded solicitation":               func(m []byte) []byte { return discoveryPacket(135, 0, 254, local, to, m) },
			}
			arrives := func(packet func(mark []byte) []byte, patience time.Duration) bool {
				mark := marker()
				return within(patience, func() bool {
					if err := open.Do(func() error { return transmit(packet(mark), mac) }); err != nil {
						t.Fatal(err)
					}
					time.Sleep(20 * time.Millisecond)
					return seen.saw(mark)
				})
			}
			for shape, packet := range shapes {
				if !arrives(packet, forAllowed) {
					t.Fatalf("%s: it does not arrive although nothing is guarded: the test shows nothing", shape)
				}
			}
			l.guard(t, k, pathsProgram())
			l.awaitGuarded(t, k, "cni0", true)
			for shape, packet := range shapes {
				if arrives(packet, forDenied) {
					t.Errorf("%s: it arrives", shape)
				}
			}
			if !arrives(func(m []byte) []byte { return discoveryPacket(135, 0, 255, local, to, m) }, forAllowed) {
				t.Error("a solicitation does not arrive")
			}
			// The pods still find each other and the node, which their addresses lead to.
			for _, h := range []*Host{closed, open, l.Nodes["node"]} {
				h.Run(t, "ip", "neighbour", "flush", "all")
				h.Run(t, "ip", "-6", "neighbour", "flush", "all")
			}
			for i, world := range []netip.Addr{World4, World6} {
				for _, destination := range []netip.Addr{world, closedPod.Addrs[i], spoofNode.Addrs[i]} {
					l.expect(t, openPod.Name, policy.Flow{Source: openPod.Addrs[i], Destination: destination, Protocol: policy.TCP, DestinationPort: 80}, true)
				}
			}
			if err := l.discover(t, open); err != nil {
				t.Errorf("a DHCP request does not arrive: %v", err)
			}
		})
	}
}

// A pod that sends in the node's own tunnel would have the node take a packet out of it that seems to come from anyone.
func TestAPodSendsNothingInTheNodesTunnels(t *testing.T) {
	for name, k := range guards {
		for _, port := range []uint16{8472, 4789} {
			t.Run(fmt.Sprint(name, " ", port), func(t *testing.T) {
				t.Parallel()
				l := spoofLab(t)
				node, bad, good := l.Nodes["node"], l.Pods[attacker.Key()], l.Pods[victim.Key()]
				node.Run(t, "ip", "link", "add", "flannel.1", "address", "02:00:00:00:00:01", "type", "vxlan", "id", "1", "dstport", fmt.Sprint(port), "local", spoofNode.Addrs[0].String(), "nolearning")
				node.Run(t, "ip", "link", "set", "flannel.1", "up")
				node.Run(t, "ip", "route", "add", "10.0.9.0/24", "dev", "flannel.1")
				seen := good.sniff(t)
				inside := func(mark []byte) []byte { // from a pod of another node
					inner := datagram(netip.MustParseAddr("10.0.9.9"), victim.Addrs[0], 80, mark)
					frame := append([]byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0}, inner...)
					return append([]byte{8, 0, 0, 0, 0, 0, 1, 0}, frame...) // RFC 7348, section 5
				}
				arrives := func(patience time.Duration) bool {
					return l.crosses(t, bad, seen, func(mark []byte) [][]byte {
						return [][]byte{datagram(attacker.Addrs[0], spoofNode.Addrs[0], port, inside(mark))}
					}, patience)
				}
				if !arrives(forAllowed) {
					t.Fatal("nothing comes out of the tunnel although nothing is guarded: the test shows nothing")
				}
				l.guard(t, k, spoofProgram(attacker, victim))
				l.awaitGuarded(t, k, l.linkOf(t, attacker.Addrs[0]), true)
				if arrives(forDenied) {
					t.Error("a packet comes out of the tunnel that a pod put there")
				}
				// Other datagrams to the node pass, and tunnels that are not the node's.
				for _, to := range []netip.Addr{spoofNode.Addrs[0], World4} {
					l.expect(t, attacker.Name, policy.Flow{Source: attacker.Addrs[0], Destination: to, Protocol: policy.UDP, DestinationPort: 53}, true)
				}
			})
		}
	}
}
