package nftables

import (
	"slices"
	"testing"

	"github.com/tierwall/tierwall/enforcer/transition"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/test/generate"
)

// Random clusters change step by step, and the backend is told what the incremental
// compiler says: no flow that a step leaves as it is changes for a moment, and the
// kernel ends as if it had been made from nothing.
func TestTheBackendFollowsTheIncrementalCompiler(t *testing.T) {
	watched, changes := 0, 0
	for seed := range uint64(40) {
		size := generate.Small
		if seed%2 == 0 {
			size = generate.Crowded
		}
		start := generate.Cluster(generate.NewRand(seed), size)
		engine := compile.NewEngine("node-0", start.Defaults)
		engine.Commit(start.Update())
		k := newFakeKernel()
		b, old := backendOn(t, k), engine.Program()
		if err := b.Apply(t.Context(), old); err != nil {
			t.Fatal(err)
		}
		for _, step := range generate.Steps(generate.NewRand(seed), start, size, 25) {
			c := engine.Commit(step.Update)
			next := engine.Program()
			if !c.Empty() {
				changes++
			}
			flows := slices.DeleteFunc(generate.Flows(generate.NewRand(seed), start, 60), func(f policy.Flow) bool {
				return elsewhere(old, f) || elsewhere(next, f)
			})
			watched += watch(t, k, old, next, flows, func() error { return b.Update(t.Context(), c) })
			old = next
			fresh := newFakeKernel()
			if err := backendOn(t, fresh).Apply(t.Context(), next); err != nil {
				t.Fatal(err)
			}
			if changed, err := b.Repair(t.Context()); changed || err != nil {
				t.Fatalf("seed %d: after %q the kernel is not as written (%v)", seed, step.What, err)
			}
			if got, want := k.contents(b.state.slots), fresh.contents(transition.Slots{}); got != want {
				t.Fatalf("seed %d: after %q: got\n%s\nwant\n%s", seed, step.What, got, want)
			}
		}
	}
	t.Logf("%d changes, %d verdicts watched", changes, watched)
	if changes < 200 || watched < 10_000 {
		t.Error("the sequences show too little")
	}
}

// elsewhere reports whether a flow does not pass the forward hook as it is.
func elsewhere(p *policy.Program, f policy.Flow) bool {
	var host policy.Host
	if i := slices.IndexFunc(p.Hosts, func(h policy.Host) bool { return h.Name == "node-0" }); i >= 0 {
		host = p.Hosts[i]
	}
	return hookOf(host, f) != "forward" || outOfPlace(p, host, f)
}
