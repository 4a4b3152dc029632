package check

import (
	"cmp"
	"context"
	"slices"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tierwall/tierwall/cli/manifest"
	"github.com/tierwall/tierwall/cli/state"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/policy/effect"
)

// step is policies that are applied at once, and what they open together.
type step struct {
	world    *world
	policies []*manifest.Object
	before   state.State
	after    *compile.Snapshot
	effect   effect.Effect
}

// world is all objects as they are in the end, in which policies are applied step by step. What of the pods' labels is
// open follows from all policies.
type world struct {
	calculator effect.Calculator
	end        *compile.Snapshot
}

// snapshotOf returns the snapshot of the world with only those policies that are in a state. Snapshots share the other objects.
func (w *world) snapshotOf(s state.State) *compile.Snapshot {
	out := *w.end
	out.NetworkPolicies, out.ClusterNetworkPolicies = s.Policies()
	return &out
}

// stepsOf applies the policies at once, so that what counts is what is there in
// the end. Only where they open more than can be computed or listed are they
// applied in several steps, those of the cluster first and then namespace by namespace.
// Each step is exact, and what is open in the end was opened in one of them.
func stepsOf(ctx context.Context, before state.State, policies []*manifest.Object, d policy.Defaults) ([]step, error) {
	policies = slices.SortedStableFunc(slices.Values(policies), compareGroups)
	w := &world{end: before.With(objectsByKey(policies)).Snapshot(d)}
	steps, _, err := w.splitSteps(ctx, before, policies)
	return steps, err
}

// compareGroups sorts policies by kind and namespace, those of the cluster first.
func compareGroups(a, b *manifest.Object) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Namespace, b.Namespace))
}

// splitSteps returns the steps and the state after the last one.
func (w *world) splitSteps(ctx context.Context, before state.State, policies []*manifest.Object) ([]step, state.State, error) {
	if len(policies) == 0 {
		return nil, before, nil
	}
	if len(policies) <= maxTogether {
		after := before.With(objectsByKey(policies))
		is := w.snapshotOf(after)
		e := w.calculator.Compute(ctx, w.snapshotOf(before), is)
		if err := timeOver(ctx); err != nil {
			return nil, before, err
		}
		if len(policies) == 1 || e.Complete && !e.Truncated {
			return []step{{w, policies, before, is, e}}, after, nil
		}
	}
	var steps []step
	for _, part := range w.partition(policies) {
		found, next, err := w.splitSteps(ctx, before, part)
		if err != nil {
			return nil, before, err
		}
		steps, before = append(steps, found...), next
	}
	return steps, before, nil
}

// partition are policies of one namespace each, whose effects cost little to compute. Without default deny they would cost
// as much as any, so that there are few parts then.
func (w *world) partition(policies []*manifest.Object) [][]*manifest.Object {
	first, last := policies[0], policies[len(policies)-1]
	if compareGroups(first, last) == 0 || w.end.Defaults.Action != policy.Deny {
		return slices.Collect(slices.Chunk(policies, (len(policies)+maxParts-1)/maxParts))
	}
	var out [][]*manifest.Object
	for i, p := range policies {
		if i == 0 || compareGroups(policies[i-1], p) != 0 {
			out = append(out, nil)
		}
		out[len(out)-1] = append(out[len(out)-1], p)
	}
	return out
}

const (
	// maxTogether bounds the policies of one step: what more of them open together is seldom few enough to be listed.
	maxTogether = 128
	// maxParts is into how many steps the policies of one namespace are split.
	maxParts = 8
)

func objectsByKey(objects []*manifest.Object) map[state.Key]client.Object {
	out := make(map[state.Key]client.Object, len(objects))
	for _, o := range objects {
		out[state.KeyOf(o.Kind, o.Value)] = o.Value
	}
	return out
}
