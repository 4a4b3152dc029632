// Package webhook is admission: it judges changes of policies, gives pods the
// label of their tier role, and refuses role labels that are not true. It
// decides nothing by who asks, only by what is asked and what the cluster is.
package webhook

import (
	"errors"
	"slices"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/policy/roles"
)

// SnapshotReader is the state of the cluster; Followed is.
type SnapshotReader interface {
	// Snapshot is the state now. It must not be changed.
	Snapshot() *compile.Snapshot
	// Synced reports whether the snapshot holds all that existed at the start.
	Synced() bool
	// Next is closed once the state has changed since the call.
	Next() <-chan struct{}
}

// errNotSynced is why nothing can be judged yet.
var errNotSynced = errors.New("tierwall does not know the whole cluster yet; try again in a moment")

// currentSnapshot is the state now, or an error where it is not known yet.
func currentSnapshot(s SnapshotReader) (*compile.Snapshot, error) {
	if !s.Synced() {
		return nil, errNotSynced
	}
	return s.Snapshot(), nil
}

// rolesOfNamespace are the roles of a namespace's pods. The TierRoles of other namespaces
// say nothing about them, and to compile them would cost time on each request.
func rolesOfNamespace(namespace string, s *compile.Snapshot) *roles.Roles {
	var tierRoles []*v1alpha1.TierRole
	for _, tr := range s.TierRoles {
		if slices.Contains(tr.Spec.Namespaces, namespace) {
			tierRoles = append(tierRoles, tr)
		}
	}
	return roles.New(tierRoles)
}
