package iptables

import (
	"testing"

	"github.com/tierwall/tierwall/enforcer/internal/sample"
	"github.com/tierwall/tierwall/enforcer/transition"
	"github.com/tierwall/tierwall/policy"
)

// One or more pods get other classes, in one direction.
func TestNoFlowIsOpenedOrCutWhileOneClassFollowsAnother(t *testing.T) {
	for name, limit := range bounds {
		t.Run(name, func(t *testing.T) {
			setLimits(t, limit)
			watchFollowers(t)
		})
	}
}

func watchFollowers(t *testing.T) {
	followed, watched := 0, 0
	for seed := range uint64(50) {
		w := sample.NewWorld(seed)
		w.Tidy = true
		for _, dir := range policy.Directions {
			w.Relate(dir)
		}
		d := w.Draft()
		k, old := newKernel(t, IPv4), w.Program(d)
		k.apply(t, old)
		for range 8 {
			w.Reclass(d)
			next := w.Program(d)
			c := transition.Between(old, next)
			if _, follows := k.slots.Next(old, next, c, transition.EndpointsOf(old, next, c)); follows {
				followed++
			}
			watched += watch(t, k, old, next, w.Flows(), func() { k.apply(t, next) })
			k.check(t)
			old = next
		}
	}
	t.Logf("%d changes in which a class followed another, %d verdicts watched", followed, watched)
	if followed < 40 {
		t.Error("hardly a class followed another")
	}
}
