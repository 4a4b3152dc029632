// Package canonical writes programs so that those of the same meaning have the same text, also where hashes clash.
package canonical

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tierwall/tierwall/internal/contenthash"
	"github.com/tierwall/tierwall/policy"
)

// short reports that tests run with a hash that many contents have, so that IDs depend on what came first.
var short = len(contenthash.Sum(nil)) < 64

// Text is the program as text that is the same for programs of the same meaning. IDs of sets and classes are
// part of it unless they depend on what came first.
func Text(p *policy.Program) string {
	if !short {
		return p.String()
	}
	return withNames(p).String()
}

// withNames is the program with sets and classes named by what they are.
func withNames(p *policy.Program) *policy.Program {
	names := map[policy.SetID]policy.SetID{}
	out := *p
	out.Sets = map[policy.SetID]*policy.Set{}
	for id, s := range p.Sets {
		names[id] = setName(s)
		set := *s
		set.ID = names[id]
		out.Sets[set.ID] = &set
	}
	ids := [2]map[policy.ClassID]policy.ClassID{{}, {}}
	for d := range p.Classes {
		out.Classes[d] = map[policy.ClassID]*policy.Class{}
		for id, c := range p.Classes[d] {
			class := namedClass(c, names)
			ids[d][id] = class.ID
			out.Classes[d][class.ID] = class
		}
	}
	out.Endpoints = nil
	for _, e := range p.Endpoints {
		e.Class = [2]policy.ClassID{ids[0][e.Class[0]], ids[1][e.Class[1]]}
		out.Endpoints = append(out.Endpoints, e)
	}
	return &out
}

func setName(s *policy.Set) policy.SetID {
	return policy.SetID(fmt.Sprintf("<%s %s %v>", s.Kind, s.Description, s.Elements))
}

func namedClass(c *policy.Class, names map[policy.SetID]policy.SetID) *policy.Class {
	out := &policy.Class{}
	for _, t := range c.Tiers {
		tier := t
		tier.Rules = nil
		for _, r := range t.Rules {
			rule := r
			rule.Peers, rule.Ports = nil, nil
			for _, id := range r.Peers {
				rule.Peers = append(rule.Peers, names[id])
			}
			for _, port := range r.Ports {
				if port.Named != "" {
					port.Named = names[port.Named]
				}
				rule.Ports = append(rule.Ports, port)
			}
			slices.Sort(rule.Peers)
			slices.SortFunc(rule.Ports, func(a, b policy.Port) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
			tier.Rules = append(tier.Rules, rule)
		}
		out.Tiers = append(out.Tiers, tier)
	}
	out.ID = policy.ClassID(out.String())
	return out
}
