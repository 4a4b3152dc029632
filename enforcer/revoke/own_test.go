//go:build netns

package revoke_test

import (
	"testing"

	"github.com/tierwall/tierwall/test/netns"
)

// A node always reaches its own pods, also from an address that the API server does not know: that of the
// link or bridge to its pods. Such a connection is not cut, whatever a pod is closed to.
func TestWhatTheNodeItselfOpenedStays(t *testing.T) {
	t.Parallel()
	forBackends(t, func(t *testing.T, l *netns.Lab, n *node) {
		gateway := &netns.Host{Space: n.Space, Addrs: addrs("10.0.1.1", "fd00:1::1")}
		n.Run(t, "ip", "address", "add", "10.0.1.1/32", "dev", "lo")
		n.Run(t, "ip", "address", "add", "fd00:1::1/128", "dev", "lo", "nodad")
		n.commit(t, rules{}.program(), nil)
		var own, denied []held
		for family := range 2 {
			for _, network := range []string{"tcp", "udp"} {
				own = append(own, hold(t, network, gateway, host(l, "server"), family))
			}
			denied = append(denied, hold(t, "tcp", host(l, "client"), host(l, "server"), family))
		}
		n.commit(t, rules{ingress: only(server)}.program(), nil)
		for _, h := range own {
			if !h.lives() {
				t.Errorf("%s was cut", h.name)
			}
		}
		concurrently(denied, func(_ int, h held) {
			if !h.dead(h.client, h.server) {
				t.Errorf("%s lives", h.name)
			}
		})
	})
}
