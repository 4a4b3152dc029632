package eval

import (
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/tierwall/tierwall/policy"
)

const (
	// smallClass is how many rules, peers and ports are looked at one by one, however often.
	smallClass = 64
	// maxMembers bounds how many elements of sets all indexes of an evaluator hold.
	maxMembers = 1 << 18
)

// indexes are those of a program's classes. A class gets one once as much was looked at without it as it
// costs to make; so it never costs more than twice what it would without.
type indexes struct {
	mu      sync.Mutex
	classes map[*policy.Class]*indexed
	room    int
	// looked counts rules, peers, ports and elements that were looked at.
	looked atomic.Int64
}

// indexed is a class with its index, if it has one.
type indexed struct {
	direction policy.Direction
	// size is the number of its rules, peers and ports; cost is what an index of it costs.
	size, cost int
	work       int
	index      *classIndex
	// members is how much room the index takes.
	members int
}

func newIndexes() *indexes { return &indexes{classes: map[*policy.Class]*indexed{}, room: maxMembers} }

// next are the indexes that are right for another program, too.
func (x *indexes) next(p *policy.Program) *indexes {
	x.mu.Lock()
	defer x.mu.Unlock()
	out := newIndexes()
	for c, i := range x.classes {
		if p.Classes[i.direction][c.ID] != c {
			continue
		}
		same := *i
		if same.index != nil && !same.index.current(p) {
			same.index, same.members, same.work = nil, 0, 0
		}
		out.classes[c] = &same
		out.room -= same.members
	}
	return out
}

// of is the index of a class, or nil while it has none. A bounded caller makes none.
func (x *indexes) of(p *policy.Program, c *policy.Class, d policy.Direction, bounded bool) *classIndex {
	if c == nil {
		return nil
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	i := x.classes[c]
	if i == nil {
		i = &indexed{direction: d, size: sizeOf(c)}
		if i.size > smallClass {
			i.cost = indexCost(p, c)
		}
		x.classes[c] = i
	}
	if i.index == nil && !bounded && i.size > smallClass && i.work >= i.cost {
		before := x.room
		i.index = newClassIndex(p, c, &x.room)
		i.members = before - x.room
	}
	if i.index == nil {
		i.work += i.size
		x.looked.Add(int64(i.size))
	}
	return i.index
}

// indexable reports whether an index finds the address as Contains does: it is as packets have it.
func indexable(a netip.Addr) bool { return a.IsValid() && !a.Is4In6() && a.Zone() == "" }

// sizeOf is the number of the rules of a class, and of their peers and ports.
func sizeOf(c *policy.Class) int {
	n := 0
	for i := range c.Tiers {
		n += len(c.Tiers[i].Rules)
		for j := range c.Tiers[i].Rules {
			n += len(c.Tiers[i].Rules[j].Peers) + len(c.Tiers[i].Rules[j].Ports)
		}
	}
	return n
}

// indexCost is about what the index of a class costs, in rules looked at.
func indexCost(p *policy.Program, c *policy.Class) int {
	seen, n := map[policy.SetID]bool{}, 0
	use := func(id policy.SetID) {
		if s := p.Sets[id]; s != nil && !seen[id] {
			seen[id], n = true, n+len(s.Elements)
		}
	}
	for i := range c.Tiers {
		for j := range c.Tiers[i].Rules {
			r := &c.Tiers[i].Rules[j]
			for _, id := range r.Peers {
				use(id)
			}
			for _, m := range r.Ports {
				if m.Named != "" {
					use(m.Named)
				}
			}
		}
	}
	return min(n, maxMembers) + sizeOf(c)
}
