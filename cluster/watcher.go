// Package cluster watches the objects that policy depends on and hands out
// immutable snapshots of them. It says when it is in sync, and when something
// changed that can matter.
package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
)

// retryMin and retryMax bound the wait before what cannot be watched is tried again.
const retryMin, retryMax = 200 * time.Millisecond, 10 * time.Second

// Watcher keeps the state of a cluster. Make one with New and call Start.
type Watcher struct {
	cache    cache.Cache
	log      *slog.Logger
	defaults policy.Defaults
	changed  chan struct{}

	started atomic.Bool
	toStart atomic.Int32 // watches that have not started yet

	mu       sync.Mutex
	synced   []func() bool
	snapshot *compile.Snapshot // nil once something changed

	pods                   table[compile.Pod]
	namespaces             table[compile.Namespace]
	nodes                  table[compile.Node]
	networkPolicies        table[networkingv1.NetworkPolicy]
	clusterNetworkPolicies table[policyv1alpha2.ClusterNetworkPolicy]
	tierRoles              table[v1alpha1.TierRole]
}

type table[V any] map[types.NamespacedName]*V

func (t table[V]) values() []*V {
	out := make([]*V, 0, len(t))
	for _, v := range t {
		out = append(out, v)
	}
	return out
}

// New makes a Watcher; defaults become part of its snapshots.
func New(config *rest.Config, defaults policy.Defaults, log *slog.Logger) (*Watcher, error) {
	c, err := cache.New(config, cache.Options{Scheme: Scheme(), DefaultTransform: slim})
	if err != nil {
		return nil, fmt.Errorf("make the object cache: %w", err)
	}
	return &Watcher{
		cache: c, log: log, defaults: defaults, changed: make(chan struct{}, 1),
		pods: table[compile.Pod]{}, namespaces: table[compile.Namespace]{}, nodes: table[compile.Node]{},
		networkPolicies:        table[networkingv1.NetworkPolicy]{},
		clusterNetworkPolicies: table[policyv1alpha2.ClusterNetworkPolicy]{},
		tierRoles:              table[v1alpha1.TierRole]{},
	}, nil
}

// Start watches until ctx ends. What cannot be watched yet, because the API
// server does not answer or does not serve the kind, is tried again; until
// then the Watcher is not in sync.
func (w *Watcher) Start(ctx context.Context) error {
	var background sync.WaitGroup
	defer background.Wait()
	for _, start := range []func(context.Context) error{
		func(ctx context.Context) error { return watch(ctx, w, &corev1.Pod{}, w.pods, Pod) },
		func(ctx context.Context) error { return watch(ctx, w, &corev1.Namespace{}, w.namespaces, Namespace) },
		func(ctx context.Context) error { return watch(ctx, w, &corev1.Node{}, w.nodes, Node) },
		func(ctx context.Context) error {
			return watch(ctx, w, &networkingv1.NetworkPolicy{}, w.networkPolicies, same)
		},
		func(ctx context.Context) error {
			return watch(ctx, w, &policyv1alpha2.ClusterNetworkPolicy{}, w.clusterNetworkPolicies, same)
		},
		func(ctx context.Context) error { return watch(ctx, w, &v1alpha1.TierRole{}, w.tierRoles, same) },
	} {
		w.toStart.Add(1)
		background.Go(func() { w.insist(ctx, start) })
	}
	w.started.Store(true)
	if err := w.cache.Start(ctx); err != nil {
		return fmt.Errorf("watch the cluster: %w", err)
	}
	return nil
}

// insist starts a watch, again and again until it starts or ctx ends.
func (w *Watcher) insist(ctx context.Context, start func(context.Context) error) {
	backoff := wait.Backoff{Duration: retryMin, Factor: 2, Jitter: 0.1, Steps: math.MaxInt32, Cap: retryMax}
	for {
		err := start(ctx)
		if err == nil {
			w.toStart.Add(-1)
			return
		}
		w.log.Warn("cannot watch yet; trying again", "err", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(backoff.Step()):
		}
	}
}

func same[O any](o *O) *O { return o }

// watch keeps a table equal to the objects of one kind.
func watch[O, V any, P interface {
	*O
	client.Object
}](ctx context.Context, w *Watcher, kind P, into table[V], convert func(*O) *V) error {
	informer, err := w.cache.GetInformer(ctx, kind, cache.BlockUntilSynced(false))
	if err != nil {
		return fmt.Errorf("watch %T: %w", kind, err)
	}
	set := func(obj any) {
		o := (*O)(obj.(P))
		w.update(func() bool { return into.set(client.ObjectKeyFromObject(P(o)), convert(o)) })
	}
	registration, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    set,
		UpdateFunc: func(_, obj any) { set(obj) },
		DeleteFunc: func(obj any) {
			if gone, ok := obj.(toolscache.DeletedFinalStateUnknown); ok {
				obj = gone.Obj
			}
			o := obj.(P)
			w.update(func() bool { return into.remove(client.ObjectKeyFromObject(o)) })
		},
	})
	if err != nil {
		return fmt.Errorf("watch %T: %w", kind, err)
	}
	w.mu.Lock()
	w.synced = append(w.synced, registration.HasSynced)
	w.mu.Unlock()
	return nil
}

func (t table[V]) set(key types.NamespacedName, v *V) bool {
	if old, ok := t[key]; ok && unchanged(old, v) {
		return false
	}
	t[key] = v
	return true
}

func (t table[V]) remove(key types.NamespacedName) bool {
	_, ok := t[key]
	delete(t, key)
	return ok
}

// unchanged compares what policy depends on: the spec of an object that is kept
// whole, and all of one that was reduced.
func unchanged(a, b any) bool {
	switch a := a.(type) {
	case *networkingv1.NetworkPolicy:
		return equality.Semantic.DeepEqual(a.Spec, b.(*networkingv1.NetworkPolicy).Spec)
	case *policyv1alpha2.ClusterNetworkPolicy:
		return equality.Semantic.DeepEqual(a.Spec, b.(*policyv1alpha2.ClusterNetworkPolicy).Spec)
	case *v1alpha1.TierRole:
		return equality.Semantic.DeepEqual(a.Spec, b.(*v1alpha1.TierRole).Spec)
	default:
		return reflect.DeepEqual(a, b)
	}
}

func (w *Watcher) update(change func() bool) {
	w.mu.Lock()
	changed := change()
	if changed {
		w.snapshot = nil
	}
	w.mu.Unlock()
	if changed {
		select {
		case w.changed <- struct{}{}:
		default: // one is waiting already
		}
	}
}

// Changed receives after something changed that policy can depend on. Several
// changes may be told as one. It has one reader.
func (w *Watcher) Changed() <-chan struct{} { return w.changed }

// Synced says whether the snapshot holds all that existed at the start.
func (w *Watcher) Synced() bool {
	if !w.started.Load() || w.toStart.Load() > 0 {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, synced := range w.synced {
		if !synced() {
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
			return fmt.Errorf("wait for the object cache: %w", ctx.Err())
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
		w.snapshot = &compile.Snapshot{
			Pods: w.pods.values(), Namespaces: w.namespaces.values(), Nodes: w.nodes.values(),
			NetworkPolicies:        w.networkPolicies.values(),
			ClusterNetworkPolicies: w.clusterNetworkPolicies.values(),
			TierRoles:              w.tierRoles.values(),
			Defaults:               w.defaults,
		}
	}
	return w.snapshot
}

// NeedLeaderElection is false: every replica watches (controller-runtime, manager.LeaderElectionRunnable).
func (w *Watcher) NeedLeaderElection() bool { return false }
