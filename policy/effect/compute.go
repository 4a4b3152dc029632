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
	r := new(Calculator).readPolicies(before, after)
	difference := r.changed()
	e := computeEffect(ctx, r, difference, before, after)
	e.addNearMatches(changedPolicies(difference, r.now), after)
	return e
}

// computeEffect is the effect, where the policies are read and it is known which of them differ.
func computeEffect(ctx context.Context, r *reading, difference []*terms, before, after *compile.Snapshot) Effect {
	snapshots := [2]*compile.Snapshot{before, after}
	if ctx.Err() != nil {
		return unknownEffect(timeoutReason(ctx))
	}
	networks := mentionedNetworks(slices.Concat(before.Nodes, after.Nodes), r.old, r.now)
	u, err := newPodModel(ctx, snapshots, r.words, networks)
	if err != nil {
		return unknownEffect(timeoutReason(ctx))
	}
	mattering, hidden := u.relevantPolicies(ctx, snapshots, difference, r.old, r.now)
	addHypotheticalPods(ctx, u, mattering, hidden)
	if ctx.Err() != nil {
		return unknownEffect(timeoutReason(ctx))
	}
	free := newAddressPool(snapshots, networks)
	members := newRepresentatives(u.groups, free)
	compilers := newStateCompilers(snapshots, u, members)
	var sides [2]*compiledState
	for m, all := range [...]map[string]*terms{r.old, r.now} {
		if sides[m], err = compilers[m].compileState(ctx, maps.Values(all)); err != nil {
			return unknownEffect(timeoutReason(ctx))
		}
	}
	policies := changedPolicies(difference, r.now)
	lones, err := compileIsolated(ctx, policies, compilers[stateAfter])
	if err != nil {
		return unknownEffect(timeoutReason(ctx))
	}
	c := newComparison(ctx, members, sides, lones)
	c.names, c.networks = portNames(append(mattering, hidden...)), networkTree(networks, free.taken)
	e := c.assembleEffect(u)
	if e.Lint = findLint(ctx, u, policies, r.now); c.canContinue() {
		c.addShadowedRules(&e.Lint, lones)
	}
	return e.withoutNil()
}

// addHypotheticalPods adds the pods that could exist and would matter: those of the policies, and peers of those that they hid.
func addHypotheticalPods(ctx context.Context, u *podModel, policies, hidden []*terms) {
	var ports []compile.NamedPort
	for _, t := range slices.Concat(policies, hidden) {
		for _, p := range t.ports {
			ports = append(ports, compile.NamedPort{Name: p.name, Protocol: p.protocol, Port: unknownPort})
		}
	}
	for _, t := range policies {
		u.addHypothetical(ctx, t.subject, ports)
		for _, p := range t.peers {
			u.addHypothetical(ctx, p, ports)
		}
	}
	for _, t := range hidden {
		for _, p := range t.peers {
			u.addHypothetical(ctx, p, ports)
		}
	}
}

// mentionedNetworks are the networks that policies mention, and the nodes' addresses.
func mentionedNetworks(nodes []*compile.Node, all ...map[string]*terms) []netip.Prefix {
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

func (c *comparison) assembleEffect(u *podModel) Effect {
	e := Effect{Incomplete: u.incomplete}
	added, removed := newRowCollector(c, stateBefore, stateAfter), newRowCollector(c, stateAfter, stateBefore)
	added.collectRows()
	removed.collectRows()
	var cut [2]bool
	e.NewlyIsolated, cut[0] = c.isolationChanges(stateBefore, stateAfter)
	e.NoLongerIsolated, cut[1] = c.isolationChanges(stateAfter, stateBefore)
	if !c.canContinue() {
		return unknownEffect(append(u.incomplete, c.stopped+u.vocabulary.mostDistinctLabel(u.groups))...)
	}
	e.Added, e.Removed = added.rows.sortedRows(), removed.rows.sortedRows()
	e.Truncated = added.rows.truncated || removed.rows.truncated || cut[0] || cut[1]
	e.Roles = added.roles.toRoles()
	e.Complete = len(e.Incomplete) == 0
	return e
}

// changedPolicies are the terms of the policies that there are after the change.
func changedPolicies(difference []*terms, now map[string]*terms) []*terms {
	var out []*terms
	for _, t := range difference {
		if now[t.id.Object()] == t {
			out = append(out, t)
		}
	}
	return out
}

// isolationChanges are the subjects that NetworkPolicies select at one moment and did
// not at the other, merged and cut off as rows are.
func (c *comparison) isolationChanges(from, to state) (out []Isolation, truncated bool) {
	type key struct {
		direction policy.Direction
		sideKey
	}
	merged := map[key]int{}
	var coarse []Isolation
	for _, d := range policy.Directions {
		for _, s := range c.members {
			if s.kinds[from] == nil || s.kinds[to] == nil || isIsolated(c.compiled[from].classes[s][d]) || !isIsolated(c.compiled[to].classes[s][d]) {
				continue
			}
			one := Isolation{Direction: directionOf[d], Subject: c.describePeer(s, to)}
			out = append(out, one)
			k := key{d, c.sideKey(s, to)}
			if i, ok := merged[k]; ok {
				coarse[i].Subject = commonPeer(coarse[i].Subject, one.Subject)
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

func isIsolated(c *policy.Class) bool {
	return c != nil && slices.ContainsFunc(c.Tiers, func(t policy.Tier) bool { return t.Name == policy.NetworkPolicyTier })
}

// unknownEffect is the effect of a change that nothing is known of.
func unknownEffect(why ...string) Effect {
	return Effect{Incomplete: why, Roles: Roles{Added: map[string]map[string][]string{}}, Lint: emptyLint()}.withoutNil()
}

// emptyEffect is the effect of a change that is known to do nothing.
func emptyEffect() Effect {
	e := unknownEffect()
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
