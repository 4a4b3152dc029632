package iptables_test

import (
	"slices"
	"testing"

	"github.com/tierwall/tierwall/enforcer/internal/sample"
	"github.com/tierwall/tierwall/enforcer/iptables"
	"github.com/tierwall/tierwall/enforcer/iptables/simulator"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/test/generate"
)

func TestStraysOfAnEndpointPassNowhere(t *testing.T) {
	p := sample.Shop()
	p.Endpoints = append(p.Endpoints, policy.Endpoint{Namespace: "exempt", Name: "open", Class: [2]policy.ClassID{"open", "any"}})
	p.Endpoints[3].Addrs = append(p.Endpoints[3].Addrs, address("10.1.0.5"))
	p.Classes[policy.Ingress]["open"] = &policy.Class{Tiers: []policy.Tier{{Name: policy.DefaultTier, Else: policy.Allow}}}
	slices.SortFunc(p.Endpoints, func(a, b policy.Endpoint) int { return a.Addrs[0].Compare(b.Addrs[0]) })
	table := render(t, p)[iptables.IPv4]
	const world, node, front, back, data, open = "198.51.100.7", "192.168.0.1", "10.1.0.2", "10.1.0.3", "10.1.0.4", "10.1.0.5"
	for name, c := range map[string]struct {
		hook, from, to string
		port           uint16
		passes         bool
	}{
		"to a server that may be reached":           {"FORWARD", world, front, 80, false},
		"back to its client":                        {"FORWARD", back, world, 40000, false},
		"between pods that may reach each other":    {"FORWARD", front, back, 8080, false},
		"to the node":                               {"INPUT", back, node, 10250, false},
		"from the node":                             {"OUTPUT", node, data, 5432, false},
		"of what is no pod's":                       {"FORWARD", world, "203.0.113.1", 22, true},
		"of the node's own":                         {"OUTPUT", node, world, 443, true},
		"to the node from elsewhere":                {"INPUT", world, node, 22, true},
		"to a pod that policy does not apply to":    {"FORWARD", world, open, 80, true},
		"of one that policy does not apply to":      {"FORWARD", open, world, 80, true},
		"from there to one that policy applies to":  {"FORWARD", open, back, 8080, false},
		"to there from one that policy applies to":  {"FORWARD", back, open, 80, false},
		"of the node to one that it does not apply": {"OUTPUT", node, open, 80, true},
	} {
		for _, protocol := range []policy.Protocol{policy.TCP, policy.SCTP} {
			k := simulator.Packet{Source: address(c.from), Destination: address(c.to), Protocol: protocol, DestinationPort: c.port, Midway: true}
			for state, invalid := range map[string]bool{"new": false, "invalid": true} {
				k.Invalid = invalid
				if got, err := table.Judge(c.hook, k); err != nil || got.Accepted != c.passes {
					t.Errorf("%s, %s, %s: accepted: %v (%v), by %v", name, protocol, state, got.Accepted, err, got.Trace)
				}
			}
			k.Invalid, k.Established = false, true
			if got, _ := table.Judge(c.hook, k); !got.Accepted {
				t.Errorf("%s, %s: an established connection is a stray: %v", name, protocol, got.Trace)
			}
		}
	}
}

// A node's cache for DNS, say, is exempt from tracking; each of its packets is judged by itself.
func TestWhatIsNotTrackedIsNoStray(t *testing.T) {
	table := render(t, sample.Shop())[iptables.IPv4]
	for port, passes := range map[uint16]bool{80: true, 81: false} {
		k := simulator.Packet{Source: address("198.51.100.7"), Destination: address("10.1.0.2"), Protocol: policy.TCP, DestinationPort: port, Midway: true, Untracked: true}
		if got, err := table.Judge("FORWARD", k); err != nil || got.Accepted != passes {
			t.Errorf("port %d: accepted: %v (%v), by %v", port, got.Accepted, err, got.Trace)
		}
	}
}

// A node must be able to probe its pods whatever the policies.
func TestTheNodesOwnConnectionsAreNotJudged(t *testing.T) {
	for seed := range uint64(50) {
		s := generate.Cluster(generate.NewRand(seed), generate.Small)
		host := s.Nodes[0]
		p, _ := compile.Compile(s, host.Name)
		rules := render(t, p)
		for _, f := range generate.Flows(generate.NewRand(seed), s, 100) {
			for _, a := range host.Addrs {
				if a.Is4() != f.Destination.Is4() {
					continue
				}
				table := rules[iptables.IPv4]
				if a.Is6() {
					table = rules[iptables.IPv6]
				}
				k := simulator.Packet{Source: a, Destination: f.Destination, Protocol: f.Protocol, DestinationPort: f.DestinationPort}
				if v, err := table.Judge("OUTPUT", k); err != nil || !v.Accepted {
					t.Fatalf("seed %d: %+v: %v %v", seed, k, v.Trace, err)
				}
			}
		}
	}
}
