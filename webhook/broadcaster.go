package webhook

import (
	"context"
	"sync"

	"github.com/tierwall/tierwall/policy/compile"
)

// SnapshotSource is the state of the cluster with news for one reader; cluster.Watcher is one.
type SnapshotSource interface {
	Snapshot() *compile.Snapshot
	Synced() bool
	// Changed receives after the state changed.
	Changed() <-chan struct{}
}

// SnapshotBroadcaster is the state of a Source, with news for any number of readers.
type SnapshotBroadcaster struct {
	source SnapshotSource

	mu   sync.Mutex
	next chan struct{} // closed at the next change
}

// NewSnapshotBroadcaster makes a Followed, whose Start reads the source's news.
func NewSnapshotBroadcaster(source SnapshotSource) *SnapshotBroadcaster {
	return &SnapshotBroadcaster{source: source, next: make(chan struct{})}
}

// Start passes the news on until ctx ends.
func (f *SnapshotBroadcaster) Start(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-f.source.Changed():
			f.notifyReaders()
		}
	}
}

// NeedLeaderElection is false: every replica waits for news.
func (*SnapshotBroadcaster) NeedLeaderElection() bool { return false }

func (f *SnapshotBroadcaster) notifyReaders() {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.next)
	f.next = make(chan struct{})
}

// Snapshot is the state now. It must not be changed.
func (f *SnapshotBroadcaster) Snapshot() *compile.Snapshot { return f.source.Snapshot() }

// Synced reports whether the snapshot holds all that existed at the start.
func (f *SnapshotBroadcaster) Synced() bool { return f.source.Synced() }

// Next is closed once the state has changed since the call.
func (f *SnapshotBroadcaster) Next() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.next
}
