package compile

import (
	"cmp"
	"maps"
	"slices"

	"github.com/tierwall/tierwall/internal/contenthash"
	"github.com/tierwall/tierwall/policy"
)

// sets are the sets that some class refers to, found by who may be in them. Who is in a set of
// pods is not kept anywhere: it follows from the pods.
type sets struct {
	numbered uint64
	used     contenthash.Table[policy.SetID, *usedSet]
	byPods   selections[*usedSet]
	byPort   map[portName]*usedSet
	ofNodes  map[*usedSet][]policy.Element // with what is in them
}

// usedSet is a set that classes use.
type usedSet struct {
	*definition
	id     policy.SetID
	number uint64
	uses   int
	fresh  bool // was not there before this commit
	// delta is what came into it (1) and left it (-1) in this commit.
	delta map[policy.Element]int
}

func newSets() sets {
	return sets{used: contenthash.NewTable[policy.SetID, *usedSet](), byPods: newSelections[*usedSet](),
		byPort: map[portName]*usedSet{}, ofNodes: map[*usedSet][]policy.Element{}}
}

// nameSet returns the ID of the set with a definition. One that is new is there from now on, and goes with the commit
// unless a class uses it.
func (c *commit) nameSet(def *definition) policy.SetID {
	_, id, found := c.sets.used.Find(def.hash, func(s *usedSet) bool { return s.same(def) })
	if !found {
		c.sets.numbered++
		s := &usedSet{definition: def, id: id, number: c.sets.numbered, fresh: true}
		c.sets.used.Put(def.hash, id, s)
		c.freshSets, c.idleSets = append(c.freshSets, s), append(c.idleSets, s)
	}
	return id
}

// useSet is the set with an ID, one use of it more.
func (c *commit) useSet(id policy.SetID) *usedSet {
	s := c.sets.used.All()[id]
	s.uses++
	return s
}

func (c *commit) releaseSet(s *usedSet) {
	if s.uses--; s.uses == 0 {
		c.idleSets = append(c.idleSets, s)
	}
}

// sweepSets forgets the sets that no class uses any more, and tells which came and went, and
// what came into and left the others.
func (c *commit) sweepSets() {
	for _, s := range c.idleSets {
		if s.uses > 0 || c.sets.used.All()[s.id] != s {
			continue
		}
		c.sets.used.Remove(s.id)
		if !s.fresh {
			c.sets.unfile(s)
			c.change.SetsGone = append(c.change.SetsGone, s.id)
		}
	}
	if c.nodesChanged {
		c.renewNodeSets()
	}
	for _, s := range c.changedSets {
		if s.uses > 0 {
			c.tell(s)
		}
		s.delta = nil
	}
	for _, s := range c.freshSets {
		if s.fresh = false; s.uses > 0 {
			set := s.set(s.id, c)
			c.sets.file(s, set.Elements)
			c.change.Sets = append(c.change.Sets, set)
		}
	}
}

func (x *sets) file(s *usedSet, elements []policy.Element) {
	switch {
	case s.pods != nil:
		x.byPods.add(s.pods, s)
	case s.nodes != nil:
		x.ofNodes[s] = elements
	case s.port.name != "":
		x.byPort[s.port] = s
	}
}

func (x *sets) unfile(s *usedSet) {
	switch {
	case s.pods != nil:
		x.byPods.remove(s)
	case s.nodes != nil:
		delete(x.ofNodes, s)
	case s.port.name != "":
		delete(x.byPort, s.port)
	}
}

// renewNodeSets compares what is in the sets of nodes with what was. Nodes may share an address.
func (c *commit) renewNodeSets() {
	for s, before := range c.sets.ofNodes {
		now := s.set(s.id, c).Elements
		for _, e := range before {
			c.alter(s, e, -1)
		}
		for _, e := range now {
			c.alter(s, e, 1)
		}
		c.sets.ofNodes[s] = now
	}
}

// alter notes that an element came into a set, or left it.
func (c *commit) alter(s *usedSet, e policy.Element, by int) {
	if s.delta == nil {
		s.delta = map[policy.Element]int{}
		c.changedSets = append(c.changedSets, s)
	}
	if s.delta[e] += by; s.delta[e] == 0 {
		delete(s.delta, e)
	}
}

// tell tells what came into the set and left it.
func (c *commit) tell(s *usedSet) {
	out := policy.SetChange{ID: s.id}
	for _, e := range slices.SortedFunc(maps.Keys(s.delta), policy.Element.Compare) {
		if s.delta[e] > 0 {
			out.Added = append(out.Added, e)
		} else {
			out.Removed = append(out.Removed, e)
		}
	}
	if len(out.Added)+len(out.Removed) > 0 {
		c.change.Members = append(c.change.Members, out)
	}
}

// seat is a place in a set that a pod has with each of its addresses.
type seat struct {
	set      *usedSet
	protocol policy.Protocol
	port     uint16
}

// withForeignAddrs reports whether Foreign addresses of pods are in the set, too.
func (d *definition) withForeignAddrs() bool {
	return d.port.foreign || d.pods != nil && d.pods.foreign
}

func compareSeats(a, b seat) int {
	return cmp.Or(cmp.Compare(a.set.number, b.set.number), cmp.Compare(a.protocol, b.protocol), cmp.Compare(a.port, b.port))
}

// seats are where the pods of the profile are in the sets of before the commit, in order.
func (c *commit) seats(p *profile) []seat {
	if p == nil || len(c.sets.byPods.filed)+len(c.sets.byPort) == 0 {
		return nil
	}
	if known, ok := c.seatsOf[p]; ok {
		return known
	}
	var out []seat
	for _, s := range c.sets.byPods.of(p.domain.name, p.namespace, p.labels) {
		out = append(out, seat{set: s})
	}
	for _, port := range p.ports {
		for _, foreign := range []bool{false, true} {
			if s := c.sets.byPort[portName{port.Name, port.Protocol, foreign}]; s != nil {
				out = append(out, seat{s, port.Protocol, port.Port})
			}
		}
	}
	slices.SortFunc(out, compareSeats)
	out = slices.Compact(out)
	c.seatsOf[p] = out
	return out
}
