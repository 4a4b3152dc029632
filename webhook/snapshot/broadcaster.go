package snapshot

import (
	"context"
	"sync"

	"github.com/tierwall/tierwall/policy/compile"
)

// SnapshotSource reads the state of the cluster and notifies one reader. clustercache.Watcher implements it.
type SnapshotSource interface {
	Snapshot() *compile.Snapshot
	Synced() bool
	// Changed receives after the state changed.
	Changed() <-chan struct{}
}

// SnapshotBroadcaster passes the notifications of a SnapshotSource on to any number of readers.
type SnapshotBroadcaster struct {
	source SnapshotSource

	mu   sync.Mutex
	next chan struct{} // closed at the next change
}

// NewSnapshotBroadcaster returns a broadcaster that notifies readers once it is started.
func NewSnapshotBroadcaster(source SnapshotSource) *SnapshotBroadcaster {
	return &SnapshotBroadcaster{source: source, next: make(chan struct{})}
}

// Start notifies the readers of each change until ctx ends.
func (b *SnapshotBroadcaster) Start(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-b.source.Changed():
			b.notifyReaders()
		}
	}
}

// NeedLeaderElection returns false: the handlers of every replica read snapshots.
func (*SnapshotBroadcaster) NeedLeaderElection() bool { return false }

func (b *SnapshotBroadcaster) notifyReaders() {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.next)
	b.next = make(chan struct{})
}

// Snapshot returns the current state. It must not be changed.
func (b *SnapshotBroadcaster) Snapshot() *compile.Snapshot { return b.source.Snapshot() }

// Synced reports whether the snapshot holds all objects that existed at the start.
func (b *SnapshotBroadcaster) Synced() bool { return b.source.Synced() }

// Next returns a channel that is closed at the next change after the call.
func (b *SnapshotBroadcaster) Next() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.next
}
