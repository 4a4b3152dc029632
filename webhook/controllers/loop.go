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
	// pause is the shortest time between two passes: changes come in bursts.
	pause = 250 * time.Millisecond
	// interval is how often there is a pass although nothing was heard.
	interval = 30 * time.Second
	// retry is how soon there is one after a pass that failed.
	retry = 2 * time.Second
	// patience is how long a pass waits for a list: one that Cache cannot fill must
	// not keep the loop from the rest of its work.
	patience = 5 * time.Second
)

// States says what became of Guardrails; guardrails.GuardrailStore does.
type States interface {
	State(uid types.UID) (guardrails.GuardrailState, bool)
}

// Loop makes passes over the cluster, one after changes and now and then one
// more. One replica at a time does.
type Loop struct {
	Snapshots snapshot.SnapshotReader
	States    States
	// Cache holds TierRoles, Guardrails and ClusterNetworkPolicies, status and all.
	Cache cache.Cache
	// Client reads them from Cache, and writes.
	Client client.Client
	// Events are written by Recorder.
	Recorder events.EventRecorder
	// GuardrailsChanged receives after States changed.
	GuardrailsChanged <-chan struct{}
	// Bundle says how it stands with the bundle of guardrails; nil where there is none.
	Bundle func() bundle.State
	Log    *slog.Logger

	heard   chan struct{}       // something changed in Cache
	hearing map[string]bool     // the kinds that are listened to
	failing map[types.UID]delay // pods that could not be labelled
	told    told                // what was said of policies
}

// NeedLeaderElection is true: one replica is enough.
func (*Loop) NeedLeaderElection() bool { return true }

// Start makes passes until ctx ends.
func (l *Loop) Start(ctx context.Context) error {
	l.heard, l.hearing = make(chan struct{}, 1), map[string]bool{}
	for {
		next := l.Snapshots.Next() // before the pass, so that no change is missed
		wait := l.pass(ctx)
		if !sleep(ctx, pause) || !l.await(ctx, next, wait) {
			return nil
		}
	}
}

// sleep waits for a time; false where ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// await waits for a change, but no longer than a time; false where ctx ended.
func (l *Loop) await(ctx context.Context, next <-chan struct{}, limit time.Duration) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
	case <-next:
	case <-l.heard:
	case <-l.GuardrailsChanged:
	}
	return true
}

// pass makes one, and says how soon the next one is to be.
func (l *Loop) pass(ctx context.Context) time.Duration {
	errs := []error{l.listen(ctx)}
	wait := retry
	if l.Snapshots.Synced() {
		snapshot := l.Snapshots.Snapshot()
		l.networkPolicies(snapshot)
		if err := l.repair(ctx, snapshot); err != nil && ctx.Err() == nil {
			l.Log.WarnContext(ctx, "not every pod shows its role; will try again", "pods", len(l.failing), "err", err)
		}
		errs = append(errs, l.tierRoles(ctx, snapshot))
		wait = l.due()
	}
	errs = append(errs, l.clusterNetworkPolicies(ctx), l.guardrails(ctx))
	if err := errors.Join(errs...); err != nil && ctx.Err() == nil {
		l.Log.WarnContext(ctx, "not every status is as it should be; will try again", "err", err)
		wait = min(wait, retry)
	}
	return wait
}

// listen makes changes of what Cache holds wake the loop. The snapshots may hear
// of a change before Cache does: the pass after their news alone would see the
// object as it was.
func (l *Loop) listen(ctx context.Context) error {
	var errs []error
	for _, kind := range []client.Object{&v1alpha1.TierRole{}, &policyv1alpha2.ClusterNetworkPolicy{}} {
		name := fmt.Sprintf("%T", kind)
		if l.hearing[name] {
			continue
		}
		if err := l.listenTo(ctx, kind); err != nil {
			errs = append(errs, fmt.Errorf("watch %s: %w", name, err))
			continue
		}
		l.hearing[name] = true
	}
	return errors.Join(errs...)
}

func (l *Loop) listenTo(ctx context.Context, kind client.Object) error {
	informer, err := l.Cache.GetInformer(ctx, kind, cache.BlockUntilSynced(false))
	if err != nil {
		return err
	}
	mark := func(any) {
		select {
		case l.heard <- struct{}{}:
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

// list lists objects from Cache.
func (l *Loop) list(ctx context.Context, into client.ObjectList) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := l.Client.List(ctx, into); err != nil {
		return fmt.Errorf("list %T: %w", into, err)
	}
	return nil
}

// each calls do for every item, and goes on after errors.
func each[T any](items []T, do func(*T) error) error {
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
