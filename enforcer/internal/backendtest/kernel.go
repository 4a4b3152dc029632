package backendtest

import (
	"slices"
	"testing"

	"github.com/tierwall/tierwall/enforcer/internal/packet"
	"github.com/tierwall/tierwall/enforcer/internal/sample"
	"github.com/tierwall/tierwall/enforcer/transition"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/policy/eval"
	"github.com/tierwall/tierwall/test/generate"
)

// Kernel is a simulated kernel, with a backend that writes to it.
type Kernel interface {
	// Apply puts a program in force, and Update one that differs by the change from the last one.
	Apply(t testing.TB, p *policy.Program)
	Update(t testing.TB, next *policy.Program, c *policy.Change)
	// Observe has f called at every step of a change that a packet may meet; nil ends it.
	Observe(f func(Step))
	// Judge judges the first packet of a flow at the forward hook.
	Judge(f policy.Flow) (packet.Verdict, error)
	// Verify checks that the kernel holds what the last program makes of an empty one, and that the backend knows it.
	Verify(t testing.TB)
	// Slots are the chains that classes took over from others.
	Slots() transition.Slots
}

// Step is one step of a change.
type Step struct {
	// Written is what the step wrote.
	Written string
	// Judge judges the first packet of a flow, once for every moment at which the step may take effect for it.
	Judge func(f policy.Flow) ([]packet.Verdict, error)
}

// VerifyUpdates changes small worlds, half of the times by changes and half by programs. No flow that a change leaves as
// it is may change for a moment, and the kernel depends on the last program alone.
func VerifyUpdates(t *testing.T, newKernel func() Kernel, worlds uint64) {
	t.Helper()
	watched := 0
	for seed := range worlds {
		w := sample.NewWorld(seed)
		d := w.Draft()
		k, old := newKernel(), w.Program(d)
		k.Apply(t, old)
		for i := range 12 {
			d = w.Changes(d)
			next := w.Program(d)
			watched += watchChange(t, k, old, next, w.Flows(), func() {
				if i%2 == 0 {
					k.Update(t, next, transition.ChangeBetween(old, next))
				} else {
					k.Apply(t, next)
				}
			})
			k.Verify(t)
			old = next
		}
	}
	t.Logf("%d verdicts watched", watched)
}

// classChanges is how many changes of classes a world undergoes.
const classChanges = 8

// VerifyClassChanges gives pods other classes, in one direction, so that a class takes over the chain of another. The
// kernel's contents are verified each time after so many changes.
func VerifyClassChanges(t *testing.T, newKernel func() Kernel, worlds uint64, verifyEvery int) {
	t.Helper()
	followed, watched := 0, 0
	for seed := range worlds {
		w := sample.NewWorld(seed)
		w.Tidy = true
		for _, dir := range policy.Directions {
			w.Relate(dir)
		}
		d := w.Draft()
		k, old := newKernel(), w.Program(d)
		k.Apply(t, old)
		for i := range classChanges {
			w.Reclass(d)
			next := w.Program(d)
			c := transition.ChangeBetween(old, next)
			if _, follows := k.Slots().SlotsAfter(old, next, c, transition.EndpointsOf(old, next, c)); follows {
				followed++
			}
			watched += watchChange(t, k, old, next, w.Flows(), func() { k.Update(t, next, c) })
			if (i+1)%verifyEvery == 0 {
				k.Verify(t)
			}
			old = next
		}
	}
	t.Logf("%d changes in which a class followed another, %d verdicts watched", followed, watched)
	if followed < int(worlds)*3/4 {
		t.Error("hardly a class followed another")
	}
}

// VerifyIncremental changes random clusters step by step, by what the incremental compiler says.
func VerifyIncremental(t *testing.T, newKernel func() Kernel) {
	t.Helper()
	watched, changes := 0, 0
	for seed := range uint64(40) {
		size := generate.Small
		if seed%2 == 0 {
			size = generate.Crowded
		}
		start := generate.Cluster(generate.NewRand(seed), size)
		engine := compile.NewEngine("node-0", start.Defaults)
		engine.Commit(start.Update())
		k, old := newKernel(), engine.Program()
		k.Apply(t, old)
		for _, step := range generate.Steps(generate.NewRand(seed), start, size, 25) {
			c := engine.Commit(step.Update)
			next := engine.Program()
			if !c.Empty() {
				changes++
			}
			flows := slices.DeleteFunc(generate.Flows(generate.NewRand(seed), start, 60), func(f policy.Flow) bool {
				return !isForwarded(old, f) || !isForwarded(next, f)
			})
			watched += watchChange(t, k, old, next, flows, func() { k.Update(t, next, c) })
			k.Verify(t)
			old = next
		}
	}
	t.Logf("%d changes, %d verdicts watched", changes, watched)
	if changes < 200 || watched < 10_000 {
		t.Error("the sequences show too little")
	}
}

// isForwarded reports whether a flow passes the forward hook of node-0 as it is.
func isForwarded(p *policy.Program, f policy.Flow) bool {
	host := hostOf(p, "node-0")
	return packet.HookOf(host, f) == packet.Forward && !isOffTheWire(p, host, f)
}

// watchChange makes a change and judges, at every step, the flows whose verdict
// it leaves as it is, and at the end all of them.
func watchChange(t *testing.T, k Kernel, old, next *policy.Program, flows []policy.Flow, change func()) (watched int) {
	t.Helper()
	before, after := eval.New(old), eval.New(next)
	unchanged := map[policy.Flow]policy.Verdict{}
	for _, f := range flows {
		if v := after.Decide(f).Verdict; v == before.Decide(f).Verdict {
			unchanged[f] = v
		}
	}
	k.Observe(func(s Step) {
		for f, want := range unchanged {
			verdicts, err := s.Judge(f)
			if err != nil {
				t.Fatal(err)
			}
			watched += len(verdicts)
			for moment, v := range verdicts {
				if v.Accepted != (want == policy.Allow) {
					t.Fatalf("%+v did not stay %s at moment %d of a step: %v\n%s\n--- from\n%s\n--- to\n%s", f, want, moment, v.Trace, s.Written, old, next)
				}
			}
		}
	})
	change()
	k.Observe(nil)
	for _, f := range flows {
		want := after.Decide(f)
		if got, err := k.Judge(f); err != nil || got.Accepted != (want.Verdict == policy.Allow) {
			t.Fatalf("after the change %+v is not %s: %+v, %v (%v)", f, want.Verdict, want, got.Trace, err)
		}
	}
	return watched
}
