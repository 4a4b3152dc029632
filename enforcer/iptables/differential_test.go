package iptables_test

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/tierwall/tierwall/enforcer/iptables"
	"github.com/tierwall/tierwall/enforcer/iptables/simulator"
	"github.com/tierwall/tierwall/enforcer/ruletext"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/policy/eval"
	"github.com/tierwall/tierwall/test/generate"
)

// rendered are the tables of both families, read back from the rendered text.
type rendered map[iptables.Family]*simulator.Table

func render(t testing.TB, p *policy.Program) rendered {
	t.Helper()
	return renderLogging(t, p, ruletext.DenyLog{})
}

func renderLogging(t testing.TB, p *policy.Program, log ruletext.DenyLog) rendered {
	t.Helper()
	out := rendered{}
	for _, f := range []iptables.Family{iptables.IPv4, iptables.IPv6} {
		r, err := iptables.Render(p, f, log)
		if err != nil {
			t.Fatal(err)
		}
		table := simulator.New()
		if err := table.RestoreSets(r.SetText()); err != nil {
			t.Fatalf("%s sets: %v\n%s", f, err, r.SetText())
		}
		if err := table.Restore(r.RestoreText() + iptables.Jumps()); err != nil {
			t.Fatalf("%s: %v\n%s", f, err, r.RestoreText())
		}
		out[f] = table
	}
	return out
}

// judge sends the first packet of a flow through the hook that it meets on the node.
func (r rendered) judge(t testing.TB, node policy.Host, f policy.Flow) simulator.Verdict {
	t.Helper()
	table := r[iptables.IPv4]
	if f.Source.Is6() {
		table = r[iptables.IPv6]
	}
	v, err := table.Judge(hookOf(node, f), simulator.Packet{
		Source: f.Source, Destination: f.Destination, Protocol: f.Protocol,
		DestinationPort: f.DestinationPort, ICMPType: f.ICMPType, ICMPCode: f.ICMPCode, HopLimit: f.HopLimit, Interface: "veth0",
	})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func hookOf(node policy.Host, f policy.Flow) string {
	switch {
	case slices.Contains(node.Addrs, f.Source):
		return "OUTPUT"
	case slices.Contains(node.Addrs, f.Destination):
		return "INPUT"
	default:
		return "FORWARD"
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
		s := generate.Cluster(generate.NewRand(seed), generate.Small)
		node := s.Nodes[seed%uint64(len(s.Nodes))].Name
		p, _ := compile.Compile(s, node)
		host := p.Hosts[slices.IndexFunc(p.Hosts, func(h policy.Host) bool { return h.Name == node })]
		log := ruletext.DenyLog{Group: 7, Prefix: "test", PerSecond: int(seed % 2), AuditPrefix: [2]string{"in", "out"}, AuditPerSecond: int(seed / 2 % 2)}
		rules, decide := renderLogging(t, p, log), eval.New(p)
		for _, f := range generate.Flows(generate.NewRand(seed), s, 150) {
			if outOfPlace(p, host, f) {
				continue
			}
			want, got := decide.Decide(f), rules.judge(t, host, f)
			seen[want.Verdict]++
			if got.Accepted != (want.Verdict == policy.Allow) {
				t.Fatalf("seed %d node %s: %+v\nthe program says %+v\nthe rules accept: %v, %v\n%s", seed, node, f, want, got.Accepted, got.Trace, p)
			}
			if slices.ContainsFunc(got.Trace, isComment) {
				t.Fatalf("seed %d node %s: %+v passes a rule that is but a comment: %v", seed, node, f, got.Trace)
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

// address is an address of a test.
func address(s string) netip.Addr { return netip.MustParseAddr(s) }
