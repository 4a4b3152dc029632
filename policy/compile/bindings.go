package compile

import (
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/policy/roles"
)

// bindings are the TierRoles by the namespaces that they name.
type bindings struct {
	tierRoles  map[types.NamespacedName]*v1alpha1.TierRole
	namespaces map[string]map[types.NamespacedName]*v1alpha1.TierRole
	roles      map[string]*roles.Roles
}

var noRoles = roles.New(nil)

func newBindings() bindings {
	return bindings{
		tierRoles:  map[types.NamespacedName]*v1alpha1.TierRole{},
		namespaces: map[string]map[types.NamespacedName]*v1alpha1.TierRole{},
		roles:      map[string]*roles.Roles{},
	}
}

// of are the roles of a namespace.
func (b *bindings) of(namespace string) *roles.Roles {
	if r := b.roles[namespace]; r != nil {
		return r
	}
	return noRoles
}

// update takes in what changed, and gives the namespaces that it is about.
func (b *bindings) update(changed Objects[v1alpha1.TierRole]) map[string]struct{} {
	touched := map[string]struct{}{}
	for key, now := range changed {
		if before := b.tierRoles[key]; before != nil {
			for _, ns := range before.Spec.Namespaces {
				touched[ns] = struct{}{}
				delete(b.namespaces[ns], key)
			}
			delete(b.tierRoles, key)
		}
		if now != nil {
			b.tierRoles[key] = now
			for _, ns := range now.Spec.Namespaces {
				touched[ns] = struct{}{}
				if b.namespaces[ns] == nil {
					b.namespaces[ns] = map[types.NamespacedName]*v1alpha1.TierRole{}
				}
				b.namespaces[ns][key] = now
			}
		}
	}
	b.renew(touched)
	return touched
}

// renew makes the roles of the namespaces anew, from the TierRoles that name one of them.
func (b *bindings) renew(namespaces map[string]struct{}) {
	naming := map[types.NamespacedName]*v1alpha1.TierRole{}
	for ns := range namespaces {
		maps.Copy(naming, b.namespaces[ns])
	}
	of := roles.New(slices.Collect(maps.Values(naming)))
	for ns := range namespaces {
		if len(b.namespaces[ns]) == 0 {
			delete(b.namespaces, ns)
			delete(b.roles, ns)
			continue
		}
		b.roles[ns] = of
	}
}
