package effect

import (
	"context"

	"github.com/tierwall/tierwall/policy/compile"
)

// Compute is the effect of a change: the cluster as it is, and as it would be.
// Neither is changed.
//
// Pods that policies cannot tell apart are one group, and for each group, there
// or imagined from the selectors of the policies that matter to the change, one
// stand-in is put in the place of all pods. Both states are compiled with them, and the two programs
// asked what they allow. So a question about labels is answered by the same
// compiler as every other.
//
// When the context ends, the effect is not complete.
func Compute(ctx context.Context, before, after *compile.Snapshot) Effect {
	r := new(policyReader).readPolicies(before, after)
	changed := r.changedTerms()
	e := computeEffect(ctx, r, changed, before, after)
	e.addNearMatches(changedPolicies(changed, r.now), after)
	return e
}

// Calculator remembers what was read of policies, for the effects of many changes of one
// cluster, and computes that of a single NetworkPolicy, or of the labels of a single pod, from the
// part of the cluster that it can concern. What Of says does not depend on what was asked before. It is safe
// for concurrent use; objects and lists of snapshots must not be changed.
type Calculator struct {
	reader policyReader
}

// Compute is the effect of a change, as the function Of says it: the same flows, though
// networks that have nothing to do with the change do not cut its rows.
func (m *Calculator) Compute(ctx context.Context, before, after *compile.Snapshot) Effect {
	only := onlyNetworkPolicies(before, after)
	if only && sameList(before.NetworkPolicies, after.NetworkPolicies) {
		return emptyEffect()
	}
	r := m.reader.readPolicies(before, after)
	changed := r.changedTerms()
	if only && len(changed) == 0 {
		return emptyEffect()
	}
	var b, a *compile.Snapshot
	narrow := false
	if only {
		b, a, narrow = narrowToPolicies(before, after, changed, r.now)
	} else {
		b, a, narrow = narrowToPod(before, after, r.now)
	}
	if narrow {
		part := &policyChange{vocabulary: r.vocabulary, old: policiesIn(r.old, b), now: policiesIn(r.now, a)}
		e := computeEffect(ctx, part, changed, b, a)
		e.addNearMatches(changedPolicies(changed, r.now), after)
		return e
	}
	e := computeEffect(ctx, r, changed, before, after)
	e.addNearMatches(changedPolicies(changed, r.now), after)
	return e
}
