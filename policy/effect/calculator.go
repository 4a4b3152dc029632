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

// Calculator remembers what was read of policies, for the effects of many changes of one
// cluster, and computes that of a single NetworkPolicy, or of the labels of a single pod, from the
// part of the cluster that it can concern. What Of says does not depend on what was asked before. It is safe
// for concurrent use; objects and lists of snapshots must not be changed.
type Calculator struct {
	mu   sync.Mutex
	last policies
	// read are the policies of last, by their objects in memory.
	read map[any]*terms
}

// policies are all policies of a snapshot, as they were read.
type policies struct {
	networkPolicies []*networkingv1.NetworkPolicy
	clusterPolicies []*policyv1alpha2.ClusterNetworkPolicy
	terms           map[string]*terms // by object
	words           *labelVocabulary
}

// reading is what was read of the policies before and after a change.
type reading struct {
	old, now map[string]*terms
	words    *labelVocabulary // of both
	// came are the terms that are only in now, and gone those of objects that are only in old.
	came, gone []*terms
}

// Compute is the effect of a change, as the function Of says it: the same flows, though
// networks that have nothing to do with the change do not cut its rows.
func (m *Calculator) Compute(ctx context.Context, before, after *compile.Snapshot) Effect {
	only := onlyNetworkPolicies(before, after)
	if only && sameList(before.NetworkPolicies, after.NetworkPolicies) {
		return emptyEffect()
	}
	r := m.readPolicies(before, after)
	difference := r.changed()
	if only && len(difference) == 0 {
		return emptyEffect()
	}
	var b, a *compile.Snapshot
	narrow := false
	if only {
		b, a, narrow = narrowToPolicies(before, after, difference, r.now)
	} else {
		b, a, narrow = narrowToPod(before, after, r.now)
	}
	if narrow {
		part := &reading{words: r.words, old: policiesIn(r.old, b), now: policiesIn(r.now, a)}
		e := computeEffect(ctx, part, difference, b, a)
		e.addNearMatches(changedPolicies(difference, r.now), after)
		return e
	}
	e := computeEffect(ctx, r, difference, before, after)
	e.addNearMatches(changedPolicies(difference, r.now), after)
	return e
}

// readPolicies reads the policies of both snapshots. Those of before are remembered.
func (m *Calculator) readPolicies(before, after *compile.Snapshot) *reading {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.last.terms == nil || !sameList(m.last.networkPolicies, before.NetworkPolicies) || !sameList(m.last.clusterPolicies, before.ClusterNetworkPolicies) {
		m.rememberPolicies(before)
	}
	r := &reading{old: m.last.terms}
	r.now, r.came, r.gone = m.comparePolicies(after)
	r.words = m.last.words.extended(r.came)
	return r
}

// rememberPolicies has the policies of a snapshot in the place of the last one's, most of which are the same.
func (m *Calculator) rememberPolicies(s *compile.Snapshot) {
	now, came, gone := m.comparePolicies(s)
	only := len(gone) == 0 // more policies, and none less
	for _, t := range came {
		if old := m.last.terms[t.object]; old != nil {
			gone, only = append(gone, old), false
		}
	}
	words := m.last.words
	if only && words != nil {
		words = words.extended(came)
	} else {
		words = newVocabulary(now)
	}
	if m.read == nil {
		m.read = map[any]*terms{}
	}
	for _, t := range gone {
		delete(m.read, t.policy)
	}
	for _, t := range came {
		m.read[t.policy] = t
	}
	m.last = policies{s.NetworkPolicies, s.ClusterNetworkPolicies, now, words}
}

// comparePolicies are the policies of a snapshot, and in what they differ from the last one's.
func (m *Calculator) comparePolicies(s *compile.Snapshot) (now map[string]*terms, came, gone []*terms) {
	there := make(map[*terms]bool, len(s.NetworkPolicies)+len(s.ClusterNetworkPolicies))
	see := func(t *terms) {
		if there[t] = true; m.last.terms[t.object] != t {
			came = append(came, t)
		}
	}
	for _, np := range s.NetworkPolicies {
		see(m.readTerms(np, func() *terms { return networkPolicyTerms(np) }))
	}
	for _, cnp := range s.ClusterNetworkPolicies {
		see(m.readTerms(cnp, func() *terms { return clusterPolicyTerms(cnp) }))
	}
	if m.last.terms != nil && len(came) == 0 && len(m.last.terms) == len(there) {
		return m.last.terms, nil, nil
	}
	now = make(map[string]*terms, len(there))
	maps.Copy(now, m.last.terms)
	for _, t := range came {
		now[t.object] = t
	}
	for object, t := range now {
		if !there[t] {
			delete(now, object)
			gone = append(gone, t)
		}
	}
	return now, came, gone
}

func (m *Calculator) readTerms(policy any, read func() *terms) *terms {
	if t := m.read[policy]; t != nil {
		return t
	}
	return read()
}

// policiesIn are the terms of the policies that a narrower snapshot has.
func policiesIn(all map[string]*terms, s *compile.Snapshot) map[string]*terms {
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

// narrowToPolicies is the part of two snapshots that a change of NetworkPolicies of one
// namespace can concern: that namespace, the pods that the policies' peers match, what
// the policies hide in the Baseline tier, and the policies of these pods' namespaces. It
// is false where the change can concern others, or is of another kind, which has no difference.
func narrowToPolicies(before, after *compile.Snapshot, difference []*terms, now map[string]*terms) (b, a *compile.Snapshot, ok bool) {
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
	return n.apply(before), n.apply(after), true
}

// narrowToPod is the part of two snapshots that a change of one pod's labels can concern: its
// namespace, and those of the NetworkPolicies that tell the labels apart, with the pods that these
// match. It is false where others may be concerned, or the change is another.
func narrowToPod(before, after *compile.Snapshot, now map[string]*terms) (b, a *compile.Snapshot, ok bool) {
	was, is := relabelledPod(before, after)
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
	b, a = n.apply(before), n.apply(after)
	a.Pods = slices.Clone(b.Pods)
	a.Pods[slices.Index(a.Pods, was)] = is
	return b, a, true
}

// relabelledPod is the one pod in which two snapshots differ, by its labels alone, as it was and as it is.
func relabelledPod(before, after *compile.Snapshot) (was, is *compile.Pod) {
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

// sameList reports whether two lists are one in memory, which is quickly said.
func sameList[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// reachesPodsBy reports whether a network of the policy may have addresses of pods in it.
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
		byName[ns.Name] = withNameLabel(ns.Name, ns.Labels)
	}
	for i, p := range s.Pods {
		if (i == 0 || p.Namespace != s.Pods[i-1].Namespace) && byName[p.Namespace] == nil {
			byName[p.Namespace] = withNameLabel(p.Namespace, nil)
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
	last, home, selections := "", homes[""], matched[""]
	for _, p := range s.Pods {
		if p.Namespace != last { // of most pods it is that of the one before
			last, home, selections = p.Namespace, homes[p.Namespace], matched[p.Namespace]
		}
		if home {
			n.pods = append(n.pods, p)
			continue
		}
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

// apply is the part of the snapshot.
func (n *narrowing) apply(s *compile.Snapshot) *compile.Snapshot {
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
