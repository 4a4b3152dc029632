//go:build netns

package revoke_test

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/test/netns"
)

func newLab(t *testing.T) *netns.Lab {
	l := netns.NewLab(t, hosts)
	for _, e := range pods {
		l.AddPod(t, e.Node, e.Name, e.Addrs...)
	}
	return l
}

func host(l *netns.Lab, name string) *netns.Host {
	switch {
	case name == "world":
		return l.World
	case l.Nodes[name] != nil:
		return l.Nodes[name]
	default:
		return l.Pods[name]
	}
}

// everybody are the addresses of all pods, nodes and the world, but for some.
func everybody(but ...[]netip.Addr) []netip.Addr {
	out := slices.Clone(world)
	for _, e := range pods {
		out = append(out, e.Addrs...)
	}
	for _, h := range hosts {
		out = append(out, h.Addrs...)
	}
	return slices.DeleteFunc(out, func(a netip.Addr) bool { return slices.Contains(slices.Concat(but...), a) })
}

// Whoever speaks first after a connection was cut might take it up again.
var speakers = map[string]func(h held) (first, second net.Conn){
	"the client speaks first": func(h held) (_, _ net.Conn) { return h.client, h.server },
	"the server speaks first": func(h held) (_, _ net.Conn) { return h.server, h.client },
}

// In all of these cases the server may still open connections to the client, by TCP as by UDP.
func TestADeniedTCPConnectionCarriesNothingAndTheOthersLiveOn(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		client, server string
		rules          rules
	}{
		"by the server's ingress":               {"client", "server", rules{ingress: only(server, everybody(client.Addrs))}},
		"by the client's egress":                {"client", "server", rules{egress: only(client, everybody(server.Addrs))}},
		"from another node":                     {"stranger", "server", rules{ingress: only(server, everybody(stranger.Addrs))}},
		"to another node":                       {"client", "stranger", rules{egress: only(client, everybody(stranger.Addrs))}},
		"from the world":                        {"world", "server", rules{ingress: only(server, everybody(world))}},
		"to the world":                          {"client", "world", rules{egress: only(client, everybody(world))}},
		"to the pod's own node":                 {"client", "east", rules{egress: only(client, everybody(hosts[0].Addrs))}},
		"to the pod's own node and everywhere":  {"client", "east", rules{egress: only(client, nil)}},
		"by both, the other way round it stays": {"client", "server", rules{egress: only(client, nil), ingress: only(server, other.Addrs)}},
	} {
		for b := range backends {
			for order, speakers := range speakers {
				t.Run(name+"/"+b+"/"+order, func(t *testing.T) {
					t.Parallel()
					l := newLab(t)
					n := newNode(t, l.Nodes["east"], b)
					n.commit(t, rules{}.program(), nil)
					from, to, other := host(l, c.client), host(l, c.server), host(l, "other")
					var cut, live []held
					for family := range 2 {
						cut = append(cut, hold(t, "tcp", from, to, family))
						live = append(live, hold(t, "tcp", other, to, family), hold(t, "tcp", to, from, family), hold(t, "udp", to, from, family))
					}
					if r := n.commit(t, c.rules.program(), nil); r.Cut[policy.TCP] != len(cut) || len(r.Cut) > 1 {
						t.Errorf("cut: %+v", r)
					}
					concurrently(cut, func(_ int, h held) {
						if first, second := speakers(h); !h.dead(first, second) {
							t.Errorf("%s: is not cut", h.name)
						}
					})
					for _, h := range live {
						if !h.lives() {
							t.Errorf("%s: is cut", h.name)
						}
					}
				})
			}
		}
	}
}

// Whoever speaks on a connection that was cut learns that it is gone.
func TestBothEndsOfACutConnectionAreReset(t *testing.T) {
	t.Parallel()
	forBackends(t, func(t *testing.T, l *netns.Lab, n *node) {
		for family := range 2 {
			n.commit(t, rules{}.program(), nil)
			h := hold(t, "tcp", host(l, "client"), host(l, "server"), family)
			n.commit(t, rules{ingress: only(server, other.Addrs)}.program(), nil)
			for _, end := range []net.Conn{h.client, h.server} {
				_, _ = end.Write([]byte("hello"))
				if _, err := end.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("%s: %v", h.name, err)
				}
			}
		}
	})
}

func forBackends(t *testing.T, test func(t *testing.T, l *netns.Lab, n *node)) {
	for b := range backends {
		t.Run(b, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			n := newNode(t, l.Nodes["east"], b)
			test(t, l, n)
		})
	}
}

func TestADeniedUDPConnectionCarriesNothing(t *testing.T) {
	t.Parallel()
	for name, denying := range map[string]rules{
		"by the server's policies": {ingress: only(server, other.Addrs), egress: only(server, other.Addrs)},
		"by the client's policies": {ingress: only(client, other.Addrs), egress: only(client, other.Addrs)},
		"by an ingress of each":    {ingress: map[string][]netip.Addr{"server": other.Addrs, "client": other.Addrs}},
	} {
		for order, speakers := range speakers {
			t.Run(name+"/"+order, func(t *testing.T) {
				t.Parallel()
				forBackends(t, func(t *testing.T, l *netns.Lab, n *node) {
					n.commit(t, rules{}.program(), nil)
					var cut, live []held
					for family := range 2 {
						cut = append(cut, hold(t, "udp", host(l, "client"), host(l, "server"), family))
						live = append(live, hold(t, "udp", host(l, "other"), host(l, "server"), family))
					}
					if r := n.commit(t, denying.program(), nil); r.Cut[policy.UDP] != len(cut) || len(r.Cut) > 1 {
						t.Errorf("cut: %+v", r)
					}
					concurrently(cut, func(_ int, h held) {
						if first, second := speakers(h); !h.dead(first, second) {
							t.Errorf("%s: is not cut", h.name)
						}
					})
					for _, h := range live {
						if !h.lives() {
							t.Errorf("%s: is cut", h.name)
						}
					}
				})
			})
		}
	}
}

// A connection is judged by the pod that the Service led to, and cut for the address
// that the client knows.
func TestAConnectionByAServiceIsCut(t *testing.T) {
	t.Parallel()
	service := addrs("10.96.0.4", "fd00:96::4")
	forBackends(t, func(t *testing.T, l *netns.Lab, n *node) {
		for family, a := range service {
			tool := [2]string{"iptables-nft", "ip6tables-nft"}[family]
			n.Run(t, tool, "-t", "nat", "-A", "PREROUTING", "-d", a.String(), "-j", "DNAT", "--to-destination", server.Addrs[family].String())
			n.Run(t, tool, "-t", "nat", "-A", "POSTROUTING", "-s", server.Addrs[family].String(), "-d", server.Addrs[family].String(), "-j", "MASQUERADE")
		}
		n.commit(t, rules{}.program(), nil)
		var cut, live []held
		for family, a := range service {
			cut = append(cut, holdBy(t, "tcp", host(l, "client"), host(l, "server"), family, a),
				holdBy(t, "tcp", host(l, "server"), host(l, "server"), family, a)) // by way of the node to itself
			live = append(live, holdBy(t, "tcp", host(l, "other"), host(l, "server"), family, a))
		}
		if r := n.commit(t, rules{ingress: only(server, other.Addrs)}.program(), nil); r.Cut[policy.TCP] != len(cut) {
			t.Errorf("cut: %+v", r)
		}
		concurrently(cut, func(i int, h held) {
			first, second := h.client, h.server
			if i%2 == 0 {
				first, second = second, first
			}
			if !h.dead(first, second) {
				t.Errorf("%s: is not cut", h.name)
			}
		})
		for _, h := range live {
			if !h.lives() {
				t.Errorf("%s: is cut", h.name)
			}
		}
	})
}
