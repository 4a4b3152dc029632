package effect

import (
	"maps"
	"slices"

	networkingv1 "k8s.io/api/networking/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/tierwall/tierwall/policy/compile"
)

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

// changed are the terms of policies that are new or have another spec, and of
// those that go, sorted by object.
func (r *reading) changed() []*terms {
	var out []*terms
	for _, t := range r.came {
		if old := r.old[t.object]; old == nil || !apiequality.Semantic.DeepEqual(old.spec, t.spec) {
			out = append(out, t)
			if old != nil {
				out = append(out, old)
			}
		}
	}
	out = append(out, r.gone...)
	slices.SortStableFunc(out, func(a, b *terms) int { return compareText(a.object, b.object) })
	return out
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
