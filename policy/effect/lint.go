package effect

import (
	"context"
	"slices"

	"k8s.io/apimachinery/pkg/labels"
)

// lint says what looks wrong with the changed policies that there are after the
// change, but for what only their rules together with others show. What it finds
// after the context has ended is left out.
func lint(ctx context.Context, u *universe, policies []*terms, now map[string]*terms) Lint {
	l := emptyLint()
	for _, t := range policies {
		if len(u.selected(t.subject)) == 0 {
			l.SelectsNothing = true
		}
		for _, p := range t.peers {
			if ctx.Err() == nil && p.ref != (Ref{}) && len(u.selected(p)) == 0 {
				l.DeadPeers = append(l.DeadPeers, p.ref)
			}
		}
		for _, n := range t.ports {
			if ctx.Err() != nil {
				break
			}
			if destinations := u.destinations(t, n); len(destinations) > 0 && !slices.ContainsFunc(destinations, n.has) {
				l.NamedPortsUnresolved = append(l.NamedPortsUnresolved, n.ref)
			}
		}
	}
	u.ties(ctx, &l, policies, now)
	return l
}

// destinations are the groups that a rule's port name is looked up in.
func (u *universe) destinations(t *terms, n namedPort) []*group {
	switch {
	case directionOf[n.direction] == Ingress:
		return u.selected(t.subject)
	case len(n.peers) == 0:
		return u.selected(newSelection(Ref{}, everything, "", everything))
	}
	var out []*group
	for _, p := range n.peers {
		out = append(out, u.selected(p)...)
	}
	return out
}

func (n namedPort) has(g *group) bool {
	for _, p := range g.kinds[is].like.Ports {
		if p.Name == n.name && p.Protocol == n.protocol {
			return true
		}
	}
	return false
}

// selected are the groups of existing pods that a selection matches after the change.
func (u *universe) selected(s selection) []*group {
	return slices.DeleteFunc(u.matched(s), func(g *group) bool { return g.pods == 0 })
}

// matched are the groups that a selection matches after the change.
func (u *universe) matched(s selection) []*group {
	if s.byPods == nil {
		return nil
	}
	var out []*group
	for _, g := range u.groups {
		if k := g.kinds[is]; k != nil && s.covers(g.namespace.name, g.namespace.seen(is)) && s.byPods.Matches(labels.Set(k.labels)) {
			out = append(out, g)
		}
	}
	return out
}
