//go:build netns

package netns

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/tierwall/tierwall/policy"
)

// serviceAddrs are the addresses of Services, one of each family, by their pods.
var serviceAddrs = map[string][]netip.Addr{
	"denied":  {netip.MustParseAddr("10.96.0.3"), netip.MustParseAddr("fd00:96::3")},
	"allowed": {netip.MustParseAddr("10.96.0.4"), netip.MustParseAddr("fd00:96::4")},
	"sender":  {netip.MustParseAddr("10.96.0.2"), netip.MustParseAddr("fd00:96::2")},
}

// addServices translates as kube-proxy does: the destination on the way in, and
// the source of a pod that reaches itself on the way out.
func (l *Lab) addServices(t *testing.T, command func(netip.Addr) string) {
	t.Helper()
	node := l.Nodes["node"]
	for pod, addrs := range serviceAddrs {
		for _, a := range addrs {
			to := family(l.Pods[pod].Addrs, a)
			node.Run(t, command(a), "-t", "nat", "-A", "PREROUTING", "-d", a.String(), "-j", "DNAT", "--to-destination", to.String())
			node.Run(t, command(a), "-t", "nat", "-A", "POSTROUTING", "-s", to.String(), "-d", to.String(), "-j", "MASQUERADE")
		}
	}
}

func TestServicesAreJudgedByThePodBehindThem(t *testing.T) {
	for _, m := range modes {
		t.Run(m.String(), func(t *testing.T) {
			l := canaryLab(t, oneNode)
			node := l.Nodes["node"]
			l.addServices(t, func(a netip.Addr) string {
				if a.Is6() {
					return "ip6tables-" + m.String()
				}
				return "iptables-" + m.String()
			})
			p := situations[0].program(oneNode, "node")
			p.Endpoints[2].Class = p.Endpoints[0].Class // the sender admits itself, and reaches all
			node.apply(t, node.backend(t, m), p)
			for pod, passes := range map[string]bool{"allowed": true, "denied": false} {
				for _, a := range serviceAddrs[pod] {
					l.expect(t, "sender", policy.Flow{Source: family(sender, a), Destination: a, Protocol: policy.TCP, DestinationPort: 80}, passes)
				}
			}
			for family, a := range serviceAddrs["sender"] {
				l.expect(t, "sender", policy.Flow{Source: sender[family], Destination: a, Protocol: policy.TCP, DestinationPort: 80}, true)
				l.expect(t, "sender", policy.Flow{Source: sender[family], Destination: sender[family], Protocol: policy.TCP, DestinationPort: 80}, true)
			}
			for family, a := range serviceAddrs["allowed"] { // which does not admit itself
				l.expect(t, "allowed", policy.Flow{Source: allowed[family], Destination: a, Protocol: policy.TCP, DestinationPort: 80}, false)
			}
		})
	}
}

// expect tries one flow.
func (l *Lab) expect(t *testing.T, from string, f policy.Flow, passes bool) {
	t.Helper()
	patience := forDenied
	if passes {
		patience = forAllowed
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if got, err := l.Probe(ctx, f); err != nil || got != passes {
		t.Errorf("%s: %+v: passed: %v (%v), want %v", from, f, got, err, passes)
	}
}

func TestErrorsOfAnAllowedFlowComeBack(t *testing.T) {
	for _, m := range modes {
		t.Run(m.String(), func(t *testing.T) {
			l := canaryLab(t, oneNode)
			node := l.Nodes["node"]
			p := situations[0].program(oneNode, "node")
			p.Endpoints[2].Class[policy.Ingress] = "ingress-i" // admits nobody
			node.apply(t, node.backend(t, m), p)
			const closedPort = 4444
			for family, to := range allowed {
				if err := l.Pods["sender"].Do(func() error { return refused(sender[family], netip.AddrPortFrom(to, closedPort)) }); err != nil {
					t.Errorf("%s: %v", to, err)
				}
			}
		})
	}
}

// refused is nil if a datagram is answered by "port unreachable".
func refused(from netip.Addr, to netip.AddrPort) error {
	c, err := net.DialUDP("udp", &net.UDPAddr{IP: from.AsSlice()}, net.UDPAddrFromAddrPort(to))
	if err != nil {
		return err
	}
	defer c.Close()
	for deadline := time.Now().Add(forAllowed); time.Now().Before(deadline); {
		if _, err = c.Write([]byte("?")); err == nil {
			_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
			_, err = c.Read(make([]byte, 1))
		}
		if errors.Is(err, syscall.ECONNREFUSED) {
			return nil
		}
	}
	return errors.New("no error came back: " + err.Error())
}
