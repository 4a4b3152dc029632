package backendtest

import (
	"slices"
	"testing"

	"github.com/tierwall/tierwall/enforcer/internal/packet"
	"github.com/tierwall/tierwall/enforcer/ruletext"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/policy/eval"
	"github.com/tierwall/tierwall/test/generate"
)

// verifyDecisions compares rules with the evaluator on random clusters and flows, with and without logging.
func verifyDecisions(t *testing.T, r Renderer) {
	seen := map[policy.Verdict]int{}
	for seed := range uint64(400) {
		size := generate.Small
		if seed%2 == 0 {
			size = generate.Crowded
		}
		s := generate.Cluster(generate.NewRand(seed), size)
		node := s.Nodes[seed%uint64(len(s.Nodes))].Name
		p, _ := compile.Compile(s, node)
		host := hostOf(p, node)
		log := ruletext.DenyLog{Group: 7, Prefix: "test", PerSecond: int(seed % 2), AuditPrefix: [2]string{"in", "out"}, AuditPerSecond: int(seed / 2 % 2)}
		judge, decide := r.Judge(t, p, log), eval.New(p)
		for _, f := range generate.Flows(generate.NewRand(seed), s, 150) {
			if isOffTheWire(p, host, f) {
				continue
			}
			want := decide.Decide(f)
			got, err := judge(packet.HookOf(host, f), packet.FirstOf(f))
			seen[want.Verdict]++
			if err != nil || got.Accepted != (want.Verdict == policy.Allow) {
				t.Fatalf("seed %d node %s: %+v\nthe program says %+v\nthe rules accept: %v (%v), %v\n%s", seed, node, f, want, got.Accepted, err, got.Trace, p)
			}
			if logged := expectedLogs(log, want); !slices.Equal(got.Logged, logged) {
				t.Fatalf("seed %d node %s: %+v: logged: %v, want %v, by %v", seed, node, f, got.Logged, logged, got.Trace)
			}
		}
	}
	if seen[policy.Allow] < 1000 || seen[policy.Deny] < 1000 {
		t.Fatalf("the flows show too little: %v", seen)
	}
}

// hostOf returns a node of a program, the zero value if there is none of the name.
func hostOf(p *policy.Program, name string) policy.Host {
	if i := slices.IndexFunc(p.Hosts, func(h policy.Host) bool { return h.Name == name }); i >= 0 {
		return p.Hosts[i]
	}
	return policy.Host{}
}

// isOffTheWire reports whether a flow never is on the wire as it is: from a pod to
// itself (by way of a Service it is, and then policy applies), or of a pod that
// claims its node's own address.
func isOffTheWire(p *policy.Program, node policy.Host, f policy.Flow) bool {
	return slices.ContainsFunc(p.Endpoints, func(e policy.Endpoint) bool {
		from, to := slices.Contains(e.Addrs, f.Source), slices.Contains(e.Addrs, f.Destination)
		return from && to || from && slices.Contains(node.Addrs, f.Source) || to && slices.Contains(node.Addrs, f.Destination)
	})
}

// expectedLogs returns how a flow's first packet has to be handed to the listener.
func expectedLogs(log ruletext.DenyLog, d policy.Decision) (out []packet.Log) {
	for _, direction := range []policy.Direction{policy.Egress, policy.Ingress} {
		if d.Audited(direction) && log.AuditPerSecond > 0 {
			out = append(out, packet.Log{Group: log.Group, Prefix: log.AuditPrefix[direction]})
		}
	}
	if d.Verdict == policy.Deny && log.PerSecond > 0 {
		out = append(out, packet.Log{Group: log.Group, Prefix: log.Prefix})
	}
	return out
}
