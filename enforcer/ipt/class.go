package ipt

import (
	"errors"

	"github.com/tierwall/tierwall/policy"
)

// class makes the chains of a class: one, and another for each tier that a rule
// before it passes to. RETURN allows, DROP denies.
func (r *renderer) class(d policy.Direction, id policy.ClassID) ([]Chain, error) {
	c := r.program.Classes[d][id]
	if c == nil {
		return nil, errors.New("the program has no such class")
	}
	parts := []Chain{{Name: classChain(d, id, 0), Rules: []string{strayTCP + toStray, straySCTP + toStray}}}
	for i, tier := range c.Tiers {
		pass, opens := r.deny, false
		if i+1 < len(c.Tiers) && passes(tier) {
			pass, opens = "-g "+classChain(d, id, len(parts)), true
		}
		rules, err := r.tier(d, tier, pass)
		if err != nil {
			return nil, err
		}
		part := &parts[len(parts)-1]
		part.Rules = append(part.Rules, rules...)
		falls := tier.Else == policy.Pass && !opens && i+1 < len(c.Tiers)
		if !falls {
			part.Rules = append(part.Rules, r.otherwise(d, tier, pass))
		}
		if opens {
			parts = append(parts, Chain{Name: classChain(d, id, len(parts))})
		} else if !falls {
			return parts, nil
		}
	}
	if len(c.Tiers) == 0 {
		parts[0].Rules = append(parts[0].Rules, r.deny)
	}
	return parts, nil
}

// passes says whether a rule of the tier leaves the decision to the next one.
func passes(t policy.Tier) bool {
	for _, rule := range t.Rules {
		if rule.Verdict == policy.Pass {
			return true
		}
	}
	return false
}

func (r *renderer) tier(d policy.Direction, t policy.Tier, pass string) ([]string, error) {
	var lines []string
	for _, rule := range t.Rules {
		matches, err := r.matches(d, rule)
		if err != nil {
			return nil, err
		}
		end := comment(rule.ID.String()) + r.target(d, rule.Verdict, pass)
		for _, m := range matches {
			lines = append(lines, m+end)
		}
	}
	return lines, nil
}

// otherwise is the last rule of a tier.
func (r *renderer) otherwise(d policy.Direction, t policy.Tier, pass string) string {
	why := string(t.Name) + " tier"
	if t.ElseID.Name != "" {
		why = t.ElseID.String()
	}
	return comment(why) + r.target(d, t.Else, pass)
}

func (r *renderer) target(d policy.Direction, v policy.Verdict, pass string) string {
	switch v {
	case policy.Allow:
		return "-j RETURN"
	case policy.Pass:
		return pass
	case policy.Audit:
		return r.audit[d]
	default:
		return r.deny
	}
}

// matches are the matches of a rule, each with a space at its end; a flow that
// any of them matches is matched. iptables has no "or" but several rules.
func (r *renderer) matches(d policy.Direction, rule policy.Rule) ([]string, error) {
	peers, err := r.peers(d, rule)
	if err != nil {
		return nil, err
	}
	ports, err := r.ports(rule)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, peer := range peers {
		for _, port := range ports {
			out = append(out, port.protocol+peer+port.ports)
		}
	}
	return out, nil
}

func (r *renderer) peers(d policy.Direction, rule policy.Rule) ([]string, error) {
	if rule.AnyPeer {
		return []string{""}, nil
	}
	side := " src "
	if d == policy.Egress {
		side = " dst "
	}
	var out []string
	for _, id := range rule.Peers {
		name, err := r.set(id)
		if err != nil {
			return nil, err
		}
		out = append(out, "-m set --match-set "+name+side)
	}
	return out, nil
}
