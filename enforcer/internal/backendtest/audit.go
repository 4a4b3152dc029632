// Package backendtest holds the tests that the rules of every backend have to pass.
package backendtest

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/tierwall/tierwall/policy"
)

// Packet is a packet as far as these tests vary it.
type Packet struct {
	Source, Destination netip.Addr
	Protocol            policy.Protocol
	DestinationPort     uint16
	// Established and Midway are those of the backends' simulators.
	Established, Midway bool
}

// Judgement is what rules do with a packet.
type Judgement struct {
	Accepted bool
	// Reported are the prefixes under which the packet is handed to listeners.
	Reported []string
	// Trace are the rules that matched.
	Trace []string
}

// Judge judges a packet by a backend's rules at a hook: input, forward or output.
type Judge func(hook string, p Packet) (Judgement, error)

// AuditPrefix and DenyPrefix are what the rules of VerifyAudit report under: by direction, and for what is denied.
var (
	AuditPrefix = [2]string{"in", "out"}
	DenyPrefix  = "denied"
)

// VerifyAudit checks the rules of sample.Audited with logging, and without: what Audit lets pass is reported, and nothing
// else is.
func VerifyAudit(t *testing.T, logging, silent Judge) {
	t.Helper()
	const world, node, front, back, data, fresh = "198.51.100.7", "192.168.0.1", "10.1.0.2", "10.1.0.3", "10.1.0.4", "10.1.0.5"
	address := netip.MustParseAddr
	for name, c := range map[string]struct {
		hook     string
		packet   Packet
		passes   bool
		reported []string
	}{
		"what a policy allows":                    {"forward", Packet{Source: address(data), Destination: address(world), Protocol: policy.UDP, DestinationPort: 53}, true, nil},
		"what no policy decides":                  {"forward", Packet{Source: address(data), Destination: address(world), Protocol: policy.UDP, DestinationPort: 54}, true, []string{"out"}},
		"in both directions":                      {"forward", Packet{Source: address(data), Destination: address(fresh), Protocol: policy.ICMP}, true, []string{"out", "in"}},
		"and denied at the other side":            {"forward", Packet{Source: address(data), Destination: address(back), Protocol: policy.TCP, DestinationPort: 1}, false, []string{"out", "denied"}},
		"to a pod of no policy":                   {"forward", Packet{Source: address(world), Destination: address(fresh), Protocol: policy.TCP, DestinationPort: 1}, true, []string{"in"}},
		"to the node":                             {"input", Packet{Source: address(fresh), Destination: address(node), Protocol: policy.TCP, DestinationPort: 1}, true, []string{"out"}},
		"from the node":                           {"output", Packet{Source: address(node), Destination: address(fresh), Protocol: policy.TCP, DestinationPort: 1}, true, nil},
		"of a connection that is established":     {"forward", Packet{Source: address(fresh), Destination: address(world), Protocol: policy.TCP, Established: true}, true, nil},
		"of one that began before it was tracked": {"forward", Packet{Source: address(fresh), Destination: address(world), Protocol: policy.TCP, Midway: true}, true, nil},
		"and by SCTP":                             {"forward", Packet{Source: address(world), Destination: address(fresh), Protocol: policy.SCTP, Midway: true}, true, nil},
		"denied by a policy":                      {"forward", Packet{Source: address(front), Destination: address(fresh), Protocol: policy.UDP, DestinationPort: 1}, false, []string{"denied"}},
	} {
		got, err := logging(c.hook, c.packet)
		if err != nil || got.Accepted != c.passes || !slices.Equal(got.Reported, c.reported) {
			t.Errorf("%s: accepted %v, reported %v (%v), by %v", name, got.Accepted, got.Reported, err, got.Trace)
		}
		if quiet, err := silent(c.hook, c.packet); err != nil || quiet.Accepted != c.passes || len(quiet.Reported) > 0 {
			t.Errorf("%s, where nothing is logged: accepted %v, reported %v (%v), by %v", name, quiet.Accepted, quiet.Reported, err, quiet.Trace)
		}
	}
}
