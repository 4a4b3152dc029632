package compile

import (
	"cmp"
	"slices"

	"github.com/tierwall/tierwall/policy"
)

// rule is a policy.Rule before named ports are resolved.
type rule struct {
	id      policy.RuleID
	verdict policy.Verdict
	anyPeer bool
	peers   []*definition
	anyPort bool
	ports   []portMatch
}

// portMatch is a range of ports of a protocol, or with a name the ports so called.
type portMatch struct {
	protocol    policy.Protocol
	first, last uint16
	name        string
}

// matchesNothing says that no peer or no port is left of what was written.
func (r rule) matchesNothing() bool {
	return !r.anyPeer && len(r.peers) == 0 || !r.anyPort && len(r.ports) == 0
}

// named reports whether some port of the rule goes by name.
func (r rule) named() bool {
	return slices.ContainsFunc(r.ports, func(p portMatch) bool { return p.name != "" })
}

// size is the number of entries that are left of the rule.
func (r rule) size() int {
	size := 1 + len(r.ports)
	for _, p := range r.peers {
		size += 1 + p.size()
	}
	return size
}

func sizes(rules [2][]rule) (out [2]int) {
	for d, list := range rules {
		for _, r := range list {
			out[d] += r.size()
		}
	}
	return out
}

func named(rules [2][]rule) [2]bool {
	return [2]bool{slices.ContainsFunc(rules[0], rule.named), slices.ContainsFunc(rules[1], rule.named)}
}

// resolve is the rule as it is for an endpoint with the named ports. At ingress the
// endpoint is the destination itself; at egress every destination has ports of its own. It
// is false when the endpoint has none of the ports. A rule that denies is about Foreign addresses of pods, too.
func (r rule) resolve(d policy.Direction, own []NamedPort, names setNamer) (policy.Rule, bool) {
	out := policy.Rule{ID: r.id, Verdict: r.verdict, AnyPeer: r.anyPeer, AnyPort: r.anyPort}
	nameSet := func(set *definition) policy.SetID {
		if r.verdict == policy.Deny {
			set = set.withForeign()
		}
		return names.nameSet(set)
	}
	for _, p := range r.ports {
		switch {
		case p.name == "":
			out.Ports = append(out.Ports, policy.Port{Protocol: p.protocol, First: p.first, Last: p.last})
		case d == policy.Ingress:
			out.Ports = append(out.Ports, ownPorts(p, own)...)
		default:
			out.Ports = append(out.Ports, policy.Port{Protocol: p.protocol, Named: nameSet(namedPortSet(p.name, p.protocol))})
		}
	}
	if !out.AnyPort && len(out.Ports) == 0 {
		return out, false
	}
	for _, p := range r.peers {
		out.Peers = append(out.Peers, nameSet(p))
	}
	slices.Sort(out.Peers)
	out.Peers = slices.Compact(out.Peers)
	slices.SortFunc(out.Ports, comparePorts)
	out.Ports = slices.Compact(out.Ports)
	return out, true
}

func ownPorts(p portMatch, own []NamedPort) []policy.Port {
	var out []policy.Port
	for _, o := range own {
		if o.Name == p.name && o.Protocol == p.protocol {
			out = append(out, policy.Port{Protocol: o.Protocol, First: o.Port, Last: o.Port})
		}
	}
	return out
}

func comparePorts(a, b policy.Port) int {
	return cmp.Or(
		cmp.Compare(a.Protocol, b.Protocol),
		cmp.Compare(a.First, b.First),
		cmp.Compare(a.Last, b.Last),
		cmp.Compare(a.Named, b.Named))
}
