package ipt

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
		if w.IntN(8) == 0 { // a run that is walked in one and merged in another
			c.Tiers[len(c.Tiers)-1].Rules = c.Tiers[len(c.Tiers)-1].Rules[:2]
		}
		w.classes[d] = append(w.classes[d], c)
	}
}

// One or more pods get other classes, in one direction.
func TestNoFlowIsOpenedOrCutWhileOneClassFollowsAnother(t *testing.T) {
	for _, small := range []int{maxMerged, 3} {
		t.Run(fmt.Sprint("up to ", small, " elements merged"), func(t *testing.T) {
			standard := maxMerged
			maxMerged = small
			t.Cleanup(func() { maxMerged = standard })
			watchFollowers(t)
		})
	}
}

func watchFollowers(t *testing.T) {
	followed, watched := 0, 0
	for seed := range uint64(120) {
		w := newWorld(seed)
		w.tidy = true
		for _, dir := range policy.Directions {
			w.relatives(dir)
		}
		d := w.draft()
		k, old := newKernel(t, IPv4), w.program(d)
		k.apply(t, old)
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
			if _, follows := k.slots.Next(old, next, c, diff.EndpointsOf(old, next, c)); follows {
				followed++
			}
			watched += watch(t, k, old, next, w.flows(), func() { k.apply(t, next) })
			k.check(t)
			old = next
		}
	}
	t.Logf("%d changes in which a class followed another, %d verdicts watched", followed, watched)
	if followed < 100 {
		t.Error("hardly a class followed another")
	}
}
