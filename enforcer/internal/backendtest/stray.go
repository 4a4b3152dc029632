package backendtest

import (
	"slices"
	"testing"

	"github.com/tierwall/tierwall/enforcer/internal/packet"
	"github.com/tierwall/tierwall/enforcer/internal/sample"
	"github.com/tierwall/tierwall/enforcer/ruletext"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/test/generate"
)

// verifyStrays checks packets of connections that are not tracked from their start.
func verifyStrays(t *testing.T, r Renderer) {
	p := sample.Shop()
	p.Endpoints = append(p.Endpoints, policy.Endpoint{Namespace: "exempt", Name: "open", Class: [2]policy.ClassID{"open", "any"}})
	p.Endpoints[3].Addrs = append(p.Endpoints[3].Addrs, address("10.1.0.5"))
	p.Classes[policy.Ingress]["open"] = &policy.Class{Tiers: []policy.Tier{{Name: policy.DefaultTier, Else: policy.Allow}}}
	slices.SortFunc(p.Endpoints, func(a, b policy.Endpoint) int { return a.Addrs[0].Compare(b.Addrs[0]) })
	judge := r.Judge(t, p, ruletext.DenyLog{})
	for name, c := range strayPackets {
		for _, protocol := range []policy.Protocol{policy.TCP, policy.SCTP} {
			k := packet.Packet{Source: address(c.from), Destination: address(c.to), Protocol: protocol, DestinationPort: c.port, Midway: true}
			for state, invalid := range map[string]bool{"new": false, "invalid": true} {
				k.Invalid = invalid
				if got, err := judge(c.hook, k); err != nil || got.Accepted != c.passes {
					t.Errorf("%s, %s, %s: accepted: %v (%v), by %v", name, protocol, state, got.Accepted, err, got.Trace)
				}
			}
			k.Invalid, k.Established = false, true
			if got, _ := judge(c.hook, k); !got.Accepted {
				t.Errorf("%s, %s: an established connection is a stray: %v", name, protocol, got.Trace)
			}
		}
	}
}

const world, node, front, back, data, open = "198.51.100.7", "192.168.0.1", "10.1.0.2", "10.1.0.3", "10.1.0.4", "10.1.0.5"

var strayPackets = map[string]struct {
	hook, from, to string
	port           uint16
	passes         bool
}{
	"to a server that may be reached":           {packet.Forward, world, front, 80, false},
	"back to its client":                        {packet.Forward, back, world, 40000, false},
	"between pods that may reach each other":    {packet.Forward, front, back, 8080, false},
	"to the node":                               {packet.Input, back, node, 10250, false},
	"from the node":                             {packet.Output, node, data, 5432, false},
	"of what is no pod's":                       {packet.Forward, world, "203.0.113.1", 22, true},
	"of the node's own":                         {packet.Output, node, world, 443, true},
	"to the node from elsewhere":                {packet.Input, world, node, 22, true},
	"to a pod that policy does not apply to":    {packet.Forward, world, open, 80, true},
	"of one that policy does not apply to":      {packet.Forward, open, world, 80, true},
	"from there to one that policy applies to":  {packet.Forward, open, back, 8080, false},
	"to there from one that policy applies to":  {packet.Forward, back, open, 80, false},
	"of the node to one that it does not apply": {packet.Output, node, open, 80, true},
}

// A node's cache for DNS, say, is exempt from tracking; each of its packets is judged by itself.
func verifyUntracked(t *testing.T, r Renderer) {
	judge := r.Judge(t, sample.Shop(), ruletext.DenyLog{})
	for port, passes := range map[uint16]bool{80: true, 81: false} {
		k := packet.Packet{Source: address(world), Destination: address(front), Protocol: policy.TCP, DestinationPort: port, Midway: true, Untracked: true}
		if got, err := judge(packet.Forward, k); err != nil || got.Accepted != passes {
			t.Errorf("port %d: accepted: %v (%v), by %v", port, got.Accepted, err, got.Trace)
		}
	}
}

// verifyNode checks that a node can probe its pods whatever the policies.
func verifyNode(t *testing.T, r Renderer) {
	for seed := range uint64(50) {
		s := generate.Cluster(generate.NewRand(seed), generate.Small)
		host := s.Nodes[0]
		p, _ := compile.Compile(s, host.Name)
		judge := r.Judge(t, p, ruletext.DenyLog{})
		for _, f := range generate.Flows(generate.NewRand(seed), s, 100) {
			for _, a := range host.Addrs {
				if a.Is4() != f.Destination.Is4() {
					continue
				}
				k := packet.Packet{Source: a, Destination: f.Destination, Protocol: f.Protocol, DestinationPort: f.DestinationPort}
				if v, err := judge(packet.Output, k); err != nil || !v.Accepted {
					t.Fatalf("seed %d: %+v: %v %v", seed, k, v.Trace, err)
				}
			}
		}
	}
}
