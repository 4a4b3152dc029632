package nftables

import (
	"fmt"
	"maps"

	"github.com/tierwall/tierwall/enforcer/rulegroup"
	"github.com/tierwall/tierwall/enforcer/transition"
	"github.com/tierwall/tierwall/policy"
)

// lookupSets are the sets, by base name, of which one has a peer of a list. They are not made if that
// would copy too many members.
type lookupSets struct {
	bases []string
	ok    bool
}

// addMerged makes rules of a run of many rules: lookups whose number does not depend on how many
// rules there are, as long as what they cost is in proportion to what was written. The end is what becomes of
// a packet that the run does not match, or nothing if more follows in the same chain.
func (b *classBuilder) addMerged(u rulegroup.Run, why string, v, end verdict) error {
	a := arrangeRun(u)
	if a.always {
		b.addRule(why, v)
		return nil
	}
	if err := b.checkSets(u); err != nil {
		return err
	}
	if err := b.anyPort(why, v, a.anyPort); err != nil {
		return err
	}
	if err := b.addNamedPorts(why, v, a.matches); err != nil {
		return err
	}
	groups, pairs, err := b.splitGroups(a, end)
	if err != nil {
		return err
	}
	for _, p := range pairs {
		if err := b.addPair(why, v, p); err != nil {
			return err
		}
	}
	if len(groups) > 0 {
		b.byPort(why, v, end, groups)
	}
	b.runs++
	return nil
}

// splitGroups are the groups of ports that lead to a chain, and everything else that is looked up one by one.
func (b *classBuilder) splitGroups(a arrangement, end verdict) (groups []portGroup, pairs []match, err error) {
	var failed []portGroup
	for _, g := range a.groups {
		sets, err := b.lookupSets(g.peers)
		switch {
		case err != nil:
			return nil, nil, err
		case sets.ok:
			groups = append(groups, g)
		default:
			failed = append(failed, g)
		}
	}
	if len(groups) <= maxPairs || end == "" && b.splits >= maxSplits {
		for _, g := range groups {
			pairs = append(pairs, match{anyPeer: g.anyPeer, peers: g.peers, spans: g.spans})
		}
		groups = nil
	}
	pairs = append(pairs, a.pairs...)
	return groups, append(pairs, a.splitGroups(failed)...), nil
}

// lookupSets are the sets to look up for the peers of a list.
func (b *classBuilder) lookupSets(l peerList) (lookupSets, error) {
	if out, ok := b.sets[l.joinIDs()]; ok {
		return out, nil
	}
	out, alone := lookupSets{ok: true}, l
	if len(l) > maxPeers {
		sorted := sortPeers(b.program, l)
		out.ok = len(sorted.large) <= maxPeers && b.budget.takeShare(sorted.members)
		if len(sorted.networks) > 0 && out.ok {
			base, err := b.unionSet(policy.Networks, sorted.networks)
			if err != nil {
				return out, err
			}
			out.bases = append(out.bases, base)
		}
		if len(sorted.addresses) > 0 && out.ok {
			base, err := b.unionSet(policy.Addresses, sorted.addresses)
			if err != nil {
				return out, err
			}
			out.bases = append(out.bases, base)
		}
		alone = sorted.large
	}
	for _, id := range alone {
		if !out.ok {
			break
		}
		base, err := b.sharedSet(id)
		if err != nil {
			return out, err
		}
		out.bases = append(out.bases, base)
	}
	b.sets[l.joinIDs()] = out
	return out, nil
}

// addPair looks up ports, and then the peers of a list.
func (b *classBuilder) addPair(why string, v verdict, m match) error {
	sets, err := b.lookupSets(m.peers)
	if err != nil {
		return err
	}
	for _, id := range m.peers {
		if sets.ok {
			break
		}
		base, err := b.sharedSet(id)
		if err != nil {
			return err
		}
		sets.bases = append(sets.bases, base)
	}
	return b.addMatch(why, v, m, sets.bases)
}

// byPort leads from ports to the chains of their peers. What comes after the run goes on in another chain
// unless it is a verdict.
func (b *classBuilder) byPort(why string, v, end verdict, groups []portGroup) {
	part := 0
	if end == "" {
		part = b.newPart()
		end = goTo(b.chainName(part))
		b.splits++
	}
	singles, ranges := map[string]Element{}, map[string]Element{}
	for _, g := range groups {
		to := v
		if !g.anyPeer {
			sets := b.sets[g.peers.joinIDs()]
			to = goTo(b.peerChain(peerChain{peer: b.family.peerField(b.Direction), sets: sets.bases, verdict: v, miss: end}))
		}
		for _, s := range g.spans {
			if isSinglePort(s) {
				singles[spanText(s)] = Element{Verdict: string(to)}
			} else {
				ranges[spanText(s)] = Element{Verdict: string(to)}
			}
		}
	}
	if len(singles) > 0 {
		b.addOwnSet("ports", why, "", portFields, Set{Map: true, Elements: singles})
	}
	if len(ranges) > 0 {
		b.addOwnSet("ranges", why, "", portFields, Set{Map: true, Interval: true, Elements: ranges})
	}
	if part > 0 {
		b.addRule("", end)
		b.beginPart(part)
	}
}

// runName is the base name of a set of the run in the making.
func (b *classBuilder) runName(name string) string {
	return fmt.Sprintf("%s-run%d-%s", b.chainName(0), b.runs, name)
}

// checkSets returns an error if the program does not have a set of the run's.
func (b *classBuilder) checkSets(u rulegroup.Run) error {
	for _, r := range u.Rules {
		if r.AnyPeer {
			r.Peers = nil
		}
		for _, id := range transition.SetsOf(r) {
			if b.program.Sets[id] == nil {
				return fmt.Errorf("the program has no set %q", id)
			}
		}
	}
	return nil
}

// addOwnSet makes a set of the run in the making, and looks it up.
func (b *classBuilder) addOwnSet(name, why string, v verdict, f fields, s Set) {
	s.Type = f.setType()
	name = b.names.nameOf(b.runName(name))
	b.out.Sets[name] = s
	if s.Map {
		b.rules = append(b.rules, newRule(why, verdictMap{f, name, s.Interval}))
		return
	}
	b.addRule(why, v, fieldsInSet{f, name, s.Interval})
}

// anyPort looks up the peers of all ports.
func (b *classBuilder) anyPort(why string, v verdict, l peerList) error {
	peer := fields{b.family.peerField(b.Direction)}
	if sorted := sortPeers(b.program, l); len(l) > maxPeers && b.budget.takeShare(sorted.members) {
		addresses := map[string]Element{}
		for _, id := range sorted.addresses {
			addMembers(addresses, b.family, b.program.Sets[id].Elements)
		}
		if len(sorted.addresses) > 0 {
			b.addOwnSet("peers", why, v, peer, Set{Elements: addresses})
		}
		var blocks []block
		for _, id := range sorted.networks {
			blocks = append(blocks, blocksOf(b.family, b.program.Sets[id].Elements)...)
		}
		if len(blocks) > 0 {
			b.addOwnSet("networks", why, v, peer, Set{Interval: true, Elements: blockElements(mergeBlocks(blocks))})
		}
		l = sorted.large
	}
	for _, id := range l {
		base, err := b.sharedSet(id)
		if err != nil {
			return err
		}
		b.addRule(why, v, fieldsInSet{fields: peer, set: b.names.nameOf(base)})
	}
	return nil
}

// addNamedPorts looks up the ports that go by name, in a set of those that the peers have. Large sets of named ports are looked
// up by themselves, unless there are so many peers that the elements are fewer.
func (b *classBuilder) addNamedPorts(why string, v verdict, matches []match) error {
	elements, found, copied := map[string]Element{}, false, map[policy.SetID]bool{}
	for _, m := range matches {
		var small, large []policy.Port
		for _, port := range m.named {
			s := b.program.Sets[port.Named]
			switch {
			case s.Kind != policy.AddressPorts, len(s.Elements) > maxMerged && len(s.Elements) > len(m.peers):
				large = append(large, port)
			case copied[s.ID] || b.budget.takeShare(len(s.Elements)) || len(s.Elements) < len(m.peers):
				copied[s.ID] = true
				small = append(small, port)
			default:
				large = append(large, port)
			}
		}
		if len(small) > 0 {
			found = true
			maps.Copy(elements, namedElements(b.program, b.family, m, small))
		}
		if len(large) > 0 {
			if err := b.addPair(why, v, match{anyPeer: m.anyPeer, peers: m.peers, named: large}); err != nil {
				return err
			}
		}
	}
	if found {
		b.addOwnSet("named", why, v, b.peerPort(), Set{Elements: elements})
	}
	return nil
}
