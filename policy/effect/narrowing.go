package effect

import (
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/policy/roles"
)

// narrowToPolicies returns the part of two snapshots that a change of NetworkPolicies of one namespace can affect. That
// is the namespace, and the pods that the policies' peers match with the policies of their namespaces. Policies that
// these can hide in the Baseline tier count too. It returns false if the change may affect more, or is of another kind.
func narrowToPolicies(before, after *compile.Snapshot, changed []*terms, now map[string]*terms) (b, a *compile.Snapshot, ok bool) {
	if len(changed) == 0 {
		return nil, nil, false
	}
	home := changed[0].id.Namespace
	for _, t := range changed {
		if t.id.Namespace != home || t.id.Kind != compile.NetworkPolicyKind {
			return nil, nil, false
		}
	}
	// Policies that others close over a budget may open to peers of their own.
	if !isWithinBudgets(before, home) || !isWithinBudgets(after, home) {
		return nil, nil, false
	}
	// Without default deny, the end of isolation opens pods to every peer.
	if before.Defaults.For(home) != policy.Deny {
		return nil, nil, false
	}
	for _, t := range now {
		if t.baseline && !slices.Contains(changed, t) {
			changed = append(changed, t)
		}
	}
	if slices.ContainsFunc(changed, func(t *terms) bool { return t.mayContainPods(before.Nodes) }) {
		return nil, nil, false
	}
	n := newRelevantPart(map[string]bool{home: true}, before, changed)
	return n.narrow(before), n.narrow(after), true
}

// narrowToPod returns the part of two snapshots that a change of one pod's labels can affect. That is its namespace,
// and those of the NetworkPolicies that distinguish the labels, with the pods that these match. It returns false if
// the change may affect more, or is of another kind.
func narrowToPod(before, after *compile.Snapshot, now map[string]*terms) (b, a *compile.Snapshot, ok bool) {
	was, is := relabelledPod(before, after)
	if was == nil || before.Defaults.For(was.Namespace) != policy.Deny || !isWithinBudgets(before, was.Namespace) {
		return nil, nil, false
	}
	known := roles.New(before.TierRoles)
	role := known.Of(was.Namespace, was.ServiceAccount, was.Labels)
	if role.Role != known.Of(is.Namespace, is.ServiceAccount, is.Labels).Role {
		return nil, nil, false
	}
	from, to := role.Apply(was.Labels), role.Apply(is.Labels)
	ownNamespaces, relevant := map[string]bool{was.Namespace: true}, []*terms{}
	for _, t := range now {
		subjectAffected := distinguishes(t.subject.pods, from, to)
		affected := subjectAffected || slices.ContainsFunc(t.peers, func(s selection) bool { return distinguishes(s.pods, from, to) })
		switch {
		case affected && (t.id.Kind != compile.NetworkPolicyKind || subjectAffected && t.mayContainPods(before.Nodes)), t.baseline && t.mayContainPods(before.Nodes):
			return nil, nil, false
		case affected:
			ownNamespaces[t.id.Namespace] = true
			relevant = append(relevant, t)
		case t.baseline:
			relevant = append(relevant, t)
		}
	}
	n := newRelevantPart(ownNamespaces, before, relevant)
	b, a = n.narrow(before), n.narrow(after)
	a.Pods = slices.Clone(b.Pods)
	a.Pods[slices.Index(a.Pods, was)] = is
	return b, a, true
}

// relevantPart is the part of a cluster that a change can affect.
type relevantPart struct {
	namespaces map[string]bool
	pods       []*compile.Pod
	spaces     []*compile.Namespace
	tierRoles  []*v1alpha1.TierRole
}

// newRelevantPart has the pods of some namespaces, and those that the peers of policies match.
func newRelevantPart(ownNamespaces map[string]bool, s *compile.Snapshot, policies []*terms) *relevantPart {
	n := &relevantPart{namespaces: maps.Clone(ownNamespaces)}
	// matched holds the selections that cover a namespace, by its name.
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
				if peer.coversNamespace(name, l) {
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
	last, home, selections := "", ownNamespaces[""], matched[""]
	for _, p := range s.Pods {
		if p.Namespace != last { // pods are mostly sorted by namespace
			last, home, selections = p.Namespace, ownNamespaces[p.Namespace], matched[p.Namespace]
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

// narrow returns this part of the snapshot.
func (n *relevantPart) narrow(s *compile.Snapshot) *compile.Snapshot {
	out := *s
	out.Pods, out.Namespaces, out.TierRoles, out.NetworkPolicies = n.pods, n.spaces, n.tierRoles, nil
	for _, np := range s.NetworkPolicies {
		if n.namespaces[np.Namespace] {
			out.NetworkPolicies = append(out.NetworkPolicies, np)
		}
	}
	return &out
}

// addMissing adds the namespaces that have policies or pods but no object.
func (n *relevantPart) addMissing() {
	missing := maps.Clone(n.namespaces)
	for _, ns := range n.spaces {
		delete(missing, ns.Name)
	}
	for _, name := range slices.Sorted(maps.Keys(missing)) {
		n.spaces = append(n.spaces, &compile.Namespace{Name: name})
	}
}
