// Package control keeps in the cluster what tierwall writes there: the role
// labels of pods, the status of TierRoles and Guardrails, and what is not
// understood of policies. It makes what is there equal to what follows from the
// current objects, whatever happened.
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
	// minInterval is the shortest time between two passes: changes come in bursts.
	minInterval = 250 * time.Millisecond
	// resyncInterval is how often there is a pass although nothing was heard.
	resyncInterval = 30 * time.Second
	// retryInterval is how soon there is one after a pass that failed.
	retryInterval = 2 * time.Second
	// listTimeout is how long a pass waits for a list: one that Cache cannot fill must
	// not keep the loop from the rest of its work.
	listTimeout = 5 * time.Second
)

// GuardrailStates says what became of Guardrails; guardrails.GuardrailStore does.
type GuardrailStates interface {
	State(uid types.UID) (guardrails.GuardrailState, bool)
}

// Reconciler makes passes over the cluster, one after changes and now and then one
// more. One replica at a time does.
type Reconciler struct {
	Snapshots snapshot.SnapshotReader
	States    GuardrailStates
	// Cache holds TierRoles, Guardrails and ClusterNetworkPolicies, status and all.
	Cache cache.Cache
	// Client reads them from Cache, and writes.
	Client client.Client
	// Events are written by Recorder.
	Recorder events.EventRecorder
	// GuardrailsChanged receives after States changed.
	GuardrailsChanged <-chan struct{}
	// Bundle says how it stands with the bundle of guardrails; nil where there is none.
	Bundle func() bundle.PollState
	Log    *slog.Logger

	cacheChanged chan struct{}            // something changed in Cache
	watchedKinds map[string]bool          // the kinds that are listened to
	failingPods  map[types.UID]retryDelay // pods that could not be labelled
	reported     reportedProblems         // what was said of policies
}

// NeedLeaderElection is true: one replica is enough.
func (*Reconciler) NeedLeaderElection() bool { return true }

// Start makes passes until ctx ends.
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

// sleepOrDone waits for a time; false where ctx ended.
func sleepOrDone(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// awaitChange waits for a change, but no longer than a time; false where ctx ended.
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

// reconcileAll makes one, and says how soon the next one is to be.
func (l *Reconciler) reconcileAll(ctx context.Context) time.Duration {
	errs := []error{l.watchKinds(ctx)}
	wait := retryInterval
	if l.Snapshots.Synced() {
		snapshot := l.Snapshots.Snapshot()
		l.reportNetworkPolicies(snapshot)
		if err := l.repairRoleLabels(ctx, snapshot); err != nil && ctx.Err() == nil {
			l.Log.WarnContext(ctx, "not every pod shows its role; will try again", "pods", len(l.failingPods), "err", err)
		}
		errs = append(errs, l.updateTierRoles(ctx, snapshot))
		wait = l.nextRepair()
	}
	errs = append(errs, l.updateClusterNetworkPolicies(ctx), l.updateGuardrails(ctx))
	if err := errors.Join(errs...); err != nil && ctx.Err() == nil {
		l.Log.WarnContext(ctx, "not every status is as it should be; will try again", "err", err)
		wait = min(wait, retryInterval)
	}
	return wait
}

// watchKinds makes changes of what Cache holds wake the loop. The snapshots may hear
// of a change before Cache does: the pass after their news alone would see the
// object as it was.
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

// listObjects lists objects from Cache.
func (l *Reconciler) listObjects(ctx context.Context, into client.ObjectList) error {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	if err := l.Client.List(ctx, into); err != nil {
		return fmt.Errorf("list %T: %w", into, err)
	}
	return nil
}

// forEach calls do for every item, and goes on after errors.
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
