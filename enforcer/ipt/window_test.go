package ipt

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/tierwall/tierwall/enforcer/ipt/interpret"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/eval"
)

// kernel is an interpreted kernel of one family, written to step by step.
type kernel struct {
	*table
	held    *interpret.Table
	program *policy.Program
	// steps is called after every single change that a packet could see.
	steps           func()
	inPlace, beside int
}

func newKernel(t *testing.T, f Family) *kernel {
	k := &kernel{table: &table{family: f, state: parseSave("")}, held: interpret.New(), steps: func() {}}
	if err := k.held.Restore("*filter\n:TIERWALL-FORWARD - [0:0]\n-A FORWARD -j TIERWALL-FORWARD\nCOMMIT\n"); err != nil {
		t.Fatal(err)
	}
	return k
}

// apply writes what the Backend would write, in its order.
func (k *kernel) apply(t *testing.T, p *policy.Program) {
	t.Helper()
	slowly := k.program != nil && gradual(k.program, p)
	want, err := k.want(p, slowly)
	if err != nil {
		t.Fatal(err)
	}
	plan := makePlan(k.state, want)
	if slowly {
		k.inPlace++
	} else {
		k.beside++
	}
	k.sets(t, plan.grow)
	if len(plan.chains) > 0 {
		if err := k.held.Restore(strings.Join(plan.chains, "\n")); err != nil {
			t.Fatal(err)
		}
		k.steps()
	}
	k.sets(t, plan.shrink)
	for _, name := range plan.destroy {
		k.sets(t, []string{"destroy " + name})
	}
	k.done(want, nil)
	k.program = p
}

func (k *kernel) sets(t *testing.T, lines []string) {
	t.Helper()
	for _, line := range lines {
		if err := k.held.RestoreSets(line); err != nil {
			t.Fatal(err)
		}
		k.steps()
	}
}

// forwards says whether the first packet of a flow passes.
func (k *kernel) forwards(t *testing.T, f policy.Flow) bool {
	v, err := k.held.Judge("FORWARD", interpret.Packet{
		Source: f.Source, Destination: f.Destination, Protocol: f.Protocol, DestinationPort: f.DestinationPort,
	})
	if err != nil {
		t.Fatal(err)
	}
	return v.Accepted
}

// world is a small universe in which changes collide often: four addresses of
// the node, three elsewhere, a few sets and classes.
type world struct {
	*rand.Rand
	local, remote []netip.Addr
	classes       [2][]*policy.Class
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
	for range 1 + w.IntN(2) {
		tier.Rules = append(tier.Rules, w.rule(d, policy.Allow))
	}
	c.Tiers = append(c.Tiers, tier)
	return c
}

func (w *world) rule(d policy.Direction, v policy.Verdict) policy.Rule {
	r := policy.Rule{Verdict: v, AnyPeer: w.IntN(10) == 0, AnyPort: w.IntN(2) == 0}
	if !r.AnyPeer {
		r.Peers = []policy.SetID{setOf(w.IntN(worldSets))}
	}
	if !r.AnyPort {
		r.Ports = []policy.Port{{Protocol: policy.TCP, First: 80, Last: 80}}
		if d == policy.Egress && w.IntN(2) == 0 {
			r.Ports[0] = policy.Port{Protocol: policy.TCP, Named: "named"}
		}
	}
	return r
}

func setOf(i int) policy.SetID { return policy.SetID(fmt.Sprintf("s%d", i)) }

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
		Sets:  map[policy.SetID]*policy.Set{"named": {ID: "named", Kind: policy.AddressPorts}},
		Local: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")},
	}
	for i := range worldSets {
		p.Sets[setOf(i)] = &policy.Set{ID: setOf(i)}
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
				id = setOf(i)
			} else {
				e.Protocol, e.Port = policy.TCP, 80
			}
			if in {
				p.Sets[id].Elements = append(p.Sets[id].Elements, e)
			}
		}
	}
	return p
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

func TestNoFlowIsOpenedOrCutForAMoment(t *testing.T) {
	var inPlace, beside, watched int
	for seed := range uint64(500) {
		w := newWorld(seed)
		d := w.draft()
		k, old := newKernel(t, IPv4), w.program(d)
		k.apply(t, old)
		for range 12 {
			d = w.changes(d)
			next := w.program(d)
			watched += watch(t, k, old, next, w.flows())
			old = next
		}
		inPlace, beside = inPlace+k.inPlace, beside+k.beside
	}
	t.Logf("%d changes in place, %d beside; %d verdicts watched", inPlace, beside, watched)
	if inPlace < 500 || beside < 500 {
		t.Errorf("one of the ways was hardly taken: %d in place, %d beside", inPlace, beside)
	}
}

// watch applies a program and checks after every step the flows whose verdict
// the change leaves as it is, and at the end all of them.
func watch(t *testing.T, k *kernel, old, next *policy.Program, flows []policy.Flow) (watched int) {
	t.Helper()
	before, after := eval.New(old), eval.New(next)
	verdicts := map[policy.Flow]policy.Verdict{}
	for _, f := range flows {
		if v := after.Decide(f).Verdict; v == before.Decide(f).Verdict {
			verdicts[f] = v
		}
	}
	k.steps = func() {
		for f, want := range verdicts {
			watched++
			if k.forwards(t, f) != (want == policy.Allow) {
				t.Fatalf("during the change %+v did not stay %s\n--- from\n%s\n--- to\n%s", f, want, old, next)
			}
		}
	}
	k.apply(t, next)
	for _, f := range flows {
		if want := after.Decide(f); k.forwards(t, f) != (want.Verdict == policy.Allow) {
			t.Fatalf("after the change %+v is not %s: %+v", f, want.Verdict, want)
		}
	}
	return watched
}
