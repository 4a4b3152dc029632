package effect

import (
	"cmp"
	"maps"
	"slices"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/policy/roles"
)

// unboundServiceAccount is a service account that no TierRole names.
const unboundServiceAccount = "tierwall.nobody"

// roleCandidate is a service account and labels with which a pod has a certain role, or none.
type roleCandidate struct {
	serviceAccount string
	labels         map[string]string
}

// tierRole holds the candidates of a TierRole, and the namespaces where it applies.
type tierRole struct {
	namespaces []string
	candidates []roleCandidate
}

// tierRoleCandidates returns the valid TierRoles of either state, with a candidate for each service account and
// combination of labels.
func tierRoleCandidates(snapshots [2]*compile.Snapshot) []tierRole {
	all := map[*v1alpha1.TierRole]bool{}
	for _, s := range snapshots {
		for _, tr := range s.TierRoles {
			all[tr] = true
		}
	}
	sorted := slices.SortedFunc(maps.Keys(all), func(a, b *v1alpha1.TierRole) int {
		return cmp.Or(compareText(a.Name, b.Name), cmp.Compare(a.Generation, b.Generation))
	})
	var out []tierRole
	for _, tr := range sorted {
		if len(roles.Validate(tr)) > 0 {
			continue
		}
		labelSets := []map[string]string{{}}
		if tr.Spec.PodSelector != nil {
			labelSets, _ = sampleLabels(tr.Spec.PodSelector, roleLabel)
		}
		accounts := tr.Spec.ServiceAccounts
		if len(accounts) == 0 {
			accounts = []string{unboundServiceAccount}
		}
		b := tierRole{namespaces: tr.Spec.Namespaces}
		for _, account := range accounts {
			for _, l := range labelSets {
				b.candidates = append(b.candidates, roleCandidate{account, l})
			}
		}
		out = append(out, b)
	}
	return out
}

// roleCandidates returns candidates for the pods of a namespace: one for each pair of roles before and after the
// change, and one without a role.
func roleCandidates(namespace string, tierRoles []tierRole, known [2]*roles.Roles) []roleCandidate {
	out := []roleCandidate{{unboundServiceAccount, map[string]string{}}}
	seen := map[string]bool{}
	for _, b := range tierRoles {
		if !slices.Contains(b.namespaces, namespace) {
			continue
		}
		for _, c := range b.candidates {
			key := labelsKey(c.labels)
			for _, m := range bothStates {
				key += "\x00" + known[m].Of(namespace, c.serviceAccount, c.labels).Role
			}
			if !seen[key] {
				seen[key] = true
				out = append(out, roleCandidate{c.serviceAccount, maps.Clone(c.labels)})
			}
		}
	}
	return out
}
