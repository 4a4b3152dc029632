package effect

import (
	"context"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"sync"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/labels"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/policy/roles"
)

// Memory remembers what was read of policies, for the effects of many changes of one
// cluster, and computes that of a single NetworkPolicy, or of the labels of a single pod, from the
// part of the cluster that it can concern. What Of says does not depend on what was asked before. It is safe
// for concurrent use; objects of snapshots must not be changed.
type Memory struct {
	mu              sync.Mutex
	compiler        *compile.Reader // replaced together with what follows
	networkPolicies map[*networkingv1.NetworkPolicy]*terms
	clusterPolicies map[*policyv1alpha2.ClusterNetworkPolicy]*terms
	// words is the vocabulary of these policies.
	words   *vocabulary
	wordsOf map[*terms]bool
}

// Of is the effect of a change, as the function Of says it: the same flows, though
// networks that have nothing to do with the change do not cut its rows.
func (m *Memory) Of(ctx context.Context, before, after *compile.Snapshot) Effect {
	if onlyNetworkPolicies(before, after) && sameList(before.NetworkPolicies, after.NetworkPolicies) {
		return known()
	}
	old, now := m.read(before), m.read(after)
	var difference []*terms
	if onlyNetworkPolicies(before, after) {
		if difference = changed(old, now); len(difference) == 0 {
			return known()
		}
	}
	v, reader := m.vocabulary(old, now), m.reader()
	b, a, ok := narrowed(before, after, difference, now)
	if !ok {
		b, a, ok = relabelled(before, after, now)
	}
	if ok {
		return of(ctx, reader, b, a, within(old, b), within(now, a), v)
	}
	return of(ctx, reader, before, after, old, now, v)
}

// read are the terms of all policies of a snapshot. Those of policies that are no
// longer there are forgotten.
func (m *Memory) read(s *compile.Snapshot) map[string]*terms {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.networkPolicies == nil || len(m.networkPolicies) > 2*len(s.NetworkPolicies)+100 || len(m.clusterPolicies) > 2*len(s.ClusterNetworkPolicies)+100 {
		m.compiler = compile.NewReader()
		m.networkPolicies, m.clusterPolicies = map[*networkingv1.NetworkPolicy]*terms{}, map[*policyv1alpha2.ClusterNetworkPolicy]*terms{}
	}
	out := make(map[string]*terms, len(s.NetworkPolicies)+len(s.ClusterNetworkPolicies))
	for _, np := range s.NetworkPolicies {
		t := m.networkPolicies[np]
		if t == nil {
			t = networkPolicyTerms(np)
			m.networkPolicies[np] = t
		}
		out[t.object] = t
	}
	for _, cnp := range s.ClusterNetworkPolicies {
		t := m.clusterPolicies[cnp]
		if t == nil {
			t = clusterPolicyTerms(cnp)
			m.clusterPolicies[cnp] = t
		}
		out[t.object] = t
	}
	return out
}

func (m *Memory) reader() *compile.Reader {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.compiler
}

// vocabulary is that of the policies before and after the change. That of before is remembered.
func (m *Memory) vocabulary(old, now map[string]*terms) *vocabulary {
	m.mu.Lock()
	defer m.mu.Unlock()
	known := m.words != nil && len(old) == len(m.wordsOf)
	var more []*terms
	for _, t := range old {
		known = known && m.wordsOf[t]
	}
	if !known {
		m.words, m.wordsOf = vocabularyOf(old), make(map[*terms]bool, len(old))
		for _, t := range old {
			m.wordsOf[t] = true
		}
	}
	for _, t := range now {
		if !m.wordsOf[t] {
			more = append(more, t)
		}
	}
	return m.words.with(more)
}

// within are the terms of the policies that a narrower snapshot has.
func within(all map[string]*terms, s *compile.Snapshot) map[string]*terms {
	namespaces := map[string]bool{"": true}
	for _, n := range s.Namespaces {
		namespaces[n.Name] = true
	}
	out := map[string]*terms{}
	for name, t := range all {
		if namespaces[t.id.Namespace] {
			out[name] = t
		}
	}
	return out
}

// narrowed is the part of two snapshots that a change of NetworkPolicies of one
// namespace can concern: that namespace, the pods that the policies' peers match, what
// the policies hide in the Baseline tier, and the policies of these pods' namespaces. It
// is false where the change can concern others, or is of another kind, which has no difference.
func narrowed(before, after *compile.Snapshot, difference []*terms, now map[string]*terms) (b, a *compile.Snapshot, ok bool) {
	if len(difference) == 0 {
		return nil, nil, false
	}
	home := difference[0].id.Namespace
	for _, t := range difference {
		if t.id.Namespace != home || t.id.Kind != compile.NetworkPolicyKind {
			return nil, nil, false
		}
	}
	// Elsewhere than by Deny, the end of isolation lets everybody in.
	if before.Defaults.For(home) != policy.Deny {
		return nil, nil, false
	}
	for _, t := range now {
		if t.baseline && !slices.Contains(difference, t) {
			difference = append(difference, t)
		}
	}
	if slices.ContainsFunc(difference, func(t *terms) bool { return t.reachesPodsBy(before.Nodes) }) {
		return nil, nil, false
	}
	n := newNarrowing(map[string]bool{home: true}, before, difference)
	return n.of(before), n.of(after), true
}

// relabelled is the part of two snapshots that a change of one pod's labels can concern: its
// namespace, and those of the NetworkPolicies that tell the labels apart, with the pods that these
// match. It is false where others may be concerned, or the change is another.
func relabelled(before, after *compile.Snapshot, now map[string]*terms) (b, a *compile.Snapshot, ok bool) {
	was, is := onePod(before, after)
	if was == nil || before.Defaults.For(was.Namespace) != policy.Deny {
		return nil, nil, false
	}
	known := roles.New(before.TierRoles)
	role := known.Of(was.Namespace, was.ServiceAccount, was.Labels)
	if role.Role != known.Of(is.Namespace, is.ServiceAccount, is.Labels).Role {
		return nil, nil, false
	}
	from, to := role.Apply(was.Labels), role.Apply(is.Labels)
	homes, concerned := map[string]bool{was.Namespace: true}, []*terms{}
	for _, t := range now {
		telling := tells(t.subject.pods, from, to)
		told := telling || slices.ContainsFunc(t.peers, func(s selection) bool { return tells(s.pods, from, to) })
		switch {
		case told && (t.id.Kind != compile.NetworkPolicyKind || telling && t.reachesPodsBy(before.Nodes)), t.baseline && t.reachesPodsBy(before.Nodes):
			return nil, nil, false
		case told:
			homes[t.id.Namespace] = true
			concerned = append(concerned, t)
		case t.baseline:
			concerned = append(concerned, t)
		}
	}
	n := newNarrowing(homes, before, concerned)
	b, a = n.of(before), n.of(after)
	a.Pods = slices.Clone(b.Pods)
	a.Pods[slices.Index(a.Pods, was)] = is
	return b, a, true
}

// onePod is the one pod in which two snapshots differ, by its labels alone, as it was and as it is.
func onePod(before, after *compile.Snapshot) (was, is *compile.Pod) {
	if len(before.Pods) != len(after.Pods) || !sameElements(before.NetworkPolicies, after.NetworkPolicies) || !sameList(before.Namespaces, after.Namespaces) ||
		!sameList(before.Nodes, after.Nodes) || !sameList(before.TierRoles, after.TierRoles) || !sameList(before.ClusterNetworkPolicies, after.ClusterNetworkPolicies) {
		return nil, nil
	}
	for i, p := range before.Pods {
		if q := after.Pods[i]; p != q {
			other := *q
			other.Labels = p.Labels
			if was != nil || !reflect.DeepEqual(&other, p) || p.HostNetwork || p.Ended {
				return nil, nil
			}
			was, is = p, q
		}
	}
	return was, is
}

func sameElements[T comparable](a, b []T) bool { return sameList(a, b) || slices.Equal(a, b) }

func onlyNetworkPolicies(before, after *compile.Snapshot) bool {
	return onlyPolicies(before, after) && sameList(before.ClusterNetworkPolicies, after.ClusterNetworkPolicies)
}

func onlyPolicies(before, after *compile.Snapshot) bool {
	return sameList(before.Pods, after.Pods) && sameList(before.Namespaces, after.Namespaces) && sameList(before.Nodes, after.Nodes) &&
		sameList(before.TierRoles, after.TierRoles) && reflect.DeepEqual(before.Defaults, after.Defaults)
}

// sameList says whether two lists are one in memory, which is quickly said.
func sameList[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// reachesPodsBy says whether a network of the policy may have addresses of pods in it.
func (t *terms) reachesPodsBy(nodes []*compile.Node) bool {
	if len(t.networks) == 0 {
		return false
	}
	if len(nodes) == 0 {
		return true // nobody knows where pods are
	}
	for _, n := range nodes {
		if len(n.PodCIDRs) == 0 {
			return true
		}
		for _, pods := range n.PodCIDRs {
			overlaps := func(p netip.Prefix) bool { return p.Overlaps(pods) }
			for _, block := range t.blocks {
				covers := func(p netip.Prefix) bool { return p.Bits() <= pods.Bits() && p.Overlaps(pods) }
				if overlaps(block.cidr) && !slices.ContainsFunc(block.except, covers) {
					return true
				}
			}
		}
	}
	return false
}

// narrowing is what of a cluster a change can concern.
type narrowing struct {
	namespaces map[string]bool
	pods       []*compile.Pod
	spaces     []*compile.Namespace
	tierRoles  []*v1alpha1.TierRole
}

// newNarrowing is the pods of some namespaces, and those that the peers of policies match.
func newNarrowing(homes map[string]bool, s *compile.Snapshot, policies []*terms) *narrowing {
	n := &narrowing{namespaces: maps.Clone(homes)}
	// matched are the selections whose namespaces a namespace is one of.
	matched := map[string][]selection{}
	byName := map[string]labels.Set{}
	for _, ns := range s.Namespaces {
		byName[ns.Name] = seenLabels(ns.Name, ns.Labels)
	}
	for _, p := range s.Pods {
		if byName[p.Namespace] == nil {
			byName[p.Namespace] = seenLabels(p.Namespace, nil)
		}
	}
	for _, t := range policies {
		for _, peer := range t.peers {
			for name, l := range byName {
				if peer.covers(name, l) {
					matched[name] = append(matched[name], peer)
					n.namespaces[name] = true
				}
			}
			if peer.namespaces == nil {
				n.namespaces[peer.namespace] = true
			}
		}
	}
	for _, tr := range s.TierRoles {
		if slices.ContainsFunc(tr.Spec.Namespaces, func(name string) bool { return n.namespaces[name] }) {
			n.tierRoles = append(n.tierRoles, tr)
		}
	}
	for _, ns := range s.Namespaces {
		if n.namespaces[ns.Name] {
			n.spaces = append(n.spaces, ns)
		}
	}
	n.addMissing()
	known := roles.New(n.tierRoles)
	for _, p := range s.Pods {
		if homes[p.Namespace] {
			n.pods = append(n.pods, p)
			continue
		}
		selections := matched[p.Namespace]
		if len(selections) == 0 {
			continue
		}
		shown := labels.Set(known.Of(p.Namespace, p.ServiceAccount, p.Labels).Apply(p.Labels))
		if slices.ContainsFunc(selections, func(s selection) bool { return s.byPods != nil && s.byPods.Matches(shown) }) {
			n.pods = append(n.pods, p)
		}
	}
	return n
}

// of is the part of the snapshot.
func (n *narrowing) of(s *compile.Snapshot) *compile.Snapshot {
	out := *s
	out.Pods, out.Namespaces, out.TierRoles, out.NetworkPolicies = n.pods, n.spaces, n.tierRoles, nil
	for _, np := range s.NetworkPolicies {
		if n.namespaces[np.Namespace] {
			out.NetworkPolicies = append(out.NetworkPolicies, np)
		}
	}
	return &out
}

// addMissing adds the namespaces that have policies or pods but no object: they are there by their name.
func (n *narrowing) addMissing() {
	missing := maps.Clone(n.namespaces)
	for _, ns := range n.spaces {
		delete(missing, ns.Name)
	}
	for _, name := range slices.Sorted(maps.Keys(missing)) {
		n.spaces = append(n.spaces, &compile.Namespace{Name: name})
	}
}
