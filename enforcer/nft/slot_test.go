package nft

import (
	"fmt"
	"slices"
	"testing"

	"github.com/tierwall/tierwall/enforcer/diff"
	"github.com/tierwall/tierwall/policy"
)

// relatives are classes that share most of their rules, as those of a pod do whose
// policies come and go; some deny, or end otherwise.
func (w *world) relatives(d policy.Direction) {
	w.classes[d] = nil
	common := policy.Tier{Name: policy.NetworkPolicyTier}
	for range 6 {
		common.Rules = append(common.Rules, w.rule(d, policy.Allow))
	}
	for i := range 8 {
		tier := policy.Tier{Name: policy.NetworkPolicyTier, Rules: slices.Clone(common.Rules)}
		for range 1 + w.IntN(3) {
			n := w.IntN(len(tier.Rules))
			tier.Rules[n] = w.rule(d, policy.Allow)
		}
		c := &policy.Class{ID: policy.ClassID(fmt.Sprintf("r%d", i)), Tiers: []policy.Tier{tier}}
		if w.IntN(6) == 0 {
			c.Tiers = append([]policy.Tier{{Name: policy.AdminTier, Else: policy.Pass, Rules: []policy.Rule{
				w.rule(d, policy.Deny), w.rule(d, policy.Allow), w.rule(d, policy.Pass)}}}, c.Tiers...)
		}
		if w.IntN(6) == 0 {
			c.Tiers[len(c.Tiers)-1].Else = policy.Allow
		}
		w.classes[d] = append(w.classes[d], c)
	}
}

// One or more pods get other classes, in one direction.
func TestNoFlowIsOpenedOrCutWhileOneClassFollowsAnother(t *testing.T) {
	followed, watched := 0, 0
	for seed := range uint64(400) {
		w := newWorld(seed)
		w.tidy = true
		for _, dir := range policy.Directions {
			w.relatives(dir)
		}
		d := w.draft()
		k := newFakeKernel()
		b := backendOn(t, k)
		old := w.program(d)
		if err := b.Apply(t.Context(), old); err != nil {
			t.Fatal(err)
		}
		for range 8 {
			dir := w.IntN(2)
			for range 1 + w.IntN(2) {
				a := w.local[w.IntN(len(w.local))]
				if class, ok := d.class[a]; ok {
					class[dir] = w.IntN(8)
					d.class[a] = class
				}
			}
			next := w.program(d)
			c := diff.Between(old, next)
			if _, follows := b.state.slots.Next(old, next, c, diff.EndpointsOf(old, next, c)); follows {
				followed++
			}
			watched += watch(t, k, old, next, w.flows(), func() error { return b.Update(t.Context(), c) })
			old = next
		}
		if changed, err := b.Repair(t.Context()); changed || err != nil {
			t.Fatalf("the kernel is not as written (%v)", err)
		}
		fresh := newFakeKernel()
		if err := backendOn(t, fresh).Apply(t.Context(), old); err != nil {
			t.Fatal(err)
		}
		if got, want := k.contents(b.state.slots), fresh.contents(diff.Slots{}); got != want {
			t.Fatalf("seed %d: got\n%s\nwant\n%s", seed, got, want)
		}
	}
	t.Logf("%d changes in which a class followed another, %d verdicts watched", followed, watched)
	if followed < 300 {
		t.Error("hardly a class followed another")
	}
}
