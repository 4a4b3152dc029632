package nftables

import (
	"slices"
	"testing"

	"github.com/tierwall/tierwall/enforcer/nftables/simulator"
	"github.com/tierwall/tierwall/enforcer/ruletext"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/policy/eval"
	"github.com/tierwall/tierwall/test/generate"
)

// judge sends the first packet of a flow through the hook that it meets on the node. Where
// a protocol has no ports there is something else in their place.
func judge(t testing.TB, table *simulator.Table, node policy.Host, f policy.Flow) simulator.Verdict {
	t.Helper()
	v, err := table.Judge(hookOf(node, f), packetOf(f))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func packetOf(f policy.Flow) simulator.Packet {
	return simulator.Packet{Source: f.Source, Destination: f.Destination, Protocol: f.Protocol,
		DestinationPort: f.DestinationPort, Payload: 80, ICMPType: f.ICMPType, ICMPCode: f.ICMPCode, HopLimit: f.HopLimit, Interface: "veth0"}
}

func hookOf(node policy.Host, f policy.Flow) string {
	switch {
	case slices.Contains(node.Addrs, f.Source):
		return "output"
	case slices.Contains(node.Addrs, f.Destination):
		return "input"
	default:
		return "forward"
	}
}

// outOfPlace reports whether a flow never is on the wire as it is: from a pod to
// itself (by way of a Service it is, and then policy applies), or of a pod that
// claims its node's own address.
func outOfPlace(p *policy.Program, node policy.Host, f policy.Flow) bool {
	return slices.ContainsFunc(p.Endpoints, func(e policy.Endpoint) bool {
		from, to := slices.Contains(e.Addrs, f.Source), slices.Contains(e.Addrs, f.Destination)
		return from && to || from && slices.Contains(node.Addrs, f.Source) || to && slices.Contains(node.Addrs, f.Destination)
	})
}

func TestRenderedRulesDecideAsTheProgram(t *testing.T) {
	seen := map[policy.Verdict]int{}
	for seed := range uint64(400) {
		size := generate.Small
		if seed%2 == 0 {
			size = generate.Crowded
		}
		s := generate.Cluster(generate.NewRand(seed), size)
		node := s.Nodes[seed%uint64(len(s.Nodes))].Name
		p, _ := compile.Compile(s, node)
		host := p.Hosts[slices.IndexFunc(p.Hosts, func(h policy.Host) bool { return h.Name == node })]
		log := ruletext.DenyLog{Group: 7, Prefix: "test", PerSecond: int(seed % 2), AuditPrefix: [2]string{"in", "out"}, AuditPerSecond: int(seed / 2 % 2)}
		rules, decide := renderLogging(t, p, log), eval.New(p)
		for _, f := range generate.Flows(generate.NewRand(seed), s, 150) {
			if outOfPlace(p, host, f) {
				continue
			}
			want, got := decide.Decide(f), judge(t, rules, host, f)
			seen[want.Verdict]++
			if got.Accepted != (want.Verdict == policy.Allow) {
				t.Fatalf("seed %d node %s: %+v\nthe program says %+v\nthe rules accept: %v, %v\n%s", seed, node, f, want, got.Accepted, got.Trace, p)
			}
			if logged := logsOf(log, want); !slices.Equal(got.Logged, logged) {
				t.Fatalf("seed %d node %s: %+v: logged: %v, want %v, by %v", seed, node, f, got.Logged, logged, got.Trace)
			}
		}
	}
	if seen[policy.Allow] < 1000 || seen[policy.Deny] < 1000 {
		t.Fatalf("the flows show too little: %v", seen)
	}
}

// logsOf is how a flow's first packet is to be handed to the listener.
func logsOf(log ruletext.DenyLog, d policy.Decision) (out []simulator.Log) {
	for _, direction := range []policy.Direction{policy.Egress, policy.Ingress} {
		if d.Audited(direction) && log.AuditPerSecond > 0 {
			out = append(out, simulator.Log{Group: log.Group, Prefix: log.AuditPrefix[direction]})
		}
	}
	if d.Verdict == policy.Deny && log.PerSecond > 0 {
		out = append(out, simulator.Log{Group: log.Group, Prefix: log.Prefix})
	}
	return out
}
