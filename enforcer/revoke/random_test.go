package revoke

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/policy/eval"
	"github.com/tierwall/tierwall/test/generate"
)

// history is a cluster and what happens to it: a program for each moment, and the
// changes between them, and flows between whoever is there at some time.
type history struct {
	programs []*policy.Program
	changes  []*policy.Change
	what     []string
	flows    map[policy.Flow]bool
}

func newHistory(seed uint64, steps int) history {
	r := generate.NewRand(seed)
	size := generate.Small
	s := generate.Cluster(r, size)
	node := s.Nodes[int(seed)%len(s.Nodes)].Name
	engine, objects := compile.NewEngine(node, s.Defaults), s.Update()
	engine.Commit(s.Update())
	h := history{programs: []*policy.Program{engine.Program()}, changes: []*policy.Change{nil}, what: []string{"the beginning"}, flows: map[policy.Flow]bool{}}
	h.fly(generate.Flows(r, s, 300))
	for _, step := range generate.Steps(r, s, size, steps) {
		generate.Merge(objects, step.Update)
		h.changes = append(h.changes, engine.Commit(step.Update))
		h.programs = append(h.programs, engine.Program())
		h.what = append(h.what, step.What)
	}
	s.Pods = nil
	for _, p := range objects.Pods {
		if p != nil {
			s.Pods = append(s.Pods, p)
		}
	}
	h.fly(generate.Flows(r, s, 300))
	return h
}

// fly adds flows. Of a pod to itself only those are tracked that go by a Service.
func (h history) fly(flows []policy.Flow) {
	for _, f := range flows {
		h.flows[f] = true
	}
}

// allowed are the flows that a program allows.
func (h history) allowed(p *policy.Program) map[policy.Flow]bool {
	out, e := map[policy.Flow]bool{}, eval.New(p)
	for f := range h.flows {
		if !(Connection{Flow: f}).isDenied(e) {
			out[f] = true
		}
	}
	return out
}

func TestEveryConnectionThatAChangeDeniesIsInItsScope(t *testing.T) {
	denied, inScope, flows, all, empty := 0, 0, 0, 0, 0
	for seed := range uint64(40) {
		h := newHistory(seed, 40)
		before := h.allowed(h.programs[0])
		for i := 1; i < len(h.programs); i++ {
			scope := Affected(h.programs[i-1], h.programs[i], h.changes[i])
			after := h.allowed(h.programs[i])
			for f := range before {
				flows++
				if scope.Has(f) {
					inScope++
				}
				if after[f] {
					continue
				}
				if denied++; !scope.Has(f) {
					t.Fatalf("seed %d, step %d (%s): %+v was allowed, is denied, and is not in the scope %v", seed, i, h.what[i], f, scope)
				}
			}
			if before = after; scope.All {
				all++
			} else if scope.Empty() {
				empty++
			}
		}
	}
	t.Logf("of %d flows that were allowed before one of 1600 changes %d were in its scope, and %d denied; %d changes touched everything, %d nothing",
		flows, inScope, denied, all, empty)
	if denied < 1000 || inScope > flows/3 || empty < 400 {
		t.Error("the changes show too little, or the scopes are too wide")
	}
}

// An index that follows the changes gives the scope that a walk over all classes gives, whichever changes it missed.
func TestTheIndexOfSetsGivesTheScopeOfAWholeWalk(t *testing.T) {
	indexed, sides := 0, 0
	for seed := range uint64(40) {
		h, uses := newHistory(seed, 40), &setUses{}
		for i := 1; i < len(h.programs); i++ {
			before, after, change := h.programs[i-1], h.programs[i], h.changes[i]
			if i%11 == 0 {
				continue // as when a commit failed
			}
			if uses.program == before {
				indexed++
			}
			got, want := affectedBy(before, after, change, uses), Affected(before, after, change)
			if got.All != want.All || !maps.Equal(got.Sides, want.Sides) {
				t.Fatalf("seed %d, step %d (%s): got %v, want %v", seed, i, h.what[i], got, want)
			}
			if sides += len(want.Sides); uses.program == nil {
				continue
			}
			var whole setUses
			whole.indexProgram(after)
			for _, d := range policy.Directions {
				if !maps.EqualFunc(usesOf(uses, d), usesOf(&whole, d), maps.Equal) {
					t.Fatalf("seed %d, step %d (%s): the index of %s is not that of the program", seed, i, h.what[i], d)
				}
			}
		}
	}
	t.Logf("%d changes by an index that was there, %d sides", indexed, sides)
	if indexed < 300 || sides < 1000 {
		t.Error("the histories show too little")
	}
}

func usesOf(u *setUses, d policy.Direction) map[policy.SetID]map[setUse]bool {
	out := map[policy.SetID]map[setUse]bool{}
	for set, uses := range u.byClass[d] {
		out[set] = map[setUse]bool{}
		for _, use := range uses {
			out[set][use] = true
		}
	}
	return out
}

// memory is connection tracking in memory.
type memory struct {
	flows map[policy.Flow]bool
	// during is called after each connection that is read.
	during func()
	// scopes are those that were asked for.
	scopes []Scope
	// connections are others that there are; parted are those of which one-way entries were
	// made, deleted the one-way entries that were deleted.
	connections     []Connection
	parted, deleted []Connection
	// fails are the errors of the next readings and deletions.
	fails []error
}

func (m *memory) fail() (err error) {
	if len(m.fails) > 0 {
		err, m.fails = m.fails[0], m.fails[1:]
	}
	return err
}

func (m *memory) ForEach(_ context.Context, of Scope, f func(Connection)) error {
	m.scopes = append(m.scopes, of)
	for flow := range m.flows {
		f(Connection{Flow: flow})
		f(Connection{Flow: flow}) // as when two sides have it
		if m.during != nil {
			m.during()
		}
	}
	for _, c := range m.connections {
		f(c)
	}
	return m.fail()
}

func (m *memory) Delete(c Connection) (bool, error) {
	if err := m.fail(); err != nil {
		return false, err
	}
	if c.OneWay {
		m.deleted = append(m.deleted, c)
	}
	there := m.flows[c.Flow] || slices.ContainsFunc(m.connections, func(o Connection) bool { return o.Flow == c.Flow })
	delete(m.flows, c.Flow)
	return there, nil
}

func (m *memory) InstallOneWay(c Connection) (Connection, error) {
	m.parted = append(m.parted, c)
	return Connection{Flow: c.Back, Back: c.Flow, OneWay: true}, nil
}

func TestTheDeniedConnectionsAreCutAndOnlyThese(t *testing.T) {
	cut, left := 0, 0
	for seed := range uint64(30) {
		h := newHistory(seed, 40)
		m := &memory{flows: maps.Clone(h.flows)}
		want := maps.Clone(h.flows)
		r := New(m, Options{})
		for i, p := range h.programs {
			if err := r.Commit(p, h.changes[i], func() error { return nil }); err != nil {
				t.Fatal(err)
			}
			if i%3 == 1 {
				continue // two changes are taken together
			}
			if report := r.runRound(t.Context()); report.Err != nil {
				t.Fatal(report.Err)
			}
			allowed := h.allowed(p)
			maps.DeleteFunc(want, func(f policy.Flow, _ bool) bool { return !allowed[f] })
			if !maps.Equal(m.flows, want) {
				t.Fatalf("seed %d, step %d (%s): %d connections are left, want %d", seed, i, h.what[i], len(m.flows), len(want))
			}
		}
		cut, left = cut+len(h.flows)-len(want), left+len(want)
	}
	t.Logf("%d cut, %d left", cut, left)
	if cut < 1000 || left < 300 {
		t.Error("the histories show too little")
	}
}

func addrs4(n byte) []netip.Addr { return []netip.Addr{addr4(n)} }

// addr4 is the address of the n-th pod.
func addr4(n byte) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, n}) }
