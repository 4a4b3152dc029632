package nftables

import (
	"net/netip"
	"slices"

	"github.com/tierwall/tierwall/enforcer/rulegroup"
	"github.com/tierwall/tierwall/enforcer/transition"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/eval"
)

const (
	// maxWalk is the number of rules that a run may become before it is merged.
	maxWalk = 4
	// maxPeers is the number of sets that a group's peers may be looked up in; of more, a
	// set with the members of all is made.
	maxPeers = 2
	// maxPairs is the number of groups of ports from which they are looked up by a map.
	maxPairs = 2
	// maxMerged is the number of elements from which a set is not merged with others: it is
	// looked up by itself, and so is kept once for all classes.
	maxMerged = 2048
	// maxCopies is how often the members of a class's sets may be copied, on the average.
	maxCopies = 2
)

// canMerge reports whether a run is merged. It follows from the rules alone, not from members.
func canMerge(u rulegroup.Run) bool {
	n := 0
	for i := range u.Rules {
		r := &u.Rules[i]
		peers := len(r.Peers)
		if r.AnyPeer {
			peers = 1
		}
		if n += peers * countPorts(r); n > maxWalk {
			return true
		}
	}
	return false
}

// countPorts is the number of rules that a rule becomes for each of its peers.
func countPorts(r *policy.Rule) int {
	if r.AnyPort {
		return 1
	}
	return len(spanMatches(rulegroup.SpansOf(r.Ports))) + len(rulegroup.NamedPorts(r.Ports))
}

// budget is how many more members may be copied into sets of several selectors.
type budget int

// newBudget is that of a class: what was written, and the members of its sets.
func newBudget(p *policy.Program, c *policy.Class) budget {
	size, seen := 0, map[policy.SetID]bool{}
	for _, t := range c.Tiers {
		for _, r := range t.Rules {
			size += 1 + len(r.Peers) + len(r.Ports)
			for _, id := range transition.SetsOf(r) {
				if s := p.Sets[id]; s != nil && !seen[id] {
					seen[id] = true
					size += len(s.Elements)
				}
			}
		}
	}
	return budget(maxCopies * size)
}

// takeShare reports whether the budget has so many.
func (b *budget) takeShare(n int) bool {
	if n > int(*b) {
		return false
	}
	*b -= budget(n)
	return true
}

// peersByKind are peers by what their sets are and how large. Large sets stay by themselves.
type peersByKind struct {
	addresses, networks, large peerList
	// members is how many there are in sets that are not large.
	members int
}

func sortPeers(p *policy.Program, l peerList) peersByKind {
	var out peersByKind
	for _, id := range l {
		s := p.Sets[id]
		switch {
		case s == nil || len(s.Elements) > maxMerged || s.Kind == policy.AddressPorts:
			out.large = append(out.large, id)
			continue
		case s.Kind == policy.Networks:
			out.networks = append(out.networks, id)
		default:
			out.addresses = append(out.addresses, id)
		}
		out.members += len(s.Elements)
	}
	return out
}

// namedElements are the elements of sets of named ports whose protocol and peer match.
func namedElements(p *policy.Program, f family, m match, ports []policy.Port) map[string]Element {
	var candidates []policy.Element
	addrs := map[netip.Addr]bool{} // and whether the peers have it
	for _, port := range ports {
		for _, e := range p.Sets[port.Named].Elements {
			if f.hasAddress(e.Prefix.Addr()) && e.Protocol == port.Protocol {
				candidates = append(candidates, e)
				addrs[e.Prefix.Addr()] = m.anyPeer
			}
		}
	}
	for _, id := range m.peers {
		markPeers(p.Sets[id], addrs)
	}
	out := map[string]Element{}
	for _, e := range candidates {
		if addrs[e.Prefix.Addr()] {
			out[elementKey(e)] = Element{}
		}
	}
	return out
}

// markPeers marks the addresses that a set has, in the cheaper order.
func markPeers(s *policy.Set, addrs map[netip.Addr]bool) {
	switch {
	case s == nil || s.Kind == policy.AddressPorts:
	case s.Kind == policy.Networks || len(s.Elements) > 8*len(addrs):
		for a, marked := range addrs {
			addrs[a] = marked || eval.Contains(s, a)
		}
	default:
		for _, e := range s.Elements {
			if _, ok := addrs[e.Prefix.Addr()]; ok {
				addrs[e.Prefix.Addr()] = true
			}
		}
	}
}

// mergedSets are the sets whose members decide what the chains and sets of a class hold.
func mergedSets(c *policy.Class) []policy.SetID {
	var out []policy.SetID
	for _, t := range c.Tiers {
		for _, u := range rulegroup.SplitRuns(t.Rules) {
			if canMerge(u) {
				out = append(out, arrangeRun(u).mergedSets()...)
			}
		}
	}
	return newPeerList(out...)
}

// mergedSets are the sets whose members are copied, or decide whether they are.
func (a arrangement) mergedSets() []policy.SetID {
	out := slices.Clone(a.anyPort)
	for _, m := range a.matches {
		if len(m.named) > 0 {
			out = append(append(out, m.peers...), transition.SetsOf(policy.Rule{Ports: m.named})...)
		}
	}
	for _, g := range a.groups {
		if len(g.peers) > maxPeers {
			out = append(out, g.peers...)
		}
	}
	for _, p := range a.pairs {
		if len(p.peers) > maxPeers {
			out = append(out, p.peers...)
		}
	}
	return out
}
