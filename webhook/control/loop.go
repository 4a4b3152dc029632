// Package control keeps in the cluster what tierwall writes there: the role
// labels of pods, and the status of TierRoles and Guardrails. It makes what is
// there equal to what follows from the current objects, whatever happened.
package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tierwall/tierwall/webhook"
)

const (
	// pause is the shortest time between two passes: changes come in bursts.
	pause = 250 * time.Millisecond
	// interval is how often there is a pass although nothing was heard.
	interval = 30 * time.Second
	// retry is how soon there is one after a pass that failed.
	retry = 2 * time.Second
)

// States says what became of Guardrails; webhook.Engine does.
type States interface {
	State(uid types.UID) (webhook.GuardrailState, bool)
}

// Loop makes passes over the cluster, one after changes and now and then one
// more. One replica at a time does.
type Loop struct {
	Snapshots webhook.Snapshots
	States    States
	// Client reads TierRoles and Guardrails from a cache, and writes.
	Client client.Client
	// PodsChanged and GuardrailsChanged receive after Snapshots or States changed.
	PodsChanged, GuardrailsChanged <-chan struct{}
	Log                            *slog.Logger
}

// NeedLeaderElection is true: one replica is enough.
func (*Loop) NeedLeaderElection() bool { return true }

// Start makes passes until ctx ends.
func (l *Loop) Start(ctx context.Context) error {
	for {
		next := interval
		if err := l.pass(ctx); err != nil && ctx.Err() == nil {
			l.Log.WarnContext(ctx, "not everything is as it should be; will try again", "err", err)
			next = retry
		}
		if !sleep(ctx, pause, nil, nil) || !sleep(ctx, next, l.PodsChanged, l.GuardrailsChanged) {
			return nil
		}
	}
}

// sleep waits for a time or a sign; false where ctx ended.
func sleep(ctx context.Context, d time.Duration, a, b <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
	case <-a:
	case <-b:
	}
	return true
}

func (l *Loop) pass(ctx context.Context) error {
	var errs []error
	if l.Snapshots.Synced() {
		snapshot := l.Snapshots.Snapshot()
		errs = append(errs, l.repair(ctx, snapshot), l.tierRoles(ctx, snapshot))
	}
	return errors.Join(append(errs, l.guardrails(ctx))...)
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
