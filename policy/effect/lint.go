package effect

import (
	"context"
	"slices"

	"github.com/tierwall/tierwall/policy/compile"
)

// findLint returns what looks wrong with the changed policies by their selectors. Shadowed rules are found
// separately. It may miss findings once the context has ended.
func findLint(ctx context.Context, model *podModel, policies []*terms, now map[string]*terms) Lint {
	l := emptyLint()
	for _, t := range policies {
		if len(model.selectedGroups(t.subject)) == 0 {
			l.SelectsNothing = true
		}
		for _, p := range t.peers {
			if ctx.Err() == nil && p.ref != (Ref{}) && len(model.selectedGroups(p)) == 0 {
				l.DeadPeers = append(l.DeadPeers, p.ref)
			}
		}
		for _, n := range t.ports {
			if ctx.Err() != nil {
				break
			}
			if destinations := model.portDestinations(t, n); len(destinations) > 0 && !slices.ContainsFunc(destinations, n.isPortOf) {
				l.NamedPortsUnresolved = append(l.NamedPortsUnresolved, n.ref)
			}
		}
	}
	model.addPriorityTies(ctx, &l, policies, now)
	return l
}

// addPriorityTies adds the ClusterNetworkPolicies with the tier and priority of a changed one and some of its pods.
// Their names decide the order, which the API does not define.
func (model *podModel) addPriorityTies(ctx context.Context, l *Lint, policies []*terms, now map[string]*terms) {
	for _, t := range policies {
		if t.id.Kind != compile.ClusterNetworkPolicyKind {
			continue
		}
		var mine map[*podGroup]bool
		for _, o := range now {
			if ctx.Err() != nil || o == t || o.id.Kind != t.id.Kind || o.tier != t.tier || o.priority != t.priority {
				continue
			}
			if mine == nil {
				mine = model.subjectGroups(t)
			}
			for g := range model.subjectGroups(o) {
				if mine[g] {
					l.PriorityTies = append(l.PriorityTies, Ref{Policy: t.id.Object(), Rule: "/spec/priority", By: o.id.Object()})
					break
				}
			}
		}
	}
	slices.SortFunc(l.PriorityTies, compareRefs)
}
