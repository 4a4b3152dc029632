// Package roles computes tier roles: which role a pod holds follows from the
// TierRoles and from what the pod is, never from the role label that it
// carries. Webhook and enforcer both call it.
package roles

import (
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/tierwall/tierwall/api/v1alpha1"
)

// Roles are compiled TierRoles in the order in which they are tried.
type Roles struct {
	bindings map[string][]binding // by namespace
}

type binding struct {
	name, role      string
	strength        int
	serviceAccounts []string
	selector        labels.Selector // nil matches any labels
}

// How specific a TierRole is; the more specific is tried first.
const (
	byNamespace = iota
	byLabels
	byServiceAccount
)

// Match is the role that a pod holds, and the TierRole that says so. Its zero
// value is a pod without a role.
type Match struct {
	Role, TierRole string
	// Conflicts are the equally specific TierRoles that would give another role.
	Conflicts []string
}

// New compiles TierRoles. One that Validate finds fault with binds nothing.
func New(tierRoles []*v1alpha1.TierRole) *Roles {
	r := &Roles{bindings: map[string][]binding{}}
	for _, tr := range tierRoles {
		b, err := newBinding(tr)
		if err != nil {
			continue
		}
		for _, ns := range slices.Compact(slices.Sorted(slices.Values(tr.Spec.Namespaces))) {
			r.bindings[ns] = append(r.bindings[ns], b)
		}
	}
	for _, bs := range r.bindings {
		slices.SortFunc(bs, func(a, b binding) int {
			if a.strength != b.strength {
				return b.strength - a.strength
			}
			return strings.Compare(a.name, b.name)
		})
	}
	return r
}

func newBinding(tr *v1alpha1.TierRole) (binding, error) {
	if errs := Validate(tr); len(errs) > 0 {
		return binding{}, errs.ToAggregate()
	}
	b := binding{name: tr.Name, role: tr.Spec.Role, serviceAccounts: tr.Spec.ServiceAccounts}
	if tr.Spec.PodSelector != nil {
		s, err := metav1.LabelSelectorAsSelector(tr.Spec.PodSelector)
		if err != nil {
			return binding{}, err
		}
		b.selector, b.strength = s, byLabels
	}
	if len(b.serviceAccounts) > 0 {
		b.strength = byServiceAccount
	}
	return b, nil
}

// Of is the role of a pod in the namespace, running as the service account
// ("" means "default", as the API server sets it), with the labels.
func (r *Roles) Of(namespace, serviceAccount string, podLabels map[string]string) Match {
	if serviceAccount == "" {
		serviceAccount = "default"
	}
	var m Match
	won := -1
	for i, b := range r.bindings[namespace] {
		if won >= 0 && b.strength < r.bindings[namespace][won].strength {
			break
		}
		if !b.binds(serviceAccount, podLabels) {
			continue
		}
		if won < 0 {
			won, m = i, Match{Role: b.role, TierRole: b.name}
		} else if b.role != m.Role {
			m.Conflicts = append(m.Conflicts, b.name)
		}
	}
	return m
}

func (b binding) binds(serviceAccount string, podLabels map[string]string) bool {
	if len(b.serviceAccounts) > 0 && !slices.Contains(b.serviceAccounts, serviceAccount) {
		return false
	}
	return b.selector == nil || b.selector.Matches(labels.Set(podLabels))
}

// Apply is the labels as selectors see them: with the role that was computed
// and without one that was forged. The map given is not changed.
func (m Match) Apply(podLabels map[string]string) map[string]string {
	if shown, has := podLabels[v1alpha1.RoleLabel]; shown == m.Role && has == (m.Role != "") {
		return podLabels
	}
	out := make(map[string]string, len(podLabels)+1)
	for k, v := range podLabels {
		out[k] = v
	}
	delete(out, v1alpha1.RoleLabel)
	if m.Role != "" {
		out[v1alpha1.RoleLabel] = m.Role
	}
	return out
}
