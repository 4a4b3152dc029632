package backendtest

import (
	"slices"
	"testing"

	"github.com/tierwall/tierwall/enforcer/internal/packet"
	"github.com/tierwall/tierwall/enforcer/internal/sample"
	"github.com/tierwall/tierwall/enforcer/ruletext"
	"github.com/tierwall/tierwall/policy"
)

// verifyAudit checks the rules of sample.Audited with logging and without.
func verifyAudit(t *testing.T, r Renderer) {
	const fresh = "10.1.0.5"
	log := ruletext.DenyLog{Group: 7, Prefix: "denied", PerSecond: 1, AuditPrefix: [2]string{"in", "out"}, AuditPerSecond: 1}
	logging, silent := r.Judge(t, sample.Audited(), log), r.Judge(t, sample.Audited(), ruletext.DenyLog{})
	for name, c := range map[string]struct {
		hook     string
		packet   packet.Packet
		passes   bool
		reported []string
	}{
		"what a policy allows":                    {packet.Forward, packet.Packet{Source: address(data), Destination: address(world), Protocol: policy.UDP, DestinationPort: 53}, true, nil},
		"what no policy decides":                  {packet.Forward, packet.Packet{Source: address(data), Destination: address(world), Protocol: policy.UDP, DestinationPort: 54}, true, []string{"out"}},
		"in both directions":                      {packet.Forward, packet.Packet{Source: address(data), Destination: address(fresh), Protocol: policy.ICMP}, true, []string{"out", "in"}},
		"and denied at the other side":            {packet.Forward, packet.Packet{Source: address(data), Destination: address(back), Protocol: policy.TCP, DestinationPort: 1}, false, []string{"out", "denied"}},
		"to a pod of no policy":                   {packet.Forward, packet.Packet{Source: address(world), Destination: address(fresh), Protocol: policy.TCP, DestinationPort: 1}, true, []string{"in"}},
		"to the node":                             {packet.Input, packet.Packet{Source: address(fresh), Destination: address(node), Protocol: policy.TCP, DestinationPort: 1}, true, []string{"out"}},
		"from the node":                           {packet.Output, packet.Packet{Source: address(node), Destination: address(fresh), Protocol: policy.TCP, DestinationPort: 1}, true, nil},
		"of a connection that is established":     {packet.Forward, packet.Packet{Source: address(fresh), Destination: address(world), Protocol: policy.TCP, Established: true}, true, nil},
		"of one that began before it was tracked": {packet.Forward, packet.Packet{Source: address(fresh), Destination: address(world), Protocol: policy.TCP, Midway: true}, true, nil},
		"and by SCTP":                             {packet.Forward, packet.Packet{Source: address(world), Destination: address(fresh), Protocol: policy.SCTP, Midway: true}, true, nil},
		"denied by a policy":                      {packet.Forward, packet.Packet{Source: address(front), Destination: address(fresh), Protocol: policy.UDP, DestinationPort: 1}, false, []string{"denied"}},
	} {
		got, err := logging(c.hook, c.packet)
		if err != nil || got.Accepted != c.passes || !slices.Equal(reportedAs(got), c.reported) {
			t.Errorf("%s: accepted %v, reported %v (%v), by %v", name, got.Accepted, reportedAs(got), err, got.Trace)
		}
		if quiet, err := silent(c.hook, c.packet); err != nil || quiet.Accepted != c.passes || len(reportedAs(quiet)) > 0 {
			t.Errorf("%s, where nothing is logged: accepted %v, reported %v (%v), by %v", name, quiet.Accepted, reportedAs(quiet), err, quiet.Trace)
		}
	}
}

// reportedAs returns the prefixes under which listeners received a packet.
func reportedAs(v packet.Verdict) (out []string) {
	for _, l := range v.Logged {
		out = append(out, l.Prefix)
	}
	return out
}
