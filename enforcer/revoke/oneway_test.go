//go:build netns

package revoke_test

import (
	"testing"
	"time"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/test/netns"
)

// The server may still send to the client. What the client sends must not pass for answers, and once
// it is allowed again the connection lives.
func TestADeniedUDPClientCannotAnswerItsServer(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		client, server string
		rules          rules
	}{
		"by the server's ingress": {"client", "server", rules{ingress: only(server, other.Addrs)}},
		"by the client's egress":  {"client", "server", rules{egress: only(client, other.Addrs)}},
		"from another node":       {"stranger", "server", rules{ingress: only(server, other.Addrs)}},
		"to another node":         {"client", "stranger", rules{egress: only(client, other.Addrs)}},
		"to the pod's own node":   {"client", "east", rules{egress: only(client, other.Addrs)}},
		"from the world":          {"world", "server", rules{ingress: only(server, other.Addrs)}},
	} {
		for order, clientFirst := range map[string]bool{"the client speaks first": true, "the server speaks first": false} {
			t.Run(name+"/"+order, func(t *testing.T) {
				t.Parallel()
				forBackends(t, func(t *testing.T, l *netns.Lab, n *node) {
					n.commit(t, rules{}.program(), nil)
					var cut []held
					for family := range 2 {
						cut = append(cut, hold(t, "udp", host(l, c.client), host(l, c.server), family))
					}
					if r := n.commit(t, c.rules.program(), nil); r.Cut[policy.UDP] != len(cut) {
						t.Errorf("cut: %+v", r)
					}
					concurrently(cut, func(_ int, h held) {
						if clientFirst && !carriesNothing(h.client, h.server) {
							t.Errorf("%s: the client is heard", h.name)
						}
						for range 3 {
							if !carries(h.server, h.client) {
								t.Errorf("%s: the server may speak, and is not heard", h.name)
							}
							if !carriesNothing(h.client, h.server) {
								t.Errorf("%s: the client answers", h.name)
							}
						}
					})
					n.commit(t, c.rules.program(), nil) // as when the agent starts anew
					concurrently(cut, func(_ int, h held) {
						if !carries(h.server, h.client) || !carriesNothing(h.client, h.server) {
							t.Errorf("%s: the client answers after everything was judged again", h.name)
						}
					})
					n.commit(t, rules{}.program(), nil)
					for _, h := range cut {
						if !h.lives() {
							t.Errorf("%s: does not live although it is allowed again", h.name)
						}
					}
				})
			})
		}
	}
}

// When the client is allowed again, and the server may not send of its own accord any more, its
// answers pass.
func TestAUDPConnectionThatIsAllowedAgainCarriesAnswers(t *testing.T) {
	t.Parallel()
	forBackends(t, func(t *testing.T, l *netns.Lab, n *node) {
		for family := range 2 {
			n.commit(t, rules{}.program(), nil)
			h := hold(t, "udp", host(l, "client"), host(l, "server"), family)
			n.commit(t, rules{ingress: only(server, other.Addrs)}.program(), nil)
			if !carries(h.server, h.client) || !carriesNothing(h.client, h.server) {
				t.Errorf("%s: is not cut", h.name)
			}
			n.commit(t, rules{ingress: only(client, nil), egress: only(server, nil)}.program(), nil)
			if !carries(h.client, h.server) || !carries(h.server, h.client) {
				t.Errorf("%s: does not live although it is allowed again", h.name)
			}
		}
	})
}

// By a Service the client knows another address than the server has.
func TestADeniedUDPClientOfAServiceCannotAnswer(t *testing.T) {
	t.Parallel()
	service := addrs("10.96.0.4", "fd00:96::4")
	forBackends(t, func(t *testing.T, l *netns.Lab, n *node) {
		for family, a := range service {
			tool := [2]string{"iptables-nft", "ip6tables-nft"}[family]
			n.Run(t, tool, "-t", "nat", "-A", "PREROUTING", "-d", a.String(), "-j", "DNAT", "--to-destination", server.Addrs[family].String())
			n.commit(t, rules{}.program(), nil)
			h := holdBy(t, "udp", host(l, "client"), host(l, "server"), family, a)
			n.commit(t, rules{ingress: only(server, other.Addrs)}.program(), nil)
			if !carriesNothing(h.client, h.server) {
				t.Errorf("%s: the client is heard", h.name)
			}
			_, _ = h.server.Write([]byte("word")) // which the client does not take for its server's
			if !carriesNothing(h.client, h.server) {
				t.Errorf("%s: the client answers", h.name)
			}
			n.commit(t, rules{}.program(), nil)
			if !h.lives() {
				t.Errorf("%s: does not live although it is allowed again", h.name)
			}
		}
	})
}

// The server sends all the time while its client is cut.
func TestAServerThatNeverPausesDoesNotKeepItsClient(t *testing.T) {
	t.Parallel()
	forBackends(t, func(t *testing.T, l *netns.Lab, n *node) {
		for range 5 {
			for family := range 2 {
				n.commit(t, rules{}.program(), nil)
				h := hold(t, "udp", host(l, "client"), host(l, "server"), family)
				stop := make(chan struct{})
				done := make(chan struct{})
				go func() {
					defer close(done)
					for {
						select {
						case <-stop:
							return
						case <-time.After(20 * time.Microsecond):
							_, _ = h.server.Write([]byte("more"))
						}
					}
				}()
				n.commit(t, rules{ingress: only(server, other.Addrs)}.program(), nil)
				if !carriesNothing(h.client, h.server) {
					t.Errorf("%s: the client answers", h.name)
				}
				close(stop)
				<-done
				h.client.Close()
				h.server.Close()
			}
		}
	})
}
