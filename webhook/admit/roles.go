package admit

import (
	"slices"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/policy/roles"
)

// rolesOfNamespace returns the roles of a namespace's pods. TierRoles of other namespaces
// are left out because compiling them would cost time on each request.
func rolesOfNamespace(namespace string, s *compile.Snapshot) *roles.Roles {
	var tierRoles []*v1alpha1.TierRole
	for _, tr := range s.TierRoles {
		if slices.Contains(tr.Spec.Namespaces, namespace) {
			tierRoles = append(tierRoles, tr)
		}
	}
	return roles.New(tierRoles)
}
