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
	policies []*manifest.Object
	before   state.State
	after    *compile.Snapshot
	effect   effect.Effect
}

// stepsOf applies the policies at once, so that what counts is what is there in
// the end. Only where they open more than can be computed or listed are they
// applied in several steps, those of the cluster first and namespaces together.
// Each step is exact, and what is open in the end was opened in one of them.
func stepsOf(ctx context.Context, before state.State, policies []*manifest.Object, d policy.Defaults) ([]step, error) {
	policies = slices.SortedStableFunc(slices.Values(policies), func(a, b *manifest.Object) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Namespace, b.Namespace))
	})
	steps, _, err := split(ctx, before, before.Snapshot(d), policies, d)
	return steps, err
}

func split(ctx context.Context, before state.State, was *compile.Snapshot, policies []*manifest.Object, d policy.Defaults) ([]step, *compile.Snapshot, error) {
	if len(policies) == 0 {
		return nil, was, nil
	}
	after := before.With(values(policies))
	is := after.Snapshot(d)
	e := effect.Compute(ctx, was, is)
	err := timeOver(ctx)
	if err != nil {
		return nil, nil, err
	}
	if len(policies) == 1 || e.Complete && !e.Truncated {
		return []step{{policies, before, is, e}}, is, nil
	}
	var steps []step
	for part := range slices.Chunk(policies, (len(policies)+maxParts-1)/maxParts) {
		var found []step
		if found, was, err = split(ctx, before, was, part, d); err != nil {
			return nil, nil, err
		}
		steps, before = append(steps, found...), before.With(values(part))
	}
	return steps, was, nil
}

// maxParts is into how many steps one is split.
const maxParts = 8

func values(objects []*manifest.Object) map[state.Key]client.Object {
	out := make(map[state.Key]client.Object, len(objects))
	for _, o := range objects {
		out[state.KeyOf(o.Kind, o.Value)] = o.Value
	}
	return out
}
