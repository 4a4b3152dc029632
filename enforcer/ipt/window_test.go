package ipt

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/tierwall/tierwall/enforcer/diff"
	"github.com/tierwall/tierwall/enforcer/ipt/interpret"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/eval"
)

// kernel is an interpreted kernel of one family, written to step by step.
type kernel struct {
	*table
	held    *interpret.Table
	program *policy.Program
	users   diff.Users
	slots   diff.Slots
	// steps is called after every single change that a packet could see.
	steps           func()
	inPlace, beside int
}

func newKernel(t testing.TB, f Family) *kernel {
	k := &kernel{table: &table{family: f}, held: interpret.New(), steps: func() {}}
	if err := k.held.Restore("*filter\n" + declare(forwardChain) + "\n-A FORWARD " + jumpTo(forwardChain) + "\nCOMMIT\n"); err != nil {
		t.Fatal(err)
	}
	return k
}

// read is what is there, none of it understood.
func (k *kernel) read() reading {
	have := parseSave("")
	for hook := range hooks {
		have.jumps[hook] = first
	}
	for _, name := range k.held.Chains() {
		if strings.HasPrefix(name, chainPrefix) {
			have.prints[name] = []string{}
		}
	}
	for _, name := range k.held.Sets() {
		have.sets[name] = Set{Name: name}
	}
	return have
}

// apply writes what the Backend would write, in its order.
func (k *kernel) apply(t testing.TB, p *policy.Program) {
	t.Helper()
	if k.program != nil && k.family.in(k.program) == k.family.in(p) {
		k.update(t, p, diff.Between(k.program, p))
		return
	}
	plan, err := k.whole(p, k.read(), diff.Slots{}, false)
	if err != nil {
		t.Fatal(err)
	}
	k.execute(t, plan)
	k.program, k.users, k.slots = p, diff.UsersOf(p), diff.Slots{}
}

// update writes a change as the Backend would.
func (k *kernel) update(t testing.TB, p *policy.Program, c *policy.Change) {
	t.Helper()
	for _, d := range policy.Directions {
		for _, class := range c.Classes[d] {
			k.users.Add(d, class)
		}
	}
	m := newMove(k.program, p, c, k.users, k.slots)
	plan, err := k.step(m)
	if err != nil {
		t.Fatal(err)
	}
	if m.gradual {
		k.inPlace++
	} else {
		k.beside++
	}
	k.execute(t, plan)
	for _, d := range policy.Directions {
		for _, id := range c.ClassesGone[d] {
			k.users.Remove(d, k.program.Classes[d][id])
		}
	}
	k.program, k.slots = p, m.nextSlots
}

func (k *kernel) execute(t testing.TB, p plan) {
	t.Helper()
	k.sets(t, p.grow)
	if len(p.chains) > 0 {
		if err := k.held.Restore(strings.Join(p.chains, "\n")); err != nil {
			t.Fatalf("%v in\n%s", err, strings.Join(p.chains, "\n"))
		}
		k.steps()
	}
	k.sets(t, p.shrink)
	for name := range k.state.names.taken {
		if err := k.held.RestoreSets("destroy " + name); err != nil {
			t.Fatal(err)
		}
	}
	clear(k.state.names.taken)
}

func (k *kernel) sets(t testing.TB, steps []setStep) {
	t.Helper()
	for _, s := range steps {
		if s.verb == create && slices.Contains(k.held.Sets(), s.set.Name) {
			t.Fatalf("the set %s is there", s.set.Name)
		}
		for _, line := range s.lines() {
			if err := k.held.RestoreSets(line); err != nil {
				t.Fatal(err)
			}
			k.steps()
		}
	}
}

// check sees that the kernel holds what the whole program makes of it, and that this is known.
func (k *kernel) check(t testing.TB) {
	t.Helper()
	v, err := render(k.program, k.family, names{maps.Clone(k.state.names.known), map[string]bool{}}, k.slots, k.log)
	if err != nil {
		t.Fatal(err)
	}
	r, fresh := v.ruleset(k.family), newKernel(t, k.family)
	if err := fresh.held.RestoreSets(r.SetText()); err != nil {
		t.Fatal(err)
	}
	if err := fresh.held.Restore(r.RestoreText()); err != nil {
		t.Fatal(err)
	}
	if got, want := k.held.Dump(), fresh.held.Dump(); got != want {
		t.Fatalf("got\n%s\nwant\n%s\nof\n%s", got, want, k.program)
	}
	want := stateOf(v, k.state.names)
	for name, rules := range want.rules {
		if !slices.Equal(rules, k.state.rules[name]) {
			t.Fatalf("chain %s is said to have %q", name, k.state.rules[name])
		}
	}
	if len(want.rules) != len(k.state.rules) || !maps.Equal(want.users, k.state.users) || len(want.sets()) != len(k.state.names.known) {
		t.Fatalf("of %s is said to be there: %+v, want %+v", k.program, k.state, want)
	}
}

// sets are the base names of all sets that classes refer to.
func (s state) sets() map[string]bool {
	out := map[string]bool{}
	for _, c := range s.classes {
		for base := range c.refs {
			out[base] = true
		}
		for _, base := range c.own {
			out[base] = true
		}
	}
	return out
}

// forwards says whether the first packet of a flow passes.
func (k *kernel) forwards(t *testing.T, f policy.Flow) bool {
	v, err := k.held.Judge("FORWARD", interpret.Packet{
		Source: f.Source, Destination: f.Destination, Protocol: f.Protocol, DestinationPort: f.DestinationPort, ICMPType: f.ICMPType,
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
		r.Peers = []policy.SetID{setOf(w.IntN(worldSets))}
		if w.IntN(4) == 0 {
			r.Peers = append(r.Peers, "networks")
		}
	}
	if !r.AnyPort {
		r.Ports = []policy.Port{{Protocol: policy.TCP, First: 80, Last: 80 + uint16(w.IntN(2)*w.IntN(2)*100+w.IntN(2))}}
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
		Sets: map[policy.SetID]*policy.Set{"named": {ID: "named", Kind: policy.AddressPorts},
			"networks": {ID: "networks", Kind: policy.Networks, Elements: []policy.Element{{Prefix: netip.MustParsePrefix("10.0.1.2/31")}}}},
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
			for _, port := range []uint16{80, 81, 150} {
				if a != b {
					out = append(out, policy.Flow{Source: a, Destination: b, Protocol: policy.TCP, DestinationPort: port})
				}
			}
		}
	}
	return out
}

func TestNoFlowIsOpenedOrCutForAMoment(t *testing.T) {
	watchWorlds(t, 150)
}

// Sets grow above and shrink below the size up to which they are merged.
func TestNoFlowIsOpenedOrCutWhileSetsGrowTooLargeToMerge(t *testing.T) {
	standard := maxMerged
	maxMerged = 3
	t.Cleanup(func() { maxMerged = standard })
	watchWorlds(t, 100)
}

func watchWorlds(t *testing.T, worlds uint64) {
	var inPlace, beside, watched int
	for seed := range worlds {
		w := newWorld(seed)
		d := w.draft()
		k, old := newKernel(t, IPv4), w.program(d)
		k.apply(t, old)
		for range 12 {
			d = w.changes(d)
			next := w.program(d)
			watched += watch(t, k, old, next, w.flows(), func() { k.apply(t, next) })
			k.check(t)
			old = next
		}
		inPlace, beside = inPlace+k.inPlace, beside+k.beside
	}
	t.Logf("%d changes in place, %d beside; %d verdicts watched", inPlace, beside, watched)
	if inPlace < int(worlds) || beside < int(worlds) {
		t.Errorf("one of the ways was hardly taken: %d in place, %d beside", inPlace, beside)
	}
}

// watch makes a change and checks after every step the flows whose verdict
// it leaves as it is, and at the end all of them.
func watch(t *testing.T, k *kernel, old, next *policy.Program, flows []policy.Flow, change func()) (watched int) {
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
	change()
	for _, f := range flows {
		if want := after.Decide(f); k.forwards(t, f) != (want.Verdict == policy.Allow) {
			t.Fatalf("after the change %+v is not %s: %+v", f, want.Verdict, want)
		}
	}
	return watched
}
