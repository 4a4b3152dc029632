package effect

import (
	"context"
	"slices"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/policy/compile"
)

// relevantPolicies are the terms whose selectors say which pods that could exist would
// matter: those of the policies that changed, and of the policies that tell apart what
// else changed; and those of the policies that any of these can hide.
func (u *podModel) relevantPolicies(ctx context.Context, snapshots [2]*compile.Snapshot, difference []*terms, old, now map[string]*terms) (out, hidden []*terms) {
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
		slices.SortFunc(found, func(a, b *terms) int { return compareText(a.object, b.object) })
		*to = append(*to, found...)
	}
	if w := u.otherChanges(snapshots); !w.none() {
		add(&out, w.bearOn)
	}
	var reached [][]*namespace // the subjects' namespaces
	for _, t := range out {
		reached = append(reached, u.matchingNamespaces(t.subject))
	}
	add(&hidden, func(t *terms) bool {
		for i, cover := range out {
			if cover.hides(t) && slices.ContainsFunc(reached[i], t.subject.mayBeIn) {
				return true
			}
		}
		return false
	})
	return out, hidden
}

// hides reports whether a policy, while it is there, can keep another's rules from
// deciding: a ClusterNetworkPolicy by Deny, which Pass of one can hide in turn, and a
// NetworkPolicy by isolation, which is before the Baseline tier.
func (t *terms) hides(other *terms) bool {
	if t.id.Kind == compile.NetworkPolicyKind {
		return other.baseline
	}
	return t.denies
}

// changes are what else than policies changed, as selectors see it.
type changes struct {
	namespaces []*namespace
	groups     []*podGroup
	// bound are the namespaces whose pods' roles may be others now.
	bound []*namespace
}

func (w *changes) none() bool { return len(w.namespaces)+len(w.groups)+len(w.bound) == 0 }

func (u *podModel) otherChanges(snapshots [2]*compile.Snapshot) *changes {
	w := &changes{}
	bound := changedBindings(snapshots)
	for _, n := range u.namespaces {
		if !apiequality.Semantic.DeepEqual(n.labels[stateBefore], n.labels[stateAfter]) {
			w.namespaces = append(w.namespaces, n)
		}
		if bound[n.name] {
			w.bound = append(w.bound, n)
		}
	}
	for _, g := range u.groups {
		if g.kinds[stateBefore] != nil && g.kinds[stateAfter] != nil && !apiequality.Semantic.DeepEqual(g.kinds[stateBefore].labels, g.kinds[stateAfter].labels) {
			w.groups = append(w.groups, g)
		}
	}
	return w
}

// changedBindings are the namespaces of TierRoles that came, went or changed.
func changedBindings(snapshots [2]*compile.Snapshot) map[string]bool {
	var byName [2]map[string]*v1alpha1.TierRole
	for _, m := range states {
		byName[m] = map[string]*v1alpha1.TierRole{}
		for _, tr := range snapshots[m].TierRoles {
			byName[m][tr.Name] = tr
		}
	}
	out := map[string]bool{}
	for _, m := range states {
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

// bearOn reports whether a selector of the policy may tell what changed apart.
func (w *changes) bearOn(t *terms) bool {
	return w.told(t.subject) || slices.ContainsFunc(t.peers, w.told)
}

func (w *changes) told(s selection) bool {
	for _, n := range w.namespaces {
		if tells(s.namespaces, n.labelsIn(stateBefore), n.labelsIn(stateAfter)) {
			return true
		}
	}
	for _, g := range w.groups {
		if tells(s.pods, g.kinds[stateBefore].labels, g.kinds[stateAfter].labels) && s.mayBeIn(g.namespace) {
			return true
		}
	}
	return mentions(s.pods, roleLabel) && slices.ContainsFunc(w.bound, s.mayBeIn)
}

// mayBeIn reports whether the selection is about pods of a namespace, before or after the change.
func (s selection) mayBeIn(n *namespace) bool {
	return s.covers(n.name, n.labelsIn(stateBefore)) || s.covers(n.name, n.labelsIn(stateAfter))
}

func mentions(s *metav1.LabelSelector, key string) bool {
	_, ok := s.MatchLabels[key]
	return ok || slices.ContainsFunc(s.MatchExpressions, func(e metav1.LabelSelectorRequirement) bool { return e.Key == key })
}

// PodLabelsMatter reports whether any selector of pods, of a policy or a TierRole, may
// tell two sets of labels apart. Where none does, pods with the one or the other are the
// same to every policy.
func PodLabelsMatter(s *compile.Snapshot, before, after map[string]string) bool {
	tell := func(l *metav1.LabelSelector) bool { return tells(l, before, after) }
	return slices.ContainsFunc(s.TierRoles, func(tr *v1alpha1.TierRole) bool { return tell(tr.Spec.PodSelector) }) ||
		anySelector(s, tell, func(*metav1.LabelSelector) bool { return false })
}

// HasEquivalentPod reports whether a pod is there that is the same to every policy and every TierRole as this one: what is
// open to it is open to the other one already.
func HasEquivalentPod(s *compile.Snapshot, pod *compile.Pod) bool {
	keys := map[string]bool{}
	note := func(l *metav1.LabelSelector) bool {
		if l != nil {
			for key := range l.MatchLabels {
				keys[key] = true
			}
			for _, e := range l.MatchExpressions {
				keys[e.Key] = true
			}
		}
		return false
	}
	anySelector(s, note, func(*metav1.LabelSelector) bool { return false })
	for _, tr := range s.TierRoles {
		note(tr.Spec.PodSelector)
	}
	delete(keys, roleLabel) // it is computed, from what is compared
	alike := func(a, b map[string]string) bool {
		for key := range keys {
			x, inA := a[key]
			y, inB := b[key]
			if x != y || inA != inB {
				return false
			}
		}
		return true
	}
	return slices.ContainsFunc(s.Pods, func(p *compile.Pod) bool {
		return p.Namespace == pod.Namespace && p.ServiceAccount == pod.ServiceAccount && !p.HostNetwork && !p.Ended &&
			slices.Equal(p.Ports, pod.Ports) && alike(p.Labels, pod.Labels)
	})
}

// NamespaceLabelsMatter reports whether any selector of namespaces may tell two sets of labels apart.
func NamespaceLabelsMatter(s *compile.Snapshot, before, after map[string]string) bool {
	return anySelector(s, func(*metav1.LabelSelector) bool { return false },
		func(l *metav1.LabelSelector) bool { return tells(l, before, after) })
}

// anySelector reports whether a selector of any policy is one of those wanted.
func anySelector(s *compile.Snapshot, pods, namespaces func(*metav1.LabelSelector) bool) bool {
	for _, np := range s.NetworkPolicies {
		if pods(&np.Spec.PodSelector) {
			return true
		}
		for _, r := range np.Spec.Ingress {
			for _, p := range r.From {
				if pods(p.PodSelector) || namespaces(p.NamespaceSelector) {
					return true
				}
			}
		}
		for _, r := range np.Spec.Egress {
			for _, p := range r.To {
				if pods(p.PodSelector) || namespaces(p.NamespaceSelector) {
					return true
				}
			}
		}
	}
	either := func(n *metav1.LabelSelector, p *policyv1alpha2.NamespacedPod) bool {
		return namespaces(n) || p != nil && (pods(&p.PodSelector) || namespaces(&p.NamespaceSelector))
	}
	for _, cnp := range s.ClusterNetworkPolicies {
		if either(cnp.Spec.Subject.Namespaces, cnp.Spec.Subject.Pods) {
			return true
		}
		for _, r := range cnp.Spec.Ingress {
			for _, p := range r.From {
				if either(p.Namespaces, p.Pods) {
					return true
				}
			}
		}
		for _, r := range cnp.Spec.Egress {
			for _, p := range r.To {
				if either(p.Namespaces, p.Pods) {
					return true
				}
			}
		}
	}
	return false
}

// tells reports whether a requirement of the selector answers differently for two sets of
// labels; nil has none.
func tells(s *metav1.LabelSelector, before, after map[string]string) bool {
	if s == nil {
		return false
	}
	for key, value := range s.MatchLabels {
		if has(before, key, value) != has(after, key, value) {
			return true
		}
	}
	for _, e := range s.MatchExpressions {
		if answers(e, before) != answers(e, after) {
			return true
		}
	}
	return false
}

func has(labels map[string]string, key, value string) bool {
	v, ok := labels[key]
	return ok && v == value
}

// answers is whether a label is one that the requirement names, or is there where it names none. Its negation
// is told apart by the same.
func answers(e metav1.LabelSelectorRequirement, labels map[string]string) bool {
	v, ok := labels[e.Key]
	return ok && (len(e.Values) == 0 || slices.Contains(e.Values, v))
}
