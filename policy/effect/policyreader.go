package effect

import (
	"maps"
	"slices"
	"sync"

	networkingv1 "k8s.io/api/networking/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/tierwall/tierwall/policy/compile"
)

// policyList holds the policies of a snapshot, with their terms.
type policyList struct {
	networkPolicies []*networkingv1.NetworkPolicy
	clusterPolicies []*policyv1alpha2.ClusterNetworkPolicy
	terms           map[string]*terms // by object
	vocabulary      *labelVocabulary
}

// policyChange holds the terms of the policies before and after a change.
type policyChange struct {
	old, now   map[string]*terms
	vocabulary *labelVocabulary // of both states
	// added are the terms that are only in now. Removed are those of objects that are only in old.
	added, removed []*terms
}

// policyReader reads the terms of policies, and caches those of the snapshot before the last change.
type policyReader struct {
	mu   sync.Mutex
	last policyList
	// read holds the terms of last by the address of the object.
	read map[any]*terms
}

// readPolicies reads the policies of both snapshots, and caches those of before.
func (r *policyReader) readPolicies(before, after *compile.Snapshot) *policyChange {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last.terms == nil || !sameList(r.last.networkPolicies, before.NetworkPolicies) || !sameList(r.last.clusterPolicies, before.ClusterNetworkPolicies) {
		r.rememberPolicies(before)
	}
	out := &policyChange{old: r.last.terms}
	out.now, out.added, out.removed = r.comparePolicies(after)
	out.vocabulary = r.last.vocabulary.extendedBy(out.added)
	return out
}

// rememberPolicies replaces the cached policies by those of a snapshot, most of which are usually the same.
func (r *policyReader) rememberPolicies(s *compile.Snapshot) {
	now, added, removed := r.comparePolicies(s)
	onlyAdded := len(removed) == 0 // only additions
	for _, t := range added {
		if old := r.last.terms[t.name]; old != nil {
			removed, onlyAdded = append(removed, old), false
		}
	}
	words := r.last.vocabulary
	if onlyAdded && words != nil {
		words = words.extendedBy(added)
	} else {
		words = newVocabulary(now)
	}
	if r.read == nil {
		r.read = map[any]*terms{}
	}
	for _, t := range removed {
		delete(r.read, t.policy)
	}
	for _, t := range added {
		r.read[t.policy] = t
	}
	r.last = policyList{s.NetworkPolicies, s.ClusterNetworkPolicies, now, words}
}

// comparePolicies returns the terms of a snapshot's policies, and how they differ from the cached ones.
func (r *policyReader) comparePolicies(s *compile.Snapshot) (now map[string]*terms, added, removed []*terms) {
	present := make(map[*terms]bool, len(s.NetworkPolicies)+len(s.ClusterNetworkPolicies))
	see := func(t *terms) {
		if present[t] = true; r.last.terms[t.name] != t {
			added = append(added, t)
		}
	}
	for _, np := range s.NetworkPolicies {
		see(r.readTerms(np, func() *terms { return networkPolicyTerms(np) }))
	}
	for _, cnp := range s.ClusterNetworkPolicies {
		see(r.readTerms(cnp, func() *terms { return clusterPolicyTerms(cnp) }))
	}
	if r.last.terms != nil && len(added) == 0 && len(r.last.terms) == len(present) {
		return r.last.terms, nil, nil
	}
	now = make(map[string]*terms, len(present))
	maps.Copy(now, r.last.terms)
	for _, t := range added {
		now[t.name] = t
	}
	for object, t := range now {
		if !present[t] {
			delete(now, object)
			removed = append(removed, t)
		}
	}
	return now, added, removed
}

func (r *policyReader) readTerms(policy any, read func() *terms) *terms {
	if t := r.read[policy]; t != nil {
		return t
	}
	return read()
}

// changedTerms returns the terms of policies that are new, deleted or have another spec, sorted by object. For a changed
// policy it returns both the old and the new terms.
func (r *policyChange) changedTerms() []*terms {
	var out []*terms
	for _, t := range r.added {
		if old := r.old[t.name]; old == nil || !apiequality.Semantic.DeepEqual(old.spec, t.spec) {
			out = append(out, t)
			if old != nil {
				out = append(out, old)
			}
		}
	}
	out = append(out, r.removed...)
	slices.SortStableFunc(out, func(a, b *terms) int { return compareText(a.name, b.name) })
	return out
}

// policiesIn returns the terms of the policies that a narrower snapshot has.
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

// changedPolicies returns the changed terms of policies that exist after the change.
func changedPolicies(changed []*terms, now map[string]*terms) []*terms {
	var out []*terms
	for _, t := range changed {
		if now[t.id.Object()] == t {
			out = append(out, t)
		}
	}
	return out
}
