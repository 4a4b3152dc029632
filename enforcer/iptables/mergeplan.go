package iptables

import (
	"slices"

	"github.com/tierwall/tierwall/enforcer/rulegroup"
	"github.com/tierwall/tierwall/policy"
)

// limits bound what rules are merged to. Merged sets hold members by ports, a product, which
// they keep a small multiple of what was written and of the members; terms beyond them are looked up as
// ports and then peers. Tests make them small.
var limits = struct {
	// walk is the number of rules that one rule may become before it is merged, or its peers a list.
	walk int
	// expand is the number of ports up to which a range becomes an element for each; a
	// larger one has a set of its peers.
	expand int
	// merged is the number of elements that one peer of a rule may bring to the merged sets; a larger
	// one is looked up by itself, and so is kept once for all classes.
	merged int
	// factor is how many elements there may be for each entry of a class's rules and
	// each member of its sets, with every term merged.
	factor int
	// copies is how often a class that exceeds this may have the members of one set.
	copies int
	// ownSets is the number of sets of its own that a class may have in a family: the
	// kernel has room for 65,534 sets.
	ownSets int
	// list is the number of sets in one list: to add one the kernel looks at all.
	list int
}{walk: 4, expand: 8, merged: 2048, factor: 8, copies: 16, ownSets: 16, list: 4096}

// place is the place of a run in a class: its tier, and which of the tier's runs it is.
type place struct{ tier, run int }

// mergePlan holds the terms of a class's merged runs: those that are merged, and the rest.
type mergePlan map[place]*runPlan

type runPlan struct {
	runTerms
	merged, rest []term
}

// planMerge decides which terms of a class are merged. It follows from the program alone.
func planMerge(p *policy.Program, c *policy.Class, reader termReader) mergePlan {
	out := mergePlan{}
	var runs []*runPlan
	for i, t := range c.Tiers {
		for j, u := range rulegroup.SplitRuns(t.Rules) {
			if canMerge(u) {
				r := &runPlan{runTerms: reader.readTerms(u)}
				out[place{i, j}] = r
				runs = append(runs, r)
			}
		}
	}
	if len(runs) == 0 {
		return out
	}
	planner := mergePlanner{program: p, peers: map[policy.SetID]int{}, named: map[*portList]int{}}
	chosen, elements := planner.chooseTerms(runs)
	if elements > limits.factor*budgetOf(p, c) {
		chosen = dropCopies(runs, chosen)
	}
	for i, r := range runs {
		for j, t := range r.terms {
			if chosen[i][j] {
				r.merged = append(r.merged, t)
			} else {
				r.rest = append(r.rest, t)
			}
		}
	}
	return out
}

// mergePlanner remembers what it found out about sets and ports.
type mergePlanner struct {
	program *policy.Program
	// peers are the sizes of sets of peers, named those of the named ports of a list; -1 is what cannot be merged.
	peers map[policy.SetID]int
	named map[*portList]int
}

// chooseTerms reports for each term of each run whether it may be merged: its sets are there and not too large, and
// the class has not too many sets of its own. It gives the number of elements that this comes to at most.
func (m *mergePlanner) chooseTerms(runs []*runPlan) (chosen [][]bool, elements int) {
	sets := 0
	for _, r := range runs {
		may := make([]bool, len(r.terms))
		chosen = append(chosen, may)
		if sets += 2; sets > limits.ownSets {
			continue
		}
		large := largeSpans(r.terms)
		fits := sets+large <= limits.ownSets
		if fits {
			sets += large
		}
		for j, t := range r.terms {
			size, ok := m.termSize(t)
			if may[j] = ok && size <= limits.merged && (fits || !t.ports.largeSpan); may[j] {
				elements += size
			}
		}
	}
	return chosen, elements
}

// termSize is the number of elements that a term comes to at most. It is false where they cannot be merged: a set
// is not there, or has exceptions, which would apply to the other sets that are merged.
func (m *mergePlanner) termSize(t term) (int, bool) {
	named, known := m.named[t.ports]
	if !known {
		named = m.sizeOfNamed(t.ports)
		m.named[t.ports] = named
	}
	if t.anyPeer || named < 0 {
		return named, named >= 0
	}
	peers, known := m.peers[t.peer]
	if !known {
		peers = -1
		if s := m.program.Sets[t.peer]; s != nil && s.Kind != policy.AddressPorts && !s.HasExcept() {
			peers = len(s.Elements)
		}
		m.peers[t.peer] = peers
	}
	return named + t.ports.width*peers, peers >= 0
}

func (m *mergePlanner) sizeOfNamed(l *portList) int {
	n := 0
	for _, port := range l.named {
		s := m.program.Sets[port.Named]
		if s == nil || s.Kind != policy.AddressPorts {
			return -1
		}
		n += len(s.Elements)
	}
	return n
}

// largeSpans is the number of ranges that are not expanded, each of which has a set.
func largeSpans(terms []term) int {
	seen, spans := map[*portList]bool{}, map[rulegroup.Span]bool{}
	for _, t := range terms {
		if t.anyPeer || seen[t.ports] {
			continue
		}
		seen[t.ports] = true
		for _, s := range t.ports.spans {
			if !canExpand(s) {
				spans[s] = true
			}
		}
	}
	return len(spans)
}

// budgetOf is the number of entries in a class's rules, and of the members of its sets.
func budgetOf(p *policy.Program, c *policy.Class) int {
	n := 0
	seen := map[policy.SetID]bool{}
	count := func(id policy.SetID) {
		if s := p.Sets[id]; s != nil && !seen[id] {
			seen[id] = true
			n += len(s.Elements)
		}
	}
	for _, t := range c.Tiers {
		for _, r := range t.Rules {
			n += 1 + len(r.Peers) + len(r.Ports)
			for _, id := range r.Peers {
				count(id)
			}
			for _, port := range r.Ports {
				count(port.Named)
			}
		}
	}
	return n
}

// dropCopies leaves out the terms of sets whose members the class would have too often, and
// those of many ports.
func dropCopies(runs []*runPlan, chosen [][]bool) [][]bool {
	copies := map[policy.SetID]int{}
	for i, r := range runs {
		for j, t := range r.terms {
			if chosen[i][j] = chosen[i][j] && t.ports.width <= limits.copies && len(t.ports.named) <= limits.copies; !chosen[i][j] {
				continue
			}
			if !t.anyPeer {
				copies[t.peer] += t.ports.width
			}
			for _, port := range t.ports.named {
				copies[port.Named]++
			}
		}
	}
	for i, r := range runs {
		for j, t := range r.terms {
			many := !t.anyPeer && copies[t.peer] > limits.copies
			for _, port := range t.ports.named {
				many = many || copies[port.Named] > limits.copies
			}
			chosen[i][j] = chosen[i][j] && !many
		}
	}
	return chosen
}

// sameTerms reports whether the same terms of a class are merged by two programs.
func sameTerms(c *policy.Class, a, b *policy.Program) bool {
	reader := newTermReader()
	before, after := planMerge(a, c, reader), planMerge(b, c, reader)
	for at, r := range before {
		if !slices.Equal(r.merged, after[at].merged) {
			return false
		}
	}
	return true
}
