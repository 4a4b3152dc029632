package differential

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/tierwall/tierwall/clustercache"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/policy/eval"
	"github.com/tierwall/tierwall/test/oracle"
)

// judges are all that say what becomes of a flow: the oracle, which reads the objects; the
// evaluator of the program that is compiled of them; and on each node the rules that
// are rendered of the node's own program, read back from their text.
type judges struct {
	objects *oracle.Cluster
	whole   *eval.Evaluator
	nodes   map[string]nodeJudge
}

type nodeJudge struct {
	program *eval.Evaluator
	// rules are those of each backend, by its name.
	rules map[string]rules
}

// snapshot is what the agent's watcher makes of the objects.
func snapshot(c *oracle.Cluster) *compile.Snapshot {
	s := &compile.Snapshot{
		NetworkPolicies:        c.NetworkPolicies,
		ClusterNetworkPolicies: c.ClusterNetworkPolicies,
		TierRoles:              c.TierRoles,
		Defaults:               c.Defaults,
	}
	for _, p := range c.Pods {
		s.Pods = append(s.Pods, clustercache.Pod(p))
	}
	for _, n := range c.Namespaces {
		s.Namespaces = append(s.Namespaces, clustercache.Namespace(n))
	}
	for _, n := range c.Nodes {
		s.Nodes = append(s.Nodes, clustercache.Node(n))
	}
	return s
}

func newJudges(c *oracle.Cluster) (*judges, error) {
	s := snapshot(c)
	program, _ := compile.Compile(s, "")
	j := &judges{objects: c, whole: eval.New(program), nodes: map[string]nodeJudge{}}
	for _, n := range c.Nodes {
		own, _ := compile.Compile(s, n.Name)
		j.nodes[n.Name] = nodeJudge{eval.New(own), map[string]rules{}}
		for name, render := range backends {
			var err error
			if j.nodes[n.Name].rules[name], err = render(own); err != nil {
				return nil, fmt.Errorf("node %s, %s: %w", n.Name, name, err)
			}
		}
	}
	return j, nil
}

// opinion is what all judges say of a flow.
type opinion struct {
	egress, ingress oracle.Answer
	decision        policy.Decision
	hops            []hop
}

// judge asks all judges. The disagreement is empty if there is none; its first word says
// who disagrees.
func (j *judges) judge(f policy.Flow) (o opinion, disagreement string) {
	o.egress, o.ingress = oracle.ExplainEgress(j.objects, f), oracle.ExplainIngress(j.objects, f)
	o.decision = j.whole.Decide(f)
	verdict := oracle.Decide(j.objects, f)
	o.hops = path(j.objects, f)
	if o.decision.Verdict != verdict || !sameWhy(o.decision.Egress, o.egress) || !sameWhy(o.decision.Ingress, o.ingress) {
		return o, fmt.Sprintf("evaluator: decides %+v\nthe API text says %s: egress %+v, ingress %+v", o.decision, verdict, o.egress, o.ingress)
	}
	for name := range backends {
		if disagreement := j.byRules(name, f, o, verdict); disagreement != "" {
			return o, disagreement
		}
	}
	if got, want := directionsOf(o.decision), oracle.Audited(o.egress.Verdict, o.ingress.Verdict); !slices.Equal(got, want) {
		return o, fmt.Sprintf("audit: the evaluator says %v\nthe API text says %v: egress %+v, ingress %+v", got, want, o.egress, o.ingress)
	}
	return o, j.toItself(f)
}

// byRules is the disagreement about what becomes of a flow on its way by the rules of a backend.
func (j *judges) byRules(backend string, f policy.Flow, o opinion, verdict policy.Verdict) string {
	passes, audited := true, []policy.Direction(nil)
	for _, h := range o.hops {
		node := j.nodes[h.node]
		own := node.program.Decide(f)
		got, err := node.rules[backend].judge(h.hook, h.packet(f))
		if err != nil {
			return fmt.Sprintf("interpreter of %s: %v", backend, err)
		}
		if got.accepted != (own.Verdict == policy.Allow) {
			return fmt.Sprintf("rules of %s: in %s of %s they accept: %v, by %v\nthe node's program says %+v", backend, h.hook, h.node, got.accepted, got.trace, own)
		}
		if disagreement := byIPVS(node.rules[backend], h, f, got); disagreement != "" {
			return fmt.Sprintf("rules of %s on %s: %s", backend, h.node, disagreement)
		}
		if passes { // what was dropped before never gets here
			audited = append(audited, got.reported...)
		}
		passes = passes && got.accepted
	}
	if foreign(j.objects, f.Source) || foreign(j.objects, f.Destination) {
		if passes && verdict != policy.Allow {
			return fmt.Sprintf("nodes: on the way %v it passes by %s\nthe API text says %s", o.hops, backend, verdict)
		}
		return "" // the node of the address may close it, as one of a pod that it does not know
	}
	if passes != (verdict == policy.Allow) {
		return fmt.Sprintf("nodes: on the way %v it passes by %s: %v\nthe API text says %s: egress %+v, ingress %+v", o.hops, backend, passes, verdict, o.egress, o.ingress)
	}
	if want := oracle.Audited(o.egress.Verdict, o.ingress.Verdict); !slices.Equal(audited, want) && len(o.hops) > 0 {
		return fmt.Sprintf("audit: on the way %v it is reported by %s for %v\nthe API text says %v: egress %+v, ingress %+v", o.hops, backend, audited, want, o.egress, o.ingress)
	}
	return ""
}

// byIPVS is the disagreement about a flow that reaches the node by way of IPVS, whose packets leave by the output
// hook with the source that they came with: they are judged as those that the node forwards.
func byIPVS(rules rules, h hop, f policy.Flow, forwarded answer) string {
	if h.hook != "FORWARD" || f.IsNeighbourDiscovery() {
		return ""
	}
	got, err := rules.judge("OUTPUT", packet{Flow: f, foreign: true})
	if err != nil || got.accepted != forwarded.accepted || !slices.Equal(got.reported, forwarded.reported) {
		return fmt.Sprintf("in OUTPUT they accept: %v, and report for %v, by %v (%v)\nin FORWARD they accept: %v, and report for %v, by %v",
			got.accepted, got.reported, got.trace, err, forwarded.accepted, forwarded.reported, forwarded.trace)
	}
	return ""
}

// directionsOf are those in which the evaluator says that a flow is reported.
func directionsOf(d policy.Decision) (out []policy.Direction) {
	for _, in := range []policy.Direction{policy.Egress, policy.Ingress} {
		if d.Audited(in) {
			out = append(out, in)
		}
	}
	return out
}

// toItself is the disagreement about what a pod sends to itself by way of a Service: its node
// forwards it, with the pod's address on both ends.
func (j *judges) toItself(f policy.Flow) string {
	pod := oracle.PodAt(j.objects, f.Source)
	if pod == nil || f.Source != f.Destination || f.ICMPType != 0 {
		return ""
	}
	want, audited := oracle.ToItself(j.objects, f)
	for name := range backends {
		got, err := j.nodes[pod.Spec.NodeName].rules[name].judge("FORWARD", packet{Flow: f, in: "veth0"})
		if err != nil || got.accepted != (want == policy.Allow) || !slices.Equal(got.reported, audited) {
			return fmt.Sprintf("hairpin: by way of a Service the rules of %s accept: %v, and report for %v, by %v (%v)\nthe API text says %s, and %v",
				name, got.accepted, got.reported, got.trace, err, want, audited)
		}
	}
	return ""
}

// sameWhy reports whether the reason that is given for a verdict is one of the oracle's.
func sameWhy(w policy.Why, a oracle.Answer) bool {
	if w.Verdict != a.Verdict || w.Tier != a.Tier {
		return false
	}
	return a.Tier == "" || slices.Contains(a.Rules, w.Rule)
}

// foreign reports whether the address of a pod is in the pod network of another node.
func foreign(c *oracle.Cluster, a netip.Addr) bool {
	own, of := oracle.PodAt(c, a), oracle.PodNetworkOf(c, a)
	return own != nil && of != nil && of.Name != own.Spec.NodeName
}
