//go:build netns

package netns

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/tierwall/tierwall/policy"
)

// publish has a node translate one of its own ports to a pod's port 80, as kube-proxy does for a NodePort and the plugin
// portmap for a hostPort; with masquerade, as with externalTrafficPolicy Cluster, from the node's address.
func (h *Host) publish(t *testing.T, port int, to []netip.Addr, masquerade bool) {
	t.Helper()
	for _, own := range h.Addrs {
		command := map[bool]string{true: "iptables-nft", false: "ip6tables-nft"}[own.Is4()]
		pod := family(to, own)
		target := netip.AddrPortFrom(pod, 80).String()
		for _, chain := range []string{"PREROUTING", "OUTPUT"} {
			h.Run(t, command, "-t", "nat", "-A", chain, "-d", own.String(), "-p", "tcp", "--dport", fmt.Sprint(port), "-j", "DNAT", "--to-destination", target)
		}
		if masquerade {
			h.Run(t, command, "-t", "nat", "-A", "POSTROUTING", "-d", pod.String(), "-p", "tcp", "-m", "conntrack", "--ctorigdstport", fmt.Sprint(port), "-j", "MASQUERADE")
		}
	}
}

// A port of a node leads to a pod after DNAT and before SNAT: the pod's policy sees the client, unless another node has put its
// own address in the client's place.
func TestPortsOfNodesAreJudgedByThePodBehindThem(t *testing.T) {
	const local, cluster, elsewhere = 30080, 30081, 30082
	fromWorld := policy.Endpoint{Namespace: "test", Name: "world-only", Node: "node", Class: [2]policy.ClassID{"world-only", "open"},
		Addrs: []netip.Addr{netip.MustParseAddr("10.0.1.7"), netip.MustParseAddr("fd00:2:0:1::7")}}
	other := policy.Host{Name: "other", Addrs: otherAddrs}
	for backend := range kernelBackends {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			p := pathsProgram()
			p.Hosts = append(p.Hosts, other)
			p.Endpoints = append(p.Endpoints, fromWorld)
			p.Sets = map[policy.SetID]*policy.Set{"world": {ID: "world", Elements: []policy.Element{policy.AddressElement(World4), policy.AddressElement(World6)}}}
			p.Classes[policy.Ingress]["world-only"] = &policy.Class{ID: "world-only", Tiers: []policy.Tier{{Name: policy.NetworkPolicyTier,
				Rules: []policy.Rule{{Verdict: policy.Allow, AnyPort: true, Peers: []policy.SetID{"world"}}}}}}
			l := NewLab(t, []policy.Host{spoofNode, other})
			node := l.Nodes["node"]
			for i, e := range []policy.Endpoint{closedPod, openPod, fromWorld} {
				l.AddPod(t, "node", e.Key(), e.Addrs...)
				node.publish(t, local+10*i, e.Addrs, false)
				node.publish(t, cluster+10*i, e.Addrs, true)
				l.Nodes["other"].publish(t, elsewhere+10*i, e.Addrs, true)
			}
			if err := node.Do(func() error {
				b, err := kernelBackends[backend](t)
				if err != nil {
					return err
				}
				return b.Apply(t.Context(), p)
			}); err != nil {
				t.Fatal(err)
			}
			for i, e := range []policy.Endpoint{closedPod, openPod, fromWorld} {
				for family, world := range []netip.Addr{World4, World6} {
					for _, c := range []struct {
						from   netip.Addr
						to     netip.Addr
						port   uint16
						passes bool
					}{
						{world, spoofNode.Addrs[family], local, e.Name != closedPod.Name},
						{world, spoofNode.Addrs[family], cluster, e.Name != closedPod.Name},
						{world, otherAddrs[family], elsewhere, e.Name == openPod.Name},
						{spoofNode.Addrs[family], spoofNode.Addrs[family], local, true}, // a node reaches its own pods
					} {
						l.expect(t, e.Name, policy.Flow{Source: c.from, Destination: c.to, Protocol: policy.TCP, DestinationPort: c.port + uint16(10*i)}, c.passes)
					}
				}
			}
		})
	}
}
