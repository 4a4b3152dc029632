// Package explain says whether one side may reach another and why: by which rule
// of which policy in each direction, and what would have to be different. The
// verdicts are those of the evaluator on the compiled program; what would be
// otherwise is found by compiling what is otherwise.
package explain

import (
	"errors"
	"net/netip"
	"slices"
	"strings"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/policy/eval"
)

// Question is a flow in question.
type Question struct {
	From, To Side
	Protocol policy.Protocol
	// Port is the destination's; 0 for protocols without ports.
	Port uint16
}

// Answer is the verdict on a flow, with its reasons.
type Answer struct {
	// Family is IPv4 or IPv6 where the answers of the two differ, else empty.
	Family string `json:"family,omitempty"`
	// Verdict is allowed, denied, or audited: it passes because a default action is Audit.
	Verdict string `json:"verdict"`
	Egress  Reason `json:"egress"`
	Ingress Reason `json:"ingress"`
}

// Reason is the verdict of one side's policies.
type Reason struct {
	Verdict string `json:"verdict"`
	// Endpoint is the pod that is judged, as "namespace/name"; empty where none is.
	Endpoint string          `json:"endpoint,omitempty"`
	Tier     policy.TierName `json:"tier,omitempty"`
	// Policy is kind and name of the policy that decides, Field a JSON pointer into it.
	Policy string `json:"policy,omitempty"`
	Field  string `json:"field,omitempty"`
	// Says is the reason in words.
	Says string `json:"says"`
	// NearMisses are rules that would allow it if one thing were otherwise; not of what is allowed.
	NearMisses []NearMiss `json:"nearMisses"`
}

// Explain answers the question for each IP family that both sides have; where these
// do not differ there is one answer.
func Explain(s *compile.Snapshot, q Question) ([]Answer, error) {
	program, _ := compile.Compile(s, "")
	e := eval.New(program)
	var out []Answer
	for _, f := range flows(q) {
		a := explainFlow(s, program, e, q, f)
		a.Family = "IPv4"
		if f.Source.Is6() {
			a.Family = "IPv6"
		}
		out = append(out, a)
	}
	if len(out) == 0 {
		return nil, errors.New("the two sides have no addresses of the same IP family")
	}
	if len(out) == 1 || same(out[0], out[1]) {
		out = out[:1]
		out[0].Family = ""
	}
	return out, nil
}

func same(a, b Answer) bool {
	near := func(a, b NearMiss) bool { return a == b }
	return a.Verdict == b.Verdict && a.Egress.Says == b.Egress.Says && a.Ingress.Says == b.Ingress.Says &&
		slices.EqualFunc(a.Egress.NearMisses, b.Egress.NearMisses, near) && slices.EqualFunc(a.Ingress.NearMisses, b.Ingress.NearMisses, near)
}

func flows(q Question) []policy.Flow {
	var out []policy.Flow
	for _, from := range q.From.Addrs {
		for _, to := range q.To.Addrs {
			if from, to := from.Unmap(), to.Unmap(); from.BitLen() == to.BitLen() {
				out = append(out, policy.Flow{Source: from, Destination: to, Protocol: q.Protocol, DestinationPort: q.Port})
			}
		}
	}
	return out
}

func explainFlow(s *compile.Snapshot, p *policy.Program, e *eval.Evaluator, q Question, f policy.Flow) Answer {
	d := e.Decide(f)
	verdict := d.Verdict
	if verdict == policy.Allow && (d.Audited(policy.Egress) || d.Audited(policy.Ingress)) {
		verdict = policy.Audit
	}
	a := Answer{Verdict: word(verdict), Egress: reason(p, d.Egress, policy.Egress), Ingress: reason(p, d.Ingress, policy.Ingress)}
	w := &whatIf{snapshot: s, question: q, flow: f}
	if d.Egress.Verdict != policy.Allow {
		a.Egress.NearMisses = w.nearMisses(p, e, policy.Egress, d.Egress.Endpoint, f.Destination)
	}
	if d.Ingress.Verdict != policy.Allow {
		a.Ingress.NearMisses = w.nearMisses(p, e, policy.Ingress, d.Ingress.Endpoint, f.Source)
	}
	return a
}

// word is a verdict in the answers. What is audited passes, and is reported as denied would be.
func word(v policy.Verdict) string {
	switch v {
	case policy.Allow:
		return "allowed"
	case policy.Audit:
		return "audited"
	default:
		return "denied"
	}
}

func reason(p *policy.Program, w policy.Why, d policy.Direction) Reason {
	r := Reason{Verdict: word(w.Verdict), Endpoint: w.Endpoint, Tier: w.Tier, Says: w.Note, NearMisses: []NearMiss{}}
	if w.Tier == "" {
		return r
	}
	if w.Tier != policy.DefaultTier {
		r.Policy, r.Field = w.Rule.Object(), w.Rule.Field
	}
	namespace, _, _ := strings.Cut(w.Endpoint, "/")
	switch {
	case w.Tier == policy.DefaultTier:
		r.Says = "no policy decides: default action of namespace " + namespace
	case w.Rule.Field == "/spec/"+d.String():
		r.Says = r.Policy + " isolates the pod, and no rule allows it"
	default:
		r.Says = r.Policy + " " + r.Field + ruleWords(p, w, d)
	}
	return r
}

// ruleWords is what the rule that decided says: its peers and ports.
func ruleWords(p *policy.Program, w policy.Why, d policy.Direction) string {
	for _, c := range p.Classes[d] {
		for _, t := range c.Tiers {
			for i := range t.Rules {
				if t.Rules[i].ID == w.Rule {
					return ": " + peers(p, t.Rules[i]) + " on " + ports(p, t.Rules[i])
				}
			}
		}
	}
	return ""
}

func peers(p *policy.Program, r policy.Rule) string {
	if r.AnyPeer {
		return "any peer"
	}
	var out []string
	for _, id := range r.Peers {
		if s := p.Sets[id]; s != nil {
			out = append(out, s.Means)
		}
	}
	slices.Sort(out)
	return strings.Join(out, " or ")
}

func ports(p *policy.Program, r policy.Rule) string {
	if r.AnyPort {
		return "any port"
	}
	var out []string
	for _, port := range r.Ports {
		if s := p.Sets[port.Named]; s != nil {
			out = append(out, s.Means)
			continue
		}
		out = append(out, port.String())
	}
	return strings.Join(out, ", ")
}

// endpointAt is the pod that has the address as an endpoint, or nil.
func endpointAt(p *policy.Program, a netip.Addr) *policy.Endpoint {
	for i := range p.Endpoints {
		if slices.Contains(p.Endpoints[i].Addrs, a) {
			return &p.Endpoints[i]
		}
	}
	return nil
}
