package effect

import (
	"cmp"
	"context"
	"maps"
	"net/netip"
	"slices"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
)

// Of is the effect of a change: the cluster as it is, and as it would be.
// Neither is changed.
//
// Pods that policies cannot tell apart are one group, and for each group, there
// or imagined from the selectors of the policies that matter to the change, one
// stand-in is put in the place of all pods. Both states are compiled with them, and the two programs
// asked what they allow. So a question about labels is answered by the same
// compiler as every other.
//
// When the context ends, the effect is not complete.
func Of(ctx context.Context, before, after *compile.Snapshot) Effect {
	r := new(Memory).reading(before, after)
	difference := r.changed()
	e := of(ctx, r, difference, before, after)
	e.addNearMatches(present(difference, r.now), after)
	return e
}

// of is the effect, where the policies are read and it is known which of them differ.
func of(ctx context.Context, r *reading, difference []*terms, before, after *compile.Snapshot) Effect {
	snapshots := [2]*compile.Snapshot{before, after}
	if ctx.Err() != nil {
		return unknown(outOfTime(ctx))
	}
	networks := networksIn(slices.Concat(before.Nodes, after.Nodes), r.old, r.now)
	u, err := newUniverse(ctx, snapshots, r.words, networks)
	if err != nil {
		return unknown(outOfTime(ctx))
	}
	mattering, hidden := u.mattering(ctx, snapshots, difference, r.old, r.now)
	imagine(ctx, u, mattering, hidden)
	if ctx.Err() != nil {
		return unknown(outOfTime(ctx))
	}
	free := newAddresses(snapshots, networks)
	members := standIns(u.groups, free)
	compilers := newCompilers(snapshots, u, members)
	var sides [2]*side
	for m, all := range [...]map[string]*terms{r.old, r.now} {
		if sides[m], err = compilers[m].side(ctx, maps.Values(all)); err != nil {
			return unknown(outOfTime(ctx))
		}
	}
	policies := present(difference, r.now)
	lones, err := alone(ctx, policies, compilers[is])
	if err != nil {
		return unknown(outOfTime(ctx))
	}
	c := newComparison(ctx, members, sides, lones)
	c.names, c.networks = portNames(append(mattering, hidden...)), networksOf(networks, free.taken)
	e := c.effect(u)
	if e.Lint = lint(ctx, u, policies, r.now); c.goesOn() {
		c.shadows(&e.Lint, lones)
	}
	return e.withoutNil()
}

// imagine adds the pods that could exist and would matter: those of the policies, and peers of those that they hid.
func imagine(ctx context.Context, u *universe, policies, hidden []*terms) {
	var ports []compile.NamedPort
	for _, t := range slices.Concat(policies, hidden) {
		for _, p := range t.ports {
			ports = append(ports, compile.NamedPort{Name: p.name, Protocol: p.protocol, Port: anyNumber})
		}
	}
	for _, t := range policies {
		u.imagine(ctx, t.subject, ports)
		for _, p := range t.peers {
			u.imagine(ctx, p, ports)
		}
	}
	for _, t := range hidden {
		for _, p := range t.peers {
			u.imagine(ctx, p, ports)
		}
	}
}

// networksIn are the networks that policies mention, and the nodes' addresses.
func networksIn(nodes []*compile.Node, all ...map[string]*terms) []netip.Prefix {
	var out []netip.Prefix
	for _, n := range nodes {
		for _, a := range n.Addrs {
			out = append(out, netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()))
		}
	}
	for _, ts := range all {
		for _, t := range ts {
			out = append(out, t.networks...)
		}
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return slices.Compact(out)
}

func (c *comparison) effect(u *universe) Effect {
	e := Effect{Incomplete: u.incomplete}
	added, removed := newRower(c, was, is), newRower(c, is, was)
	added.collect()
	removed.collect()
	var cut [2]bool
	e.NewlyIsolated, cut[0] = c.isolations(was, is)
	e.NoLongerIsolated, cut[1] = c.isolations(is, was)
	if !c.goesOn() {
		return unknown(append(u.incomplete, c.stopped+u.vocabulary.atFault(u.groups))...)
	}
	e.Added, e.Removed = added.rows.sorted(), removed.rows.sorted()
	e.Truncated = added.rows.truncated || removed.rows.truncated || cut[0] || cut[1]
	e.Roles = added.roles.summary()
	e.Complete = len(e.Incomplete) == 0
	return e
}

// present are the terms of the policies that there are after the change.
func present(difference []*terms, now map[string]*terms) []*terms {
	var out []*terms
	for _, t := range difference {
		if now[t.id.Object()] == t {
			out = append(out, t)
		}
	}
	return out
}

// isolations are the subjects that NetworkPolicies select at one moment and did
// not at the other, merged and cut off as rows are.
func (c *comparison) isolations(from, to moment) (out []Isolation, truncated bool) {
	type key struct {
		direction policy.Direction
		sideKey
	}
	merged := map[key]int{}
	var coarse []Isolation
	for _, d := range policy.Directions {
		for _, s := range c.members {
			if s.kinds[from] == nil || s.kinds[to] == nil || isolated(c.sides[from].classes[s][d]) || !isolated(c.sides[to].classes[s][d]) {
				continue
			}
			one := Isolation{Direction: directionOf[d], Subject: c.describe(s, to)}
			out = append(out, one)
			k := key{d, c.sideKey(s, to)}
			if i, ok := merged[k]; ok {
				coarse[i].Subject = common(coarse[i].Subject, one.Subject)
				continue
			}
			merged[k] = len(coarse)
			coarse = append(coarse, one)
		}
	}
	if len(out) > MaxRows {
		out = coarse
	}
	if len(out) > MaxRows {
		out, truncated = out[:MaxRows], true
	}
	slices.SortFunc(out, compareIsolations)
	return out, truncated
}

func compareIsolations(a, b Isolation) int {
	return cmp.Or(compareText(string(a.Direction), string(b.Direction)), comparePeers(&a.Subject, &b.Subject))
}

func isolated(c *policy.Class) bool {
	return c != nil && slices.ContainsFunc(c.Tiers, func(t policy.Tier) bool { return t.Name == policy.NetworkPolicyTier })
}

// unknown is the effect of a change that nothing is known of.
func unknown(why ...string) Effect {
	return Effect{Incomplete: why, Roles: Roles{Added: map[string]map[string][]string{}}, Lint: emptyLint()}.withoutNil()
}

// known is the effect of a change that is known to do nothing.
func known() Effect {
	e := unknown()
	e.Complete = true
	return e
}

func emptyLint() Lint {
	return Lint{DeadPeers: []Ref{}, NearMatches: []NearMatch{}, NamedPortsUnresolved: []Ref{}, ShadowedBy: []Ref{}, RedundantWith: []Ref{}, PriorityTies: []Ref{}}
}

// withoutNil has an empty list where there would be none, as its JSON form must.
func (e Effect) withoutNil() Effect {
	e.Incomplete = append([]string{}, e.Incomplete...)
	e.Added, e.Removed = append([]Row{}, e.Added...), append([]Row{}, e.Removed...)
	e.NewlyIsolated = append([]Isolation{}, e.NewlyIsolated...)
	e.NoLongerIsolated = append([]Isolation{}, e.NoLongerIsolated...)
	return e
}
