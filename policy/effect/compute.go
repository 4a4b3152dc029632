package effect

import (
	"context"
	"maps"
	"slices"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
)

// computeEffect computes the effect of a change whose policies were read and compared.
func computeEffect(ctx context.Context, r *policyChange, changed []*terms, before, after *compile.Snapshot) Effect {
	snapshots := [2]*compile.Snapshot{before, after}
	if ctx.Err() != nil {
		return unknownEffect(timeoutReason(ctx))
	}
	networks := mentionedNetworks(slices.Concat(before.Nodes, after.Nodes), r.old, r.now)
	model, err := newPodModel(ctx, snapshots, r.vocabulary, networks)
	if err != nil {
		return unknownEffect(timeoutReason(ctx))
	}
	relevant, hidden := model.relevantPolicies(ctx, snapshots, changed, r.old, r.now)
	addHypotheticalPods(ctx, model, relevant, hidden)
	if ctx.Err() != nil {
		return unknownEffect(timeoutReason(ctx))
	}
	pool := newAddressPool(snapshots, networks)
	members := newRepresentatives(model.groups, pool)
	compilers := newStateCompilers(snapshots, model, members)
	var compiled [2]*compiledState
	for m, all := range [...]map[string]*terms{r.old, r.now} {
		if compiled[m], err = compilers[m].compileState(ctx, maps.Values(all)); err != nil {
			return unknownEffect(timeoutReason(ctx))
		}
	}
	policies := changedPolicies(changed, r.now)
	isolated, err := compileIsolated(ctx, policies, compilers[stateAfter])
	if err != nil {
		return unknownEffect(timeoutReason(ctx))
	}
	programs := []*policy.Program{compiled[stateBefore].program, compiled[stateAfter].program}
	for _, p := range isolated {
		programs = append(programs, p.program)
	}
	c := newComparison(newClassEvaluator(ctx, programs...), members, compiled)
	c.names, c.networks = portNames(append(relevant, hidden...)), networkTree(networks, pool.taken)
	e := c.assembleEffect(model)
	if e.Lint = findLint(ctx, model, policies, r.now); c.canContinue() {
		c.addShadowedRules(&e.Lint, isolated)
	}
	return e.withoutNil()
}

func (c *comparison) assembleEffect(model *podModel) Effect {
	e := Effect{Incomplete: model.incomplete}
	added, removed := newRowCollector(c, stateBefore, stateAfter), newRowCollector(c, stateAfter, stateBefore)
	added.collectRows()
	removed.collectRows()
	var cut [2]bool
	e.NewlyIsolated, cut[0] = c.isolationChanges(stateBefore, stateAfter)
	e.NoLongerIsolated, cut[1] = c.isolationChanges(stateAfter, stateBefore)
	if !c.canContinue() {
		return unknownEffect(append(model.incomplete, c.stopped+model.vocabulary.mostDistinctLabel(model.groups))...)
	}
	e.Added, e.Removed = added.rows.sortedRows(), removed.rows.sortedRows()
	e.Truncated = added.rows.truncated || removed.rows.truncated || cut[0] || cut[1]
	e.Roles = added.roles.toRoles()
	e.Complete = len(e.Incomplete) == 0
	return e
}
