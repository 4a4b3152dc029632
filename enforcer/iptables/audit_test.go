package iptables_test

import (
	"slices"
	"testing"

	"github.com/tierwall/tierwall/enforcer/internal/sample"
	"github.com/tierwall/tierwall/enforcer/iptables"
	"github.com/tierwall/tierwall/enforcer/iptables/simulator"
	"github.com/tierwall/tierwall/policy"
)

func TestWhatAuditLetsPassIsReportedAndNothingElse(t *testing.T) {
	log := iptables.DenyLog{Group: 7, Prefix: "denied", PerSecond: 1, AuditPrefix: [2]string{"in", "out"}, AuditPerSecond: 1}
	table := renderLogging(t, sample.Audited(), log)[iptables.IPv4]
	silent := render(t, sample.Audited())[iptables.IPv4]
	const world, node, front, back, data, fresh = "198.51.100.7", "192.168.0.1", "10.1.0.2", "10.1.0.3", "10.1.0.4", "10.1.0.5"
	for name, c := range map[string]struct {
		hook     string
		packet   simulator.Packet
		passes   bool
		reported []string
	}{
		"what a policy allows":                    {"FORWARD", simulator.Packet{Source: address(data), Destination: address(world), Protocol: policy.UDP, DestinationPort: 53}, true, nil},
		"what no policy decides":                  {"FORWARD", simulator.Packet{Source: address(data), Destination: address(world), Protocol: policy.UDP, DestinationPort: 54}, true, []string{"out"}},
		"in both directions":                      {"FORWARD", simulator.Packet{Source: address(data), Destination: address(fresh), Protocol: policy.ICMP}, true, []string{"out", "in"}},
		"and denied at the other side":            {"FORWARD", simulator.Packet{Source: address(data), Destination: address(back), Protocol: policy.TCP, DestinationPort: 1}, false, []string{"out", "denied"}},
		"to a pod of no policy":                   {"FORWARD", simulator.Packet{Source: address(world), Destination: address(fresh), Protocol: policy.TCP, DestinationPort: 1}, true, []string{"in"}},
		"to the node":                             {"INPUT", simulator.Packet{Source: address(fresh), Destination: address(node), Protocol: policy.TCP, DestinationPort: 1}, true, []string{"out"}},
		"from the node":                           {"OUTPUT", simulator.Packet{Source: address(node), Destination: address(fresh), Protocol: policy.TCP, DestinationPort: 1}, true, nil},
		"of a connection that is established":     {"FORWARD", simulator.Packet{Source: address(fresh), Destination: address(world), Protocol: policy.TCP, Established: true}, true, nil},
		"of one that began before it was tracked": {"FORWARD", simulator.Packet{Source: address(fresh), Destination: address(world), Protocol: policy.TCP, Midway: true}, true, nil},
		"and by SCTP":                             {"FORWARD", simulator.Packet{Source: address(world), Destination: address(fresh), Protocol: policy.SCTP, Midway: true}, true, nil},
		"denied before it is asked":               {"FORWARD", simulator.Packet{Source: address(front), Destination: address(fresh), Protocol: policy.UDP, DestinationPort: 1}, false, []string{"denied"}},
	} {
		got, err := table.Judge(c.hook, c.packet)
		var reported []string
		for _, l := range got.Logged {
			reported = append(reported, l.Prefix)
		}
		if err != nil || got.Accepted != c.passes || !slices.Equal(reported, c.reported) {
			t.Errorf("%s: accepted %v, reported %v (%v), by %v", name, got.Accepted, reported, err, got.Trace)
		}
		if quiet, err := silent.Judge(c.hook, c.packet); err != nil || quiet.Accepted != c.passes || len(quiet.Logged) > 0 {
			t.Errorf("%s, where nothing is logged: accepted %v, reported %v (%v), by %v", name, quiet.Accepted, quiet.Logged, err, quiet.Trace)
		}
	}
}
