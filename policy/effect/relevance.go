package effect

import (
	"context"
	"maps"
	"slices"

	apiequality "k8s.io/apimachinery/pkg/api/equality"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/policy/compile"
)

// relevantPolicies returns the policies whose selectors describe the hypothetical pods that are relevant to a change.
// Those are the changed policies, and the policies that distinguish what else changed. Hidden are the policies whose
// rules any of these can keep from deciding.
func (model *podModel) relevantPolicies(ctx context.Context, snapshots [2]*compile.Snapshot, difference []*terms, old, now map[string]*terms) (out, hidden []*terms) {
	out = slices.Clone(difference)
	known := map[*terms]bool{}
	for _, t := range difference {
		known[t] = true
	}
	add := func(to *[]*terms, wanted func(*terms) bool) {
		var found []*terms
		for name, t := range now {
			if before := old[name]; ctx.Err() == nil && !known[t] && !known[before] && wanted(t) {
				known[t] = true
				found = append(found, t)
			}
		}
		slices.SortFunc(found, func(a, b *terms) int { return compareText(a.name, b.name) })
		*to = append(*to, found...)
	}
	w := model.findOtherChanges(snapshots)
	if !w.isEmpty() {
		add(&out, w.areRelevantTo)
	}
	exceeded := exceededNamespaces(snapshots[stateBefore], out, w.groups)
	add(&out, func(t *terms) bool { return t.id.Kind == compile.NetworkPolicyKind && exceeded[t.id.Namespace] })
	var reached [][]*namespace // of the subjects
	for _, t := range out {
		reached = append(reached, model.matchingNamespaces(t.subject))
	}
	add(&hidden, func(t *terms) bool {
		for i, cover := range out {
			if cover.canHide(t) && slices.ContainsFunc(reached[i], t.subject.mayBeIn) {
				return true
			}
		}
		return false
	})
	return out, hidden
}

// exceededNamespaces returns the affected namespaces that may exceed a budget before the change. It may bring any of their
// policies into force.
func exceededNamespaces(before *compile.Snapshot, policies []*terms, groups []*podGroup) map[string]bool {
	affected := map[string]bool{}
	for _, t := range policies {
		if t.id.Kind == compile.NetworkPolicyKind {
			affected[t.id.Namespace] = true
		}
	}
	for _, g := range groups {
		affected[g.namespace.name] = true
	}
	maps.DeleteFunc(affected, func(namespace string, _ bool) bool { return isWithinBudgets(before, namespace) })
	return affected
}

// otherChanges holds what changed besides policies, as selectors see it.
type otherChanges struct {
	namespaces []*namespace
	groups     []*podGroup
	// reboundNamespaces are the namespaces whose pods may have other roles.
	reboundNamespaces []*namespace
}

func (w *otherChanges) isEmpty() bool {
	return len(w.namespaces)+len(w.groups)+len(w.reboundNamespaces) == 0
}

func (model *podModel) findOtherChanges(snapshots [2]*compile.Snapshot) *otherChanges {
	w := &otherChanges{}
	bound := changedBindings(snapshots)
	for _, n := range model.namespaces {
		if !apiequality.Semantic.DeepEqual(n.labels[stateBefore], n.labels[stateAfter]) {
			w.namespaces = append(w.namespaces, n)
		}
		if bound[n.name] {
			w.reboundNamespaces = append(w.reboundNamespaces, n)
		}
	}
	for _, g := range model.groups {
		if g.kinds[stateBefore] != nil && g.kinds[stateAfter] != nil && !apiequality.Semantic.DeepEqual(g.kinds[stateBefore].labels, g.kinds[stateAfter].labels) {
			w.groups = append(w.groups, g)
		}
	}
	return w
}

// changedBindings returns the namespaces of TierRoles that were added, removed or changed.
func changedBindings(snapshots [2]*compile.Snapshot) map[string]bool {
	var byName [2]map[string]*v1alpha1.TierRole
	for _, m := range bothStates {
		byName[m] = map[string]*v1alpha1.TierRole{}
		for _, tr := range snapshots[m].TierRoles {
			byName[m][tr.Name] = tr
		}
	}
	out := map[string]bool{}
	for _, m := range bothStates {
		for name, tr := range byName[m] {
			if other := byName[1-m][name]; other == tr || other != nil && apiequality.Semantic.DeepEqual(other.Spec, tr.Spec) {
				continue
			}
			for _, n := range tr.Spec.Namespaces {
				out[n] = true
			}
		}
	}
	return out
}

// areRelevantTo reports whether a selector of the policy can distinguish the state before from the state after.
func (w *otherChanges) areRelevantTo(t *terms) bool {
	return w.distinguishedBy(t.subject) || slices.ContainsFunc(t.peers, w.distinguishedBy)
}

func (w *otherChanges) distinguishedBy(s selection) bool {
	for _, n := range w.namespaces {
		if distinguishes(s.namespaces, n.labelsIn(stateBefore), n.labelsIn(stateAfter)) {
			return true
		}
	}
	for _, g := range w.groups {
		if distinguishes(s.pods, g.kinds[stateBefore].labels, g.kinds[stateAfter].labels) && s.mayBeIn(g.namespace) {
			return true
		}
	}
	return mentionsKey(s.pods, roleLabel) && slices.ContainsFunc(w.reboundNamespaces, s.mayBeIn)
}
