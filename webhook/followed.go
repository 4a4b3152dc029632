package webhook

import (
	"context"
	"sync"

	"github.com/tierwall/tierwall/policy/compile"
)

// Source is the state of the cluster with news for one reader; cluster.Watcher is one.
type Source interface {
	Snapshot() *compile.Snapshot
	Synced() bool
	// Changed receives after the state changed.
	Changed() <-chan struct{}
}

// Followed is the state of a Source, with news for any number of readers.
type Followed struct {
	source Source

	mu   sync.Mutex
	next chan struct{} // closed at the next change
}

// Follow makes a Followed, whose Start reads the source's news.
func Follow(source Source) *Followed {
	return &Followed{source: source, next: make(chan struct{})}
}

// Start passes the news on until ctx ends.
func (f *Followed) Start(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-f.source.Changed():
			f.tell()
		}
	}
}

// NeedLeaderElection is false: every replica waits for news.
func (*Followed) NeedLeaderElection() bool { return false }

func (f *Followed) tell() {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.next)
	f.next = make(chan struct{})
}

// Snapshot is the state now. It must not be changed.
func (f *Followed) Snapshot() *compile.Snapshot { return f.source.Snapshot() }

// Synced reports whether the snapshot holds all that existed at the start.
func (f *Followed) Synced() bool { return f.source.Synced() }

// Next is closed once the state has changed since the call.
func (f *Followed) Next() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.next
}
