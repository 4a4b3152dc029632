package eval

import (
	"net/netip"
	"sync"

	"github.com/tierwall/tierwall/policy"
)

// none is the number of a rule that is behind all others.
const none = int32(1<<31 - 1)

// classIndex finds the first rules of a class that match a flow, without a look at those that
// cannot. It is of the sets as they were when it was built.
type classIndex struct {
	class   *policy.Class
	sets    []*policy.Set // by number
	members memberIndex
	tiers   []tierIndex
	scratch sync.Pool // of *scratch
	rules   int       // of the longest tier
}

// tierIndex holds the rules of a tier by what they are about. Numbers of rules are ascending.
type tierIndex struct {
	// always is the first rule that matches everything.
	always int32
	// peers are the rules about the peers in a set, by its number.
	peers []peerRules
	// byPort and byName are the rules about ports, by range and by set.
	byPort map[portNode]*portRules
	byName map[namedPort]*portRules
}

// peerRules are rules about the peers in a set.
type peerRules struct {
	// anyPort is the first one about any port.
	anyPort int32
	// somePorts are those about some ports.
	somePorts []int32
}

// portRules are rules about a port.
type portRules struct {
	// anyPeer is the first one about any peer.
	anyPeer int32
	// somePeers are those about some peers.
	somePeers []int32
}

// portNode is a node of a segment tree over the ports of a protocol: 1 is all ports, 2n and
// 2n+1 are the halves of n.
type portNode struct {
	protocol policy.Protocol
	node     uint32
}

// namedPort is the number of a set of ports, with the protocol that a rule is about.
type namedPort struct {
	set      int32
	protocol policy.Protocol
}

// probed is how many rules are looked at one by one first: where much overlaps one of them matches.
const probed = 8

const leaves = policy.MaxPort + 1

// scratch marks the sets and the rules that a flow meets: those whose mark is the flow's number.
type scratch struct {
	flow        uint32
	sets, rules []uint32
	met         []int32 // the numbers of the sets
}

func newClassIndex(p *policy.Program, c *policy.Class, room *int) *classIndex {
	x := &classIndex{class: c, tiers: make([]tierIndex, len(c.Tiers))}
	numbers := map[policy.SetID]int32{}
	number := func(id policy.SetID, ports bool) (int32, bool) {
		n, ok := numbers[id]
		if !ok {
			n = int32(len(x.sets))
			numbers[id], x.sets = n, append(x.sets, p.Sets[id])
		}
		return n, x.sets[n] != nil && (x.sets[n].Kind == policy.AddressPorts) == ports
	}
	for i := range c.Tiers {
		x.tiers[i] = newTierIndex(c.Tiers[i].Rules, number)
		x.rules = max(x.rules, len(c.Tiers[i].Rules))
	}
	x.members = newMemberIndex(x.sets, room)
	x.scratch.New = func() any { return &scratch{sets: make([]uint32, len(x.sets)), rules: make([]uint32, x.rules)} }
	return x
}

// current reports whether the program has the sets as they were.
func (x *classIndex) current(p *policy.Program) bool {
	for _, s := range x.sets {
		if s == nil || p.Sets[s.ID] != s {
			return false
		}
	}
	return true
}

// newTierIndex indexes rules; number is the number of a set, and false if there is none of addresses, or of ports.
func newTierIndex(rules []policy.Rule, number func(id policy.SetID, ports bool) (int32, bool)) tierIndex {
	t := tierIndex{always: none,
		byPort: map[portNode]*portRules{}, byName: map[namedPort]*portRules{}}
	for i := range rules {
		r, n := &rules[i], int32(i)
		switch {
		case r.AnyPeer && r.AnyPort:
			t.always = min(t.always, n)
			continue
		case r.AnyPeer:
		case r.AnyPort:
			for _, id := range r.Peers {
				if s, ok := number(id, false); ok {
					at := t.peersOf(s)
					at.anyPort = min(at.anyPort, n)
				}
			}
			continue
		default:
			for _, id := range r.Peers {
				if s, ok := number(id, false); ok {
					at := t.peersOf(s)
					at.somePorts = append(at.somePorts, n)
				}
			}
		}
		for _, m := range r.Ports {
			if m.Named == "" {
				t.addRange(m, n, r.AnyPeer)
			} else if s, ok := number(m.Named, true); ok {
				key := namedPort{s, m.Protocol}
				addPort(t.byName, key, n, r.AnyPeer)
			}
		}
	}
	return t
}

func (t *tierIndex) peersOf(set int32) *peerRules {
	for len(t.peers) <= int(set) {
		t.peers = append(t.peers, peerRules{anyPort: none})
	}
	return &t.peers[set]
}

func addPort[K comparable](to map[K]*portRules, key K, rule int32, anyPeer bool) {
	at := to[key]
	if at == nil {
		at = &portRules{anyPeer: none}
		to[key] = at
	}
	switch {
	case anyPeer:
		at.anyPeer = min(at.anyPeer, rule)
	case len(at.somePeers) == 0 || at.somePeers[len(at.somePeers)-1] != rule:
		at.somePeers = append(at.somePeers, rule)
	}
}

// addRange adds a range of ports at the fewest nodes that make it up.
func (t *tierIndex) addRange(m policy.Port, rule int32, anyPeer bool) {
	if m.First > m.Last {
		return
	}
	for low, high := uint32(m.First)+leaves, uint32(m.Last)+leaves+1; low < high; low, high = low/2, high/2 {
		if low%2 == 1 {
			addPort(t.byPort, portNode{m.Protocol, low}, rule, anyPeer)
			low++
		}
		if high%2 == 1 {
			high--
			addPort(t.byPort, portNode{m.Protocol, high}, rule, anyPeer)
		}
	}
}

// judge is what Class says, and how much it looked at.
func (x *classIndex) judge(p *policy.Program, peer netip.Addr, proto policy.Protocol, port uint16) (policy.Why, int) {
	if t := x.class.Tiers[0]; len(t.Rules) > 0 {
		some := t.Rules[:min(len(t.Rules), probed)]
		if r := firstMatch(p, some, peer, proto, port); r != nil && r.Verdict != policy.Pass {
			return policy.Why{Verdict: r.Verdict, Tier: t.Name, Rule: r.ID}, len(some)
		}
	}
	return x.search(peer, proto, port)
}

// search is what judge says by the index alone.
func (x *classIndex) search(peer netip.Addr, proto policy.Protocol, port uint16) (policy.Why, int) {
	s := x.scratch.Get().(*scratch)
	defer x.scratch.Put(s)
	s.next()
	looked := x.members.find(x.sets, s, peer, proto, port)
	for i := range x.class.Tiers {
		t := &x.class.Tiers[i]
		s.nextTier()
		first, n := x.tiers[i].first(s, proto, port)
		looked += n
		why := policy.Why{Verdict: t.Else, Tier: t.Name, Rule: t.ElseID}
		if first != none {
			why.Verdict, why.Rule = t.Rules[first].Verdict, t.Rules[first].ID
		}
		if why.Verdict != policy.Pass {
			return why, looked
		}
	}
	return policy.Why{Note: "no tier decides"}, looked
}

// next begins with another flow.
func (s *scratch) next() {
	if s.flow++; s.flow > 1<<31 {
		clear(s.sets)
		clear(s.rules)
		s.flow = 1
	}
	s.met = s.met[:0]
}

// nextTier begins with the rules of another tier; the sets stay met.
func (s *scratch) nextTier() {
	old := s.flow
	s.flow++
	for _, n := range s.met {
		if s.sets[n] == old {
			s.sets[n] = s.flow
		}
	}
}

// first is the first rule that matches, or none, and how much was looked at.
func (t *tierIndex) first(s *scratch, proto policy.Protocol, port uint16) (int32, int) {
	best, looked, some := t.always, 0, false
	about := func(r *portRules) {
		looked++
		if r == nil {
			return
		}
		best = min(best, r.anyPeer)
		for _, rule := range r.somePeers {
			looked++
			s.rules[rule], some = s.flow, true
		}
	}
	for node := uint32(port) + leaves; node > 0; node /= 2 {
		about(t.byPort[portNode{proto, node}])
	}
	met := s.met
	for _, set := range met {
		looked++
		if s.sets[set] != s.flow {
			continue
		}
		if int(set) < len(t.peers) {
			best = min(best, t.peers[set].anyPort)
		}
		if len(t.byName) > 0 {
			about(t.byName[namedPort{set, proto}])
		}
	}
	for _, set := range met {
		if !some {
			break
		}
		if s.sets[set] != s.flow || int(set) >= len(t.peers) {
			continue
		}
		for _, rule := range t.peers[set].somePorts {
			looked++
			if rule >= best {
				break
			}
			if s.rules[rule] == s.flow {
				best = rule
				break
			}
		}
	}
	return best, looked
}
