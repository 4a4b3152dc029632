// Package snapshot gives the webhook's handlers and controllers the state of the cluster,
// and wakes any number of them when it changes.
package snapshot

import (
	"errors"

	"github.com/tierwall/tierwall/policy/compile"
)

// SnapshotReader reads the state of the cluster. SnapshotBroadcaster implements it.
type SnapshotReader interface {
	// Snapshot returns the current state. It must not be changed.
	Snapshot() *compile.Snapshot
	// Synced reports whether the snapshot holds all objects that existed at the start.
	Synced() bool
	// Next returns a channel that is closed at the next change after the call.
	Next() <-chan struct{}
}

// ErrNotSynced is returned until the snapshot holds all objects that existed at the start.
var ErrNotSynced = errors.New("tierwall does not know the whole cluster yet; try again in a moment")

// ReadSynced returns the current snapshot, or ErrNotSynced.
func ReadSynced(r SnapshotReader) (*compile.Snapshot, error) {
	if !r.Synced() {
		return nil, ErrNotSynced
	}
	return r.Snapshot(), nil
}
