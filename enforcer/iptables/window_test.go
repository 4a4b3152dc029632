package iptables

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/tierwall/tierwall/enforcer/internal/backendtest"
	"github.com/tierwall/tierwall/enforcer/internal/packet"
	"github.com/tierwall/tierwall/enforcer/iptables/simulator"
	"github.com/tierwall/tierwall/enforcer/transition"
	"github.com/tierwall/tierwall/policy"
)

// kernel is an interpreted kernel of one family, written to step by step.
type kernel struct {
	*table
	held    *simulator.Table
	program *policy.Program
	users   transition.Users
	slots   transition.Slots
	// observe is called after every single change that a packet could see.
	observe func(written string)
	// ways counts the changes by whether they were made in place.
	ways map[bool]int
}

func newKernel(t testing.TB, f Family) *kernel {
	k := &kernel{table: &table{family: f}, held: simulator.New(), observe: func(string) {}, ways: map[bool]int{}}
	if err := k.held.Restore("*filter\n" + declareChain(forwardChain) + "\n-A FORWARD " + jumpTo(forwardChain) + "\nCOMMIT\n"); err != nil {
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
	if k.program != nil && k.family.isUsedBy(k.program) == k.family.isUsedBy(p) {
		k.update(t, p, transition.ChangeBetween(k.program, p))
		return
	}
	k.execute(t, k.planWhole(p, k.read(), transition.Slots{}, false))
	k.program, k.users, k.slots = p, transition.UsersOf(p), transition.Slots{}
}

// update writes a change as the Backend would.
func (k *kernel) update(t testing.TB, p *policy.Program, c *policy.Change) {
	t.Helper()
	for _, d := range policy.Directions {
		for _, class := range c.Classes[d] {
			k.users.AddClass(d, class)
		}
	}
	m := newMove(k.program, p, c, k.users, k.slots)
	plan := k.planChange(m)
	k.ways[m.gradual]++
	k.execute(t, plan)
	for _, d := range policy.Directions {
		for _, id := range c.ClassesGone[d] {
			k.users.RemoveClass(d, k.program.Classes[d][id])
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
		k.observe(strings.Join(p.chains, "\n"))
	}
	k.sets(t, p.shrink)
	k.destroy(t)
}

// destroy destroys what is not in use: sets of which a list goes first once that is gone.
func (k *kernel) destroy(t testing.TB) {
	t.Helper()
	for going := k.state.names.taken; len(going) > 0; {
		before, failed := len(going), error(nil)
		for name := range going {
			if err := k.held.RestoreSets("destroy " + name); err != nil {
				failed = err
				continue
			}
			delete(going, name)
			delete(k.state.sizes, name)
		}
		if len(going) == before {
			t.Fatal(failed)
		}
	}
}

func (k *kernel) sets(t testing.TB, steps []setStep) {
	t.Helper()
	for _, s := range steps {
		if s.verb == create && slices.Contains(k.held.Sets(), s.set.Name) {
			t.Fatalf("the set %s is there", s.set.Name)
		}
		for _, line := range s.restoreLines() {
			if err := k.held.RestoreSets(line); err != nil {
				t.Fatal(err)
			}
			k.observe(line)
		}
	}
}

// check sees that the kernel holds what the whole program makes of it, and that this is known.
func (k *kernel) check(t testing.TB) {
	t.Helper()
	v := newRenderer(k.program, k.family, k.state.names.clone(), k.slots, k.log, k.refused).render()
	r, fresh := v.toRuleset(k.family), newKernel(t, k.family)
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
	if len(want.rules) != len(k.state.rules) || !maps.Equal(want.users, k.state.users) || len(want.sets()) != len(k.state.names.sets.known) {
		t.Fatalf("of %s is said to be there: %+v, want %+v", k.program, k.state, want)
	}
}

func (n names) clone() names {
	out := newNames()
	for _, pair := range [][2]nameTable{{n.sets, out.sets}, {n.chains, out.chains}} {
		maps.Copy(pair[1].known, pair[0].known)
		maps.Copy(pair[1].given, pair[0].given)
	}
	return out
}

// sets are the base names of all sets that classes refer to.
func (s state) sets() map[string]bool {
	out := map[string]bool{}
	for _, c := range s.classes {
		for _, base := range slices.Concat(c.setBases(), c.own) {
			out[base] = true
		}
	}
	return out
}

// bounds are ways to bound what is merged, so that small worlds meet each of them.
var bounds = map[string]func(){
	"as they are":                         func() {},
	"up to 3 elements merged":             func() { limits.merged = 3 },
	"nothing merged, peers listed":        func() { limits.merged, limits.walk = 0, 1 },
	"few elements merged, peers listed":   func() { limits.merged, limits.walk = 3, 1 },
	"members merged once at most":         func() { limits.factor, limits.copies, limits.walk = 0, 1, 1 },
	"merged up to the size of the rules":  func() { limits.factor, limits.copies, limits.walk = 1, 0, 1 },
	"lists of one, and hardly a set":      func() { limits.ownSets, limits.walk, limits.list = 2, 1, 1 },
	"ranges are not expanded to elements": func() { limits.expand = 1 },
}

func setLimits(t *testing.T, set func()) {
	standard := limits
	set()
	t.Cleanup(func() { limits = standard })
}

// kernels are the kernels of some families, under one backend.
type kernels []*kernel

// newKernels returns empty kernels that count their ways in the map, if there is one.
func newKernels(t testing.TB, ways map[bool]int, of ...Family) backendtest.Kernel {
	var out kernels
	for _, f := range of {
		k := newKernel(t, f)
		if ways != nil {
			k.ways = ways
		}
		out = append(out, k)
	}
	return out
}

// Apply is Kernel's.
func (ks kernels) Apply(t testing.TB, p *policy.Program) {
	t.Helper()
	for _, k := range ks {
		k.apply(t, p)
	}
}

// Update is Kernel's. A family that comes or goes is written anew, as the Backend does.
func (ks kernels) Update(t testing.TB, next *policy.Program, c *policy.Change) {
	t.Helper()
	for _, k := range ks {
		if k.family.isUsedBy(k.program) != k.family.isUsedBy(next) {
			k.apply(t, next)
		} else {
			k.update(t, next, c)
		}
	}
}

// Observe is Kernel's.
func (ks kernels) Observe(f func(backendtest.Step)) {
	for _, k := range ks {
		k.observe = func(string) {}
		if f != nil {
			k.observe = func(written string) { f(backendtest.Step{Written: written, Judge: k.judgeStep}) }
		}
	}
}

// judgeStep judges a flow of the kernel's family after a step, and no other.
func (k *kernel) judgeStep(f policy.Flow) ([]packet.Verdict, error) {
	if !k.family.hasAddress(f.Source) {
		return nil, nil
	}
	v, err := k.judge(f)
	return []packet.Verdict{v}, err
}

func (k *kernel) judge(f policy.Flow) (packet.Verdict, error) {
	return k.held.Judge("FORWARD", packet.FirstOf(f))
}

// Judge is Kernel's.
func (ks kernels) Judge(f policy.Flow) (packet.Verdict, error) {
	i := slices.IndexFunc(ks, func(k *kernel) bool { return k.family.hasAddress(f.Source) })
	return ks[i].judge(f)
}

// Verify is Kernel's.
func (ks kernels) Verify(t testing.TB) {
	t.Helper()
	for _, k := range ks {
		k.check(t)
	}
}

// Slots is Kernel's.
func (ks kernels) Slots() transition.Slots { return ks[0].slots }

func TestNoFlowIsOpenedOrCutForAMoment(t *testing.T) {
	for name, limit := range bounds {
		t.Run(name, func(t *testing.T) {
			setLimits(t, limit)
			const worlds = 40
			ways := map[bool]int{}
			backendtest.VerifyUpdates(t, func() backendtest.Kernel { return newKernels(t, ways, IPv4) }, worlds)
			if ways[true] < worlds || ways[false] < worlds {
				t.Errorf("one of the ways was hardly taken: in place and not %v", ways)
			}
		})
	}
}

func TestNoFlowIsOpenedOrCutWhileOneClassFollowsAnother(t *testing.T) {
	for name, limit := range bounds {
		t.Run(name, func(t *testing.T) {
			setLimits(t, limit)
			backendtest.VerifyClassChanges(t, func() backendtest.Kernel { return newKernels(t, nil, IPv4) }, 50, 1)
		})
	}
}

func TestTheBackendFollowsTheIncrementalCompiler(t *testing.T) {
	backendtest.VerifyIncremental(t, func() backendtest.Kernel { return newKernels(t, nil, IPv4, IPv6) })
}
