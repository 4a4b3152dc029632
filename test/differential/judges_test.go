package differential

import (
	"fmt"
	"slices"

	"github.com/tierwall/tierwall/cluster"
	"github.com/tierwall/tierwall/enforcer/ipt"
	"github.com/tierwall/tierwall/enforcer/ipt/interpret"
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
	rules   map[ipt.Family]*interpret.Table
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
		s.Pods = append(s.Pods, cluster.Pod(p))
	}
	for _, n := range c.Namespaces {
		s.Namespaces = append(s.Namespaces, cluster.Namespace(n))
	}
	for _, n := range c.Nodes {
		s.Nodes = append(s.Nodes, cluster.Node(n))
	}
	return s
}

func newJudges(c *oracle.Cluster) (*judges, error) {
	s := snapshot(c)
	program, _ := compile.Compile(s, "")
	j := &judges{objects: c, whole: eval.New(program), nodes: map[string]nodeJudge{}}
	for _, n := range c.Nodes {
		own, _ := compile.Compile(s, n.Name)
		rules, err := interpreted(own)
		if err != nil {
			return nil, fmt.Errorf("node %s: %w", n.Name, err)
		}
		j.nodes[n.Name] = nodeJudge{eval.New(own), rules}
	}
	return j, nil
}

// auditing hands every packet that Audit lets pass to the listener, under its direction's
// name, and no other packet.
var auditing = ipt.DenyLog{AuditPrefix: [2]string{policy.Ingress.String(), policy.Egress.String()}, AuditPerSecond: 1}

// reported are the directions that the rules reported a packet for.
func reported(logs []interpret.Log) (out []policy.Direction) {
	for _, l := range logs {
		out = append(out, policy.Direction(slices.Index(auditing.AuditPrefix[:], l.Prefix)))
	}
	return out
}

// hookUp is what the agent's chains are reached by.
const hookUp = "*filter\n-A FORWARD -j TIERWALL-FORWARD\n-A INPUT -j TIERWALL-INPUT\n-A OUTPUT -j TIERWALL-OUTPUT\nCOMMIT\n"

// interpreted are the tables of both families, read back from the rendered text.
func interpreted(p *policy.Program) (map[ipt.Family]*interpret.Table, error) {
	out := map[ipt.Family]*interpret.Table{}
	for _, f := range []ipt.Family{ipt.IPv4, ipt.IPv6} {
		r, err := ipt.Render(p, f, auditing)
		if err != nil {
			return nil, err
		}
		out[f] = interpret.New()
		if err := out[f].RestoreSets(r.SetText()); err != nil {
			return nil, fmt.Errorf("%s sets: %w", f, err)
		}
		if err := out[f].Restore(r.RestoreText() + hookUp); err != nil {
			return nil, fmt.Errorf("%s rules: %w", f, err)
		}
	}
	return out, nil
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
	passes, audited := true, []policy.Direction(nil)
	for _, h := range o.hops {
		node := j.nodes[h.node]
		own := node.program.Decide(f)
		got, err := node.rules[familyOf(f)].Judge(h.hook, h.packet(f))
		if err != nil {
			return o, fmt.Sprintf("interpreter: %v", err)
		}
		if got.Accepted != (own.Verdict == policy.Allow) {
			return o, fmt.Sprintf("rules: in %s of %s they accept: %v, by %v\nthe node's program says %+v", h.hook, h.node, got.Accepted, got.Trace, own)
		}
		if passes { // what was dropped before never gets here
			audited = append(audited, reported(got.Logged)...)
		}
		passes = passes && got.Accepted
	}
	if passes != (verdict == policy.Allow) {
		return o, fmt.Sprintf("nodes: on the way %v it passes: %v\nthe API text says %s: egress %+v, ingress %+v", o.hops, passes, verdict, o.egress, o.ingress)
	}
	if want := oracle.Audited(o.egress.Verdict, o.ingress.Verdict); !slices.Equal(audited, want) && len(o.hops) > 0 || !slices.Equal(directionsOf(o.decision), want) {
		return o, fmt.Sprintf("audit: on the way %v it is reported for %v, the evaluator says %v\nthe API text says %v: egress %+v, ingress %+v",
			o.hops, audited, directionsOf(o.decision), want, o.egress, o.ingress)
	}
	return o, j.toItself(f)
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
	got, err := j.nodes[pod.Spec.NodeName].rules[familyOf(f)].Judge("FORWARD", hop{in: "veth0"}.packet(f))
	if err != nil || got.Accepted != (want == policy.Allow) || !slices.Equal(reported(got.Logged), audited) {
		return fmt.Sprintf("hairpin: by way of a Service the rules accept: %v, and report for %v, by %v (%v)\nthe API text says %s, and %v",
			got.Accepted, reported(got.Logged), got.Trace, err, want, audited)
	}
	return ""
}

// sameWhy says whether the reason that is given for a verdict is one of the oracle's.
func sameWhy(w policy.Why, a oracle.Answer) bool {
	if w.Verdict != a.Verdict || w.Tier != a.Tier {
		return false
	}
	return a.Tier == "" || slices.Contains(a.Rules, w.Rule)
}

func familyOf(f policy.Flow) ipt.Family {
	if f.Source.Is6() {
		return ipt.IPv6
	}
	return ipt.IPv4
}
