package nft

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/tierwall/tierwall/enforcer/diff"
	"github.com/tierwall/tierwall/enforcer/nft/interpret"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/eval"
)

// world is a small universe in which changes collide often: four addresses of
// the node, three elsewhere, a few sets and classes.
type world struct {
	*rand.Rand
	local, remote []netip.Addr
	classes       [2][]*policy.Class
	// tidy leaves out classes that no endpoint has.
	tidy bool
}

const worldSets = 3

func newWorld(seed uint64) *world {
	w := &world{Rand: rand.New(rand.NewPCG(seed, 1))}
	for i := range 4 {
		w.local = append(w.local, netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}))
	}
	for i := range 3 {
		w.remote = append(w.remote, netip.AddrFrom4([4]byte{10, 0, 1, byte(i + 1)}))
	}
	denies := w.IntN(4) == 0
	w.tidy = seed%4 != 0
	for _, d := range policy.Directions {
		for i := range 4 {
			w.classes[d] = append(w.classes[d], w.class(fmt.Sprintf("c%d", i), d, denies))
		}
	}
	return w
}

func (w *world) class(id string, d policy.Direction, denies bool) *policy.Class {
	c := &policy.Class{ID: policy.ClassID(id)}
	if denies {
		c.Tiers = append(c.Tiers, policy.Tier{Name: policy.AdminTier, Else: policy.Pass, Rules: []policy.Rule{
			w.rule(d, policy.Verdict(w.IntN(3))), w.rule(d, policy.Verdict(w.IntN(3))),
		}})
	}
	tier := policy.Tier{Name: policy.NetworkPolicyTier}
	for range 1 + w.IntN(2)*w.IntN(7) { // of many a run is merged
		tier.Rules = append(tier.Rules, w.rule(d, policy.Allow))
	}
	c.Tiers = append(c.Tiers, tier)
	return c
}

func (w *world) rule(d policy.Direction, v policy.Verdict) policy.Rule {
	r := policy.Rule{Verdict: v, AnyPeer: w.IntN(10) == 0, AnyPort: w.IntN(2) == 0}
	if !r.AnyPeer {
		r.Peers = []policy.SetID{setID(w.IntN(worldSets))}
		if w.IntN(4) == 0 {
			r.Peers = append(r.Peers, "networks")
		}
	}
	if !r.AnyPort {
		r.Ports = []policy.Port{{Protocol: policy.TCP, First: 80, Last: 80 + uint16(w.IntN(2))}}
		if d == policy.Egress && w.IntN(2) == 0 {
			r.Ports[0] = policy.Port{Protocol: policy.TCP, Named: "named"}
		}
	}
	return r
}

func setID(i int) policy.SetID { return policy.SetID(fmt.Sprintf("s%d", i)) }

// draft is a program in the making: who is there, in which class, and in which sets.
type draft struct {
	class   map[netip.Addr][2]int
	members map[netip.Addr][worldSets + 1]bool
}

func (w *world) draft() draft {
	d := draft{map[netip.Addr][2]int{}, map[netip.Addr][worldSets + 1]bool{}}
	for range 30 {
		d = w.change(d, w.IntN(6))
	}
	return d
}

// changes is a draft with a few things changed, half of the time labels alone.
func (w *world) changes(d draft) draft {
	kinds := 4 + 2*w.IntN(2)
	for range 1 + w.IntN(8) {
		d = w.change(d, w.IntN(kinds))
	}
	return d
}

// change is a draft with one thing changed.
func (w *world) change(d draft, kind int) draft {
	d = draft{maps.Clone(d.class), maps.Clone(d.members)}
	a := w.local[w.IntN(len(w.local))]
	switch kind {
	case 4:
		delete(d.class, a)
		delete(d.members, a)
	case 5:
		d.class[a] = [2]int{w.IntN(4), w.IntN(4)}
	default:
		if w.IntN(2) == 0 {
			a = w.remote[w.IntN(len(w.remote))]
		}
		m := d.members[a]
		m[w.IntN(len(m))] = w.IntN(3) == 0
		d.members[a] = m
	}
	return d
}

func (w *world) program(d draft) *policy.Program {
	p := &policy.Program{
		Sets: map[policy.SetID]*policy.Set{"named": {ID: "named", Kind: policy.AddressPorts},
			"networks": {ID: "networks", Kind: policy.Networks, Elements: []policy.Element{{Prefix: netip.MustParsePrefix("10.0.1.2/31")}}}},
		Local: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")},
	}
	for i := range worldSets {
		p.Sets[setID(i)] = &policy.Set{ID: setID(i)}
	}
	for _, dir := range policy.Directions {
		p.Classes[dir] = map[policy.ClassID]*policy.Class{}
		for _, c := range w.classes[dir] {
			p.Classes[dir][c.ID] = c
		}
	}
	for _, a := range slices.Concat(w.local, w.remote) {
		if c, ok := d.class[a]; ok {
			p.Endpoints = append(p.Endpoints, policy.Endpoint{Namespace: "w", Name: a.String(), Addrs: []netip.Addr{a},
				Class: [2]policy.ClassID{w.classes[0][c[0]].ID, w.classes[1][c[1]].ID}})
		}
		for i, in := range d.members[a] {
			id, e := policy.SetID("named"), policy.AddressElement(a)
			if i < worldSets {
				id = setID(i)
			} else {
				e.Protocol, e.Port = policy.TCP, 80
			}
			if in {
				p.Sets[id].Elements = append(p.Sets[id].Elements, e)
			}
		}
	}
	if w.tidy {
		dropUnused(p)
	}
	return p
}

// dropUnused leaves out classes that no endpoint has, as the compiler does.
func dropUnused(p *policy.Program) {
	for _, d := range policy.Directions {
		maps.DeleteFunc(p.Classes[d], func(id policy.ClassID, _ *policy.Class) bool {
			return !slices.ContainsFunc(p.Endpoints, func(e policy.Endpoint) bool { return e.Class[d] == id })
		})
	}
}

// flows are all flows of the world, but those of a pod to itself: to them eval
// does not apply.
func (w *world) flows() []policy.Flow {
	var out []policy.Flow
	all := slices.Concat(w.local, w.remote)
	for _, a := range all {
		for _, b := range all {
			for _, port := range []uint16{80, 81} {
				if a != b {
					out = append(out, policy.Flow{Source: a, Destination: b, Protocol: policy.TCP, DestinationPort: port})
				}
			}
		}
	}
	return out
}

// Half of the changes are given as changes, half as programs.
func TestNoFlowIsOpenedOrCutForAMoment(t *testing.T) {
	ways := map[way]int{}
	watched := 0
	for seed := range uint64(300) {
		w := newWorld(seed)
		d := w.draft()
		k := newFakeKernel()
		b := backendOn(t, k)
		old := w.program(d)
		if err := b.Apply(t.Context(), old); err != nil {
			t.Fatal(err)
		}
		for i := range 8 {
			d = w.changes(d)
			next := w.program(d)
			c := diff.Between(old, next)
			ways[wayOf(old, next, c, usersOf(old, c))]++
			watched += watch(t, k, old, next, w.flows(), func() error {
				if i%2 == 0 {
					return b.Update(t.Context(), c)
				}
				return b.Apply(t.Context(), next)
			})
			old = next
		}
	}
	t.Logf("beside, in place, in turn: %v; %d verdicts watched", ways, watched)
	for _, way := range []way{beside, inPlace, inTurn} {
		if ways[way] < 20 {
			t.Errorf("one of the ways was hardly taken: %v", ways)
		}
	}
}

// watch makes a change and judges, during and after every transaction, the flows whose
// verdict it leaves as it is, and at the end all of them.
func watch(t *testing.T, k *fakeKernel, old, next *policy.Program, flows []policy.Flow, change func() error) (watched int) {
	t.Helper()
	before, after := eval.New(old), eval.New(next)
	k.watch = func(then, now *interpret.Table, script string) {
		settled(t, script)
		for _, f := range flows {
			want := before.Decide(f).Verdict
			if want != after.Decide(f).Verdict {
				continue
			}
			for moment := range 12 {
				v, err := then.JudgeDuring(now, moment, "forward", packetOf(f))
				watched++
				if err != nil || v.Accepted != (want == policy.Allow) {
					t.Fatalf("%+v did not stay %s when a transaction took effect after %d lookups (%v): %v\n%s\n--- from\n%s\n--- to\n%s",
						f, want, moment, err, v.Trace, script, old, next)
				}
				if moment >= v.Lookups {
					break
				}
			}
		}
	}
	if err := change(); err != nil {
		t.Fatal(err)
	}
	k.watch = nil
	for _, f := range flows {
		if want, got := after.Decide(f), judge(t, k.held, policy.Host{}, f); got.Accepted != (want.Verdict == policy.Allow) {
			t.Fatalf("after the change %+v is not %s: %+v, %v", f, want.Verdict, want, got.Trace)
		}
	}
	return watched
}

// settled sees that no set of ranges is new to a rule, or changes while rules refer to it:
// some kinds switch to new elements a moment after everything else.
func settled(t *testing.T, script string) {
	t.Helper()
	filled := map[string]bool{}
	for line := range strings.Lines(script) {
		words := strings.Fields(line)
		if strings.HasPrefix(line, "add set ") && strings.Contains(line, "flags interval") {
			filled[words[4]] = true
		}
		for _, word := range words {
			if strings.HasPrefix(line, "add rule ") && strings.HasPrefix(word, "@") && filled[word[1:]] {
				t.Fatalf("%s is new in the transaction that makes a rule with it:\n%s", word, script)
			}
		}
	}
}

// The kernel depends on the last program alone, whichever way it came there.
func TestUpdateEqualsApply(t *testing.T) {
	for seed := range uint64(200) {
		w := newWorld(seed)
		d := w.draft()
		k := newFakeKernel()
		b := backendOn(t, k)
		old := w.program(d)
		if err := b.Apply(t.Context(), old); err != nil {
			t.Fatal(err)
		}
		for range 6 {
			d = w.changes(d)
			next := w.program(d)
			if err := b.Update(t.Context(), diff.Between(old, next)); err != nil {
				t.Fatal(err)
			}
			old = next
			if changed, err := b.Repair(t.Context()); changed || err != nil {
				t.Fatalf("after a change the kernel is not as written (%v)", err)
			}
			fresh := newFakeKernel()
			if err := backendOn(t, fresh).Apply(t.Context(), next); err != nil {
				t.Fatal(err)
			}
			if got, want := k.contents(b.state.slots), fresh.contents(diff.Slots{}); got != want {
				t.Fatalf("seed %d: got\n%s\nwant\n%s", seed, got, want)
			}
		}
	}
}
