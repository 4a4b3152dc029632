// Package cluster watches the objects that policy depends on, reduced to what
// policy depends on of them. It hands out immutable snapshots, or what
// changed, and says when it is in sync.
package clustercache

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
)

// retryMin and retryMax bound the wait before what cannot be watched is tried again.
const retryMin, retryMax = 200 * time.Millisecond, 10 * time.Second

// Watcher keeps the state of a cluster. Make one with New and call Start.
type Watcher struct {
	log        *slog.Logger
	defaults   policy.Defaults
	changed    chan struct{}
	reflectors []reflector

	mu       sync.Mutex
	kinds    kinds
	snapshot *compile.Snapshot // nil once something changed
	pending  *compile.Update   // what changed since Take; nil before the first
	// news is when the oldest change came that is pending, and taken when the oldest came of those
	// that Take gave last; zero where there was none.
	news, taken time.Time
	// attachments are those of pods whose addresses the API server does not show yet.
	attachments map[types.NamespacedName]attached
}

// reflector keeps a store equal to the objects of one kind.
type reflector struct {
	*toolscache.Reflector
	resource string
	synced   func() bool
}

// New makes a Watcher; defaults become part of its snapshots.
func New(config *rest.Config, defaults policy.Defaults, log *slog.Logger) (*Watcher, error) {
	w := &Watcher{log: log, defaults: defaults, changed: make(chan struct{}, 1), attachments: map[types.NamespacedName]attached{}}
	w.kinds = newKinds(w)
	for resource, into := range w.kinds.byResource() {
		api, err := ClientFor(config, into.example())
		if err != nil {
			return nil, err
		}
		list := toolscache.NewListWatchFromClient(api, resource, corev1.NamespaceAll, fields.Everything())
		options := toolscache.ReflectorOptions{Name: resource}
		w.reflectors = append(w.reflectors, reflector{
			Reflector: toolscache.NewReflectorWithOptions(list, into.example(), into, options), resource: resource, synced: into.seen})
	}
	return w, nil
}

// Start watches until ctx ends. What cannot be watched, because the API server
// does not answer or does not serve the kind yet, is tried again; until every kind was seen
// once the Watcher is not in sync.
func (w *Watcher) Start(ctx context.Context) error {
	var background sync.WaitGroup
	for _, r := range w.reflectors {
		background.Go(func() { w.insist(ctx, r) })
	}
	background.Wait()
	return nil
}

// insist watches a kind, again and again until ctx ends.
func (w *Watcher) insist(ctx context.Context, r reflector) {
	backoff := wait.Backoff{Duration: retryMin, Factor: 2, Jitter: 0.1, Steps: 10, Cap: retryMax}
	delay := backoff
	for {
		start := time.Now()
		err := r.ListAndWatchWithContext(ctx)
		if time.Since(start) > retryMax {
			delay = backoff
		}
		if err != nil && ctx.Err() == nil {
			w.log.Warn("cannot watch; trying again", "resource", r.resource, "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(delay.Step()):
		}
	}
}

// tell tells readers that something changed; it needs the lock.
func (w *Watcher) tell() {
	if w.snapshot = nil; w.news.IsZero() {
		w.news = time.Now()
	}
	select {
	case w.changed <- struct{}{}:
	default: // one is waiting already
	}
}

// Changed receives after something changed that policy can depend on. Several
// changes may be told as one. It has one reader.
func (w *Watcher) Changed() <-chan struct{} { return w.changed }

// Synced reports whether the Watcher knows all that existed at the start.
func (w *Watcher) Synced() bool {
	for _, r := range w.reflectors {
		if !r.synced() {
			return false
		}
	}
	return true
}

// WaitForSync blocks until the Watcher is in sync; it returns ctx's error when that ends first.
func (w *Watcher) WaitForSync(ctx context.Context) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !w.Synced() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the objects of the cluster: %w", ctx.Err())
		case <-tick.C:
		}
	}
	return nil
}

// Snapshot is the state now. It must not be changed.
func (w *Watcher) Snapshot() *compile.Snapshot {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.snapshot == nil {
		w.snapshot = w.state()
	}
	return w.snapshot
}

func (w *Watcher) state() *compile.Snapshot {
	return &compile.Snapshot{
		Pods: w.kinds.pods.values(), Namespaces: w.kinds.namespaces.values(), Nodes: w.kinds.nodes.values(),
		NetworkPolicies:        w.kinds.networkPolicies.values(),
		ClusterNetworkPolicies: w.kinds.clusterNetworkPolicies.values(),
		TierRoles:              w.kinds.tierRoles.values(),
		Defaults:               w.defaults,
	}
}

// Take is what changed since it was called last, and the first time everything. The update is
// the caller's, the objects must not be changed. It has one reader.
func (w *Watcher) Take() *compile.Update {
	w.mu.Lock()
	defer w.mu.Unlock()
	u := w.pending
	if u == nil {
		u = w.kinds.update()
	}
	w.pending = &compile.Update{}
	w.taken, w.news = w.news, time.Time{}
	return u
}

// Since is when the oldest came of the changes that Take gave last; zero where it gave none.
func (w *Watcher) Since() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.taken
}

// NeedLeaderElection is false: every replica of a controller-runtime manager watches
// (manager.LeaderElectionRunnable).
func (w *Watcher) NeedLeaderElection() bool { return false }
