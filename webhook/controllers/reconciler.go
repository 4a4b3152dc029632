// Package controllers reconciles what tierwall writes to the cluster: the role labels of pods, the
// status of TierRoles, Guardrails and ClusterNetworkPolicies, and Events. What it writes depends
// on the current objects alone.
package controllers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/webhook/bundle"
	"github.com/tierwall/tierwall/webhook/guardrails"
	"github.com/tierwall/tierwall/webhook/snapshot"
)

const (
	// minInterval is the minimum time between passes, since changes come in bursts.
	minInterval = 250 * time.Millisecond
	// resyncInterval is the time between passes without changes.
	resyncInterval = 30 * time.Second
	// retryInterval is the time between a pass that failed and the next.
	retryInterval = 2 * time.Second
	// listTimeout bounds a list, so that a kind whose cache cannot sync does not block the others.
	listTimeout = 5 * time.Second
)

// GuardrailStates reads the outcome of loading Guardrails. guardrails.GuardrailStore implements it.
type GuardrailStates interface {
	State(uid types.UID) (guardrails.GuardrailState, bool)
}

// Reconciler reconciles all objects in passes. Only the leader runs it.
type Reconciler struct {
	Snapshots snapshot.SnapshotReader
	States    GuardrailStates
	// Cache holds TierRoles, Guardrails and ClusterNetworkPolicies, with their status.
	Cache cache.Cache
	// Client reads from Cache, and writes to the API server.
	Client   client.Client
	Recorder events.EventRecorder
	// GuardrailsChanged receives after States changed.
	GuardrailsChanged <-chan struct{}
	// Bundle returns the state of the bundle of guardrails; it is nil if no bundle is configured.
	Bundle func() bundle.PollState
	Log    *slog.Logger

	cacheChanged chan struct{} // receives after a change in Cache
	watchedKinds map[string]bool
	failingPods  map[types.UID]retryDelay // pods that could not be labelled
	reported     reportedProblems
}

// NeedLeaderElection returns true: only the leader writes.
func (*Reconciler) NeedLeaderElection() bool { return true }

// Start reconciles after changes and every resyncInterval, until ctx ends.
func (l *Reconciler) Start(ctx context.Context) error {
	l.cacheChanged, l.watchedKinds = make(chan struct{}, 1), map[string]bool{}
	for {
		next := l.Snapshots.Next() // before the pass, so that no change is missed
		wait := l.reconcileAll(ctx)
		if !sleepOrDone(ctx, minInterval) || !l.awaitChange(ctx, next, wait) {
			return nil
		}
	}
}

// sleepOrDone waits for a duration, and returns false if ctx ended.
func sleepOrDone(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// awaitChange waits for a change, at most until the limit, and returns false if ctx ended.
func (l *Reconciler) awaitChange(ctx context.Context, next <-chan struct{}, limit time.Duration) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
	case <-next:
	case <-l.cacheChanged:
	case <-l.GuardrailsChanged:
	}
	return true
}

// reconcileAll makes one pass, and returns the time until the next.
func (l *Reconciler) reconcileAll(ctx context.Context) time.Duration {
	errs := []error{l.watchKinds(ctx)}
	wait := retryInterval
	if l.Snapshots.Synced() {
		snapshot := l.Snapshots.Snapshot()
		l.reportNetworkPolicies(snapshot)
		if err := l.repairRoleLabels(ctx, snapshot); err != nil && ctx.Err() == nil {
			l.Log.WarnContext(ctx, "repairing role labels failed; retrying", "pods", len(l.failingPods), "err", err)
		}
		errs = append(errs, l.updateTierRoles(ctx, snapshot))
		wait = l.nextRepair()
	}
	errs = append(errs, l.updateClusterNetworkPolicies(ctx), l.updateGuardrails(ctx))
	if err := errors.Join(errs...); err != nil && ctx.Err() == nil {
		l.Log.WarnContext(ctx, "updating statuses failed; retrying", "err", err)
		wait = min(wait, retryInterval)
	}
	return wait
}

// watchKinds starts passes after changes in Cache. Cache may be behind the snapshots, so that a pass after a
// change of the snapshot can still read the old object.
func (l *Reconciler) watchKinds(ctx context.Context) error {
	var errs []error
	for _, kind := range []client.Object{&v1alpha1.TierRole{}, &policyv1alpha2.ClusterNetworkPolicy{}} {
		name := fmt.Sprintf("%T", kind)
		if l.watchedKinds[name] {
			continue
		}
		if err := l.watchKind(ctx, kind); err != nil {
			errs = append(errs, fmt.Errorf("watch %s: %w", name, err))
			continue
		}
		l.watchedKinds[name] = true
	}
	return errors.Join(errs...)
}

func (l *Reconciler) watchKind(ctx context.Context, kind client.Object) error {
	informer, err := l.Cache.GetInformer(ctx, kind, cache.BlockUntilSynced(false))
	if err != nil {
		return err
	}
	mark := func(any) {
		select {
		case l.cacheChanged <- struct{}{}:
		default: // one is waiting already
		}
	}
	registration, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc: mark, UpdateFunc: func(_, now any) { mark(now) }, DeleteFunc: mark,
	})
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { _ = informer.RemoveEventHandler(registration) })
	return nil
}

// listObjects reads objects from Cache.
func (l *Reconciler) listObjects(ctx context.Context, into client.ObjectList) error {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	if err := l.Client.List(ctx, into); err != nil {
		return fmt.Errorf("list %T: %w", into, err)
	}
	return nil
}

// forEach calls do for every item, and continues after errors.
func forEach[T any](items []T, do func(*T) error) error {
	var errs []error
	for i := range items {
		if err := do(&items[i]); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) > 5 {
		errs = append(errs[:5], fmt.Errorf("and %d more", len(errs)-5))
	}
	return errors.Join(errs...)
}
