package explain

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/tierwall/tierwall/policy"
)

// answer is a decision in words.
func (x *explainer) answer(d decision) Answer {
	a := Answer{Verdict: d.verdict, Because: d.because}
	reasons := [2]Reason{}
	for _, dir := range policy.Directions {
		reasons[dir] = x.reason(d, dir)
	}
	a.Ingress, a.Egress = reasons[policy.Ingress], reasons[policy.Egress]
	return a
}

// reason is the verdict of one direction, and why.
func (x *explainer) reason(d decision, dir policy.Direction) Reason {
	outcomes := d.outcomes[dir]
	passes, sure := agreedVerdict(outcomes)
	if sure {
		out := x.reasonOf(d, outcomes[0].Why, dir)
		if !passes {
			out.NearMisses = x.nearMisses(d, dir)
		}
		return out
	}
	var allowed, denied string
	out := x.reasonOf(d, outcomes[0].Why, dir)
	for _, o := range outcomes {
		r := x.reasonOf(d, o.Why, dir)
		switch {
		case o.Verdict.Permits() && allowed == "":
			allowed, out = r.Says, r
		case !o.Verdict.Permits() && denied == "":
			denied = r.Says
		}
	}
	var causes []string
	for _, u := range decisiveFacts(outcomes) {
		causes = append(causes, u.Fact)
	}
	out.Verdict = Unsure
	out.Says = "depends on " + strings.Join(causes, ", and on ")
	if allowed != "" && denied != "" {
		out.Says += fmt.Sprintf(": allowed, as %s; or denied, as %s", allowed, denied)
	}
	return out
}

func (x *explainer) reasonOf(d decision, w policy.Why, dir policy.Direction) Reason {
	r := Reason{Verdict: verdictWord(w.Verdict), Endpoint: w.Endpoint, Tier: w.Tier, Says: w.Note, NearMisses: []NearMiss{}}
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
	case w.Rule.Field == "/spec/"+dir.String():
		r.Says = r.Policy + " isolates the pod, and no rule allows it"
	default:
		r.Says = r.Policy + " " + r.Field
		if rule := ruleOf(d.base.world, w, dir); rule != nil {
			r.Says += ": " + peers(d.base.world.program, *rule) + " on " + ports(d.base.world.program, *rule, d.to, d.query)
		}
	}
	return r
}

// ruleOf is the rule that decided, as the pod's own class has it: a port that goes by name is
// another in each class.
func ruleOf(w *world, why policy.Why, d policy.Direction) *policy.Rule {
	if w == nil || w.endpoints[why.Endpoint] == nil {
		return nil
	}
	class := w.program.Classes[d][w.endpoints[why.Endpoint].Class[d]]
	if class == nil {
		return nil
	}
	for _, t := range class.Tiers {
		for i := range t.Rules {
			if t.Rules[i].ID == why.Rule {
				return &t.Rules[i]
			}
		}
	}
	return nil
}

func peers(p *policy.Program, r policy.Rule) string {
	if r.AnyPeer {
		return "any peer"
	}
	var out []string
	for _, id := range r.Peers {
		if s := p.Sets[id]; s != nil {
			out = append(out, s.Description)
		}
	}
	slices.Sort(out)
	return strings.Join(out, " or ")
}

// ports are those of a rule; one that goes by name is the number that the destination gives the name.
func ports(p *policy.Program, r policy.Rule, to Member, q query) string {
	if r.AnyPort {
		return "any port"
	}
	var out []string
	for _, port := range r.Ports {
		s := p.Sets[port.Named]
		if s == nil {
			out = append(out, port.String())
			continue
		}
		numbers := numbersAt(s, to.addr(q.family))
		if len(numbers) == 0 {
			out = append(out, s.Description+", of which "+to.Name+" has none")
			continue
		}
		out = append(out, strings.Join(numbers, ", ")+" of "+to.Name+" ("+s.Description+")")
	}
	return strings.Join(out, ", ")
}

// numbersAt are the ports that the set has of an address.
func numbersAt(s *policy.Set, a netip.Addr) []string {
	var out []string
	for _, e := range s.Elements {
		if a.IsValid() && e.Prefix.Addr() == a {
			out = append(out, fmt.Sprintf("%s/%d", e.Protocol, e.Port))
		}
	}
	return out
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
