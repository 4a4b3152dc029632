package effect

import (
	"context"
	"slices"

	"k8s.io/apimachinery/pkg/labels"
)

// findLint says what looks wrong with the changed policies that there are after the
// change, but for what only their rules together with others show. What it finds
// after the context has ended is left out.
func findLint(ctx context.Context, u *podModel, policies []*terms, now map[string]*terms) Lint {
	l := emptyLint()
	for _, t := range policies {
		if len(u.selectedGroups(t.subject)) == 0 {
			l.SelectsNothing = true
		}
		for _, p := range t.peers {
			if ctx.Err() == nil && p.ref != (Ref{}) && len(u.selectedGroups(p)) == 0 {
				l.DeadPeers = append(l.DeadPeers, p.ref)
			}
		}
		for _, n := range t.ports {
			if ctx.Err() != nil {
				break
			}
			if destinations := u.portDestinations(t, n); len(destinations) > 0 && !slices.ContainsFunc(destinations, n.isPortOf) {
				l.NamedPortsUnresolved = append(l.NamedPortsUnresolved, n.ref)
			}
		}
	}
	u.addPriorityTies(ctx, &l, policies, now)
	return l
}

// portDestinations are the groups that a rule's port name is looked up in.
func (u *podModel) portDestinations(t *terms, n namedPort) []*podGroup {
	switch {
	case directionOf[n.direction] == Ingress:
		return u.selectedGroups(t.subject)
	case len(n.peers) == 0:
		return u.selectedGroups(newSelection(Ref{}, everything, "", everything))
	}
	var out []*podGroup
	for _, p := range n.peers {
		out = append(out, u.selectedGroups(p)...)
	}
	return out
}

func (n namedPort) isPortOf(g *podGroup) bool {
	for _, p := range g.kinds[stateAfter].like.Ports {
		if p.Name == n.name && p.Protocol == n.protocol {
			return true
		}
	}
	return false
}

// selectedGroups are the groups of existing pods that a selection matches after the change.
func (u *podModel) selectedGroups(s selection) []*podGroup {
	return slices.DeleteFunc(u.matchingGroups(s), func(g *podGroup) bool { return g.pods == 0 })
}

// matchingGroups are the groups that a selection matches after the change.
func (u *podModel) matchingGroups(s selection) []*podGroup {
	if s.byPods == nil {
		return nil
	}
	var out []*podGroup
	for _, g := range u.groups {
		if k := g.kinds[stateAfter]; k != nil && s.covers(g.namespace.name, g.namespace.labelsIn(stateAfter)) && s.byPods.Matches(labels.Set(k.labels)) {
			out = append(out, g)
		}
	}
	return out
}
