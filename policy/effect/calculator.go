package effect

import (
	"context"

	"github.com/tierwall/tierwall/policy/compile"
)

// Compute returns the effect of a change from one snapshot to another. Neither snapshot is modified.
//
// Pods that no policy can tell apart form a group. Groups of existing pods and of hypothetical ones, as selectors of
// the relevant policies describe them, are each represented by one pod. Both states are compiled with the
// representatives, and the two programs are evaluated and compared. So the compiler that the enforcement uses
// interprets every selector.
//
// The effect is not complete if the context ends first.
func Compute(ctx context.Context, before, after *compile.Snapshot) Effect {
	r := new(policyReader).readPolicies(before, after)
	changed := r.changedTerms()
	e := computeEffect(ctx, r, changed, before, after)
	e.addNearMatches(changedPolicies(changed, r.now), after)
	return e
}

// Calculator computes the effects of many changes of one cluster. It caches what was read of policies. For a change of
// NetworkPolicies, or of one pod's labels, it looks only at the part of the cluster that the change can affect. Results
// do not depend on earlier calls. It is safe for concurrent use; objects and lists of snapshots must not be modified.
type Calculator struct {
	reader policyReader
}

// Compute returns the same flows as the function Compute. Its rows may be fewer, because networks that are irrelevant
// to the change do not split them.
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
	part := r
	if narrow {
		part = &policyChange{vocabulary: r.vocabulary, old: policiesIn(r.old, b), now: policiesIn(r.now, a)}
	} else {
		b, a = before, after
	}
	e := computeEffect(ctx, part, changed, b, a)
	e.addNearMatches(changedPolicies(changed, r.now), after)
	return e
}
