package nftables

import (
	"strings"
	"testing"

	"github.com/tierwall/tierwall/enforcer/internal/sample"
	"github.com/tierwall/tierwall/enforcer/nftables/simulator"
	"github.com/tierwall/tierwall/enforcer/transition"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/eval"
)

// Half of the changes are given as changes, half as programs.
func TestNoFlowIsOpenedOrCutForAMoment(t *testing.T) {
	ways := map[way]int{}
	watched := 0
	for seed := range uint64(300) {
		w := sample.NewWorld(seed)
		d := w.Draft()
		k := newFakeKernel()
		b := backendOn(t, k)
		old := w.Program(d)
		if err := b.Apply(t.Context(), old); err != nil {
			t.Fatal(err)
		}
		for i := range 8 {
			d = w.Changes(d)
			next := w.Program(d)
			c := transition.Between(old, next)
			ways[wayOf(old, next, c, usersOf(old, c))]++
			watched += watch(t, k, old, next, w.Flows(), func() error {
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
	k.watch = func(then, now *simulator.Table, script string) {
		settled(t, now, script)
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

// settled sees that no set of ranges comes into force in the transaction that makes it, or changes while
// rules refer to it: some kinds switch to new elements a moment after everything else.
func settled(t *testing.T, now *simulator.Table, script string) {
	t.Helper()
	inForce := now.InForce()
	for line := range strings.Lines(script) {
		words := strings.Fields(line)
		made := strings.HasPrefix(line, "add set ") || strings.HasPrefix(line, "add map ")
		if made && strings.Contains(line, "flags interval") && inForce[words[4]] {
			t.Fatalf("%s is new in the transaction that puts it in force:\n%s", words[4], script)
		}
	}
}

// The kernel depends on the last program alone, whichever way it came there.
func TestUpdateEqualsApply(t *testing.T) {
	for seed := range uint64(200) {
		w := sample.NewWorld(seed)
		d := w.Draft()
		k := newFakeKernel()
		b := backendOn(t, k)
		old := w.Program(d)
		if err := b.Apply(t.Context(), old); err != nil {
			t.Fatal(err)
		}
		for range 6 {
			d = w.Changes(d)
			next := w.Program(d)
			if err := b.Update(t.Context(), transition.Between(old, next)); err != nil {
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
			if got, want := k.contents(b.state.slots), fresh.contents(transition.Slots{}); got != want {
				t.Fatalf("seed %d: got\n%s\nwant\n%s", seed, got, want)
			}
		}
	}
}
