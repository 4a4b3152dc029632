package effect

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
)

// Of is the effect of a change: the cluster as it is, and as it would be.
// Neither is changed.
//
// Pods that policies cannot tell apart are one group, and for each group, there
// or imagined from the selectors of the changed policies, one stand-in is put in
// the place of all pods. Both states are compiled with them, and the two programs
// asked what they allow. So a question about labels is answered by the same
// compiler as every other.
func Of(before, after *compile.Snapshot) Effect {
	snapshots := [2]*compile.Snapshot{before, after}
	old, now := termsOf(before), termsOf(after)
	networks := networksIn(slices.Concat(before.Nodes, after.Nodes), old, now)
	u := newUniverse(snapshots, podKeys(old, now), networks)
	difference := changed(old, now)
	imagine(u, difference)
	free := newAddresses(snapshots, networks)
	members := standIns(u.groups, free)
	c := newComparison(members)
	c.sides[was], c.sides[is] = newSide(was, before, u, members), newSide(is, after, u, members)
	c.spans = spans(c.sides[was].program, c.sides[is].program)
	c.networks = networksOf(networks, free.taken)
	return c.effect(u, difference, now)
}

func imagine(u *universe, policies []*terms) {
	var ports []compile.NamedPort
	for _, t := range policies {
		for _, p := range t.ports {
			ports = append(ports, compile.NamedPort{Name: p.name, Protocol: p.protocol, Port: anyNumber})
		}
	}
	for _, t := range policies {
		u.imagine(t.subject, ports)
		for _, p := range t.peers {
			u.imagine(p, ports)
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

func (c *comparison) effect(u *universe, difference []*terms, now map[string]*terms) Effect {
	e := Effect{Incomplete: u.incomplete, Lint: lint(u, present(difference, now))}
	names := portNames(difference)
	added := &rower{comparison: c, from: was, to: is, names: names}
	removed := &rower{comparison: c, from: is, to: was, names: names}
	if !added.collect() || !removed.collect() {
		return unknown(fmt.Sprintf("more than %d pairs of kinds of pods would have to be compared", maxPairs))
	}
	var cut [2]bool
	e.Added, cut[0] = fit(added.rows, MaxRows)
	e.Removed, cut[1] = fit(removed.rows, MaxRows)
	e.Truncated = cut[0] || cut[1]
	e.NewlyIsolated, e.NoLongerIsolated = c.isolations(was, is), c.isolations(is, was)
	e.Roles = byRoles(added.rows)
	e.Complete = len(e.Incomplete) == 0
	return e.withoutNil()
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

// isolations are the subjects that NetworkPolicies select at one moment and did not at the other.
func (c *comparison) isolations(from, to moment) []Isolation {
	var out []Isolation
	for _, d := range policy.Directions {
		for _, s := range c.members {
			if s.kinds[from] == nil || s.kinds[to] == nil {
				continue
			}
			if !isolated(c.sides[from].classes[s][d]) && isolated(c.sides[to].classes[s][d]) {
				out = append(out, Isolation{Direction: directionOf[d], Subject: c.describe(s, to)})
			}
		}
	}
	slices.SortFunc(out, func(a, b Isolation) int {
		if a.Direction != b.Direction {
			return compareText(string(a.Direction), string(b.Direction))
		}
		return comparePeers(a.Subject, b.Subject)
	})
	return out
}

func isolated(c *policy.Class) bool {
	return c != nil && slices.ContainsFunc(c.Tiers, func(t policy.Tier) bool { return t.Name == policy.NetworkPolicyTier })
}

// byRoles sums rows up by the roles of their sides.
func byRoles(rows []Row) Roles {
	added := map[string]map[string][]string{}
	for _, row := range rows {
		from, to := row.From.Role, row.To.Role
		if from == "" || to == "" || row.Direction == Egress && row.Blocked {
			continue
		}
		if added[from] == nil {
			added[from] = map[string][]string{}
		}
		ports := append(added[from][to], row.Ports...)
		slices.Sort(ports)
		added[from][to] = slices.Compact(ports)
	}
	return Roles{Added: added}
}

// unknown is the effect of a change that nothing is known of.
func unknown(why string) Effect {
	return Effect{Incomplete: []string{why}, Roles: Roles{Added: map[string]map[string][]string{}}, Lint: emptyLint()}.withoutNil()
}

func emptyLint() Lint {
	return Lint{DeadPeers: []Ref{}, NamedPortsUnresolved: []Ref{}, ShadowedBy: []Ref{}, RedundantWith: []Ref{}, PriorityTies: []Ref{}}
}

// withoutNil has an empty list where there would be none, as its JSON form must.
func (e Effect) withoutNil() Effect {
	e.Incomplete = append([]string{}, e.Incomplete...)
	e.Added, e.Removed = append([]Row{}, e.Added...), append([]Row{}, e.Removed...)
	e.NewlyIsolated = append([]Isolation{}, e.NewlyIsolated...)
	e.NoLongerIsolated = append([]Isolation{}, e.NoLongerIsolated...)
	return e
}
