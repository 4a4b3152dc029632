package nftables

import (
	"testing"

	"github.com/tierwall/tierwall/enforcer/internal/sample"
	"github.com/tierwall/tierwall/enforcer/transition"
	"github.com/tierwall/tierwall/policy"
)

// One or more pods get other classes, in one direction.
func TestNoFlowIsOpenedOrCutWhileOneClassFollowsAnother(t *testing.T) {
	followed, watched := 0, 0
	for seed := range uint64(400) {
		w := sample.NewWorld(seed)
		w.Tidy = true
		for _, dir := range policy.Directions {
			w.Relate(dir)
		}
		d := w.Draft()
		k := newFakeKernel()
		b := backendOn(t, k)
		old := w.Program(d)
		if err := b.Apply(t.Context(), old); err != nil {
			t.Fatal(err)
		}
		for range 8 {
			w.Reclass(d)
			next := w.Program(d)
			c := transition.Between(old, next)
			if _, follows := b.state.slots.Next(old, next, c, transition.EndpointsOf(old, next, c)); follows {
				followed++
			}
			watched += watch(t, k, old, next, w.Flows(), func() error { return b.Update(t.Context(), c) })
			old = next
		}
		if changed, err := b.Repair(t.Context()); changed || err != nil {
			t.Fatalf("the kernel is not as written (%v)", err)
		}
		fresh := newFakeKernel()
		if err := backendOn(t, fresh).Apply(t.Context(), old); err != nil {
			t.Fatal(err)
		}
		if got, want := k.contents(b.state.slots), fresh.contents(transition.Slots{}); got != want {
			t.Fatalf("seed %d: got\n%s\nwant\n%s", seed, got, want)
		}
	}
	t.Logf("%d changes in which a class followed another, %d verdicts watched", followed, watched)
	if followed < 300 {
		t.Error("hardly a class followed another")
	}
}
