package audit

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/rego"
	"github.com/tierwall/tierwall/webhook/guardrails"
	"github.com/tierwall/tierwall/webhook/snapshot"
)

const (
	// minInterval is the minimum time between audits, and between checks for changes.
	minInterval = 5 * time.Second
	// restFactor is how long an audit rests after each piece of work, as a multiple of the work. It
	// limits the audit to a fifth of a processor.
	restFactor = 4
	// retryInterval is the time between an audit that failed and the next.
	retryInterval = 30 * time.Second
	// refreshInterval is the time between audits without changes. They restore deleted reports, and
	// write the first ones after their CRDs are installed.
	refreshInterval = 10 * time.Minute
)

// GuardrailStates reads the guardrails in force. guardrails.GuardrailStore implements it.
type GuardrailStates interface {
	// InForce returns nil until guardrails are loaded, and another engine when they change.
	InForce() *rego.Engine
	State(uid types.UID) (guardrails.GuardrailState, bool)
}

// Auditor audits the existing objects after changes. Only the leader runs it.
type Auditor struct {
	Snapshots  snapshot.SnapshotReader
	Guardrails GuardrailStates
	// Client reads policies and Guardrails from a cache, and writes to the API server.
	Client client.Client
	// Reader reads reports, which are not cached.
	Reader   client.Reader
	Recorder events.EventRecorder
	Log      *slog.Logger

	lastAudited    auditedState
	lastAuditTime  time.Time // when that was
	reportedEvents eventSet
	// missingExempt are the exempt namespaces that did not exist at the last pass.
	missingExempt []string
	// reported holds the findings of each namespace's report, as JSON; empty if unknown.
	reported map[string]string
}

// auditedState identifies the input of an audit.
type auditedState struct {
	snapshot   *compile.Snapshot
	guardrails *rego.Engine
	policies   [sha256.Size]byte
}

// NeedLeaderElection returns true: only the leader audits.
func (*Auditor) NeedLeaderElection() bool { return true }

// Start audits until ctx ends.
func (a *Auditor) Start(ctx context.Context) error {
	wait := minInterval
	for sleepOrDone(ctx, wait) {
		wait = minInterval
		if err := a.auditIfChanged(ctx); err != nil && ctx.Err() == nil {
			wait = retryInterval
			failures.Inc()
			a.Log.WarnContext(ctx, "audit failed; retrying", "err", err)
		}
	}
	return nil
}

func sleepOrDone(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// auditIfChanged audits if anything changed since the last audit that succeeded, or refreshInterval passed.
func (a *Auditor) auditIfChanged(ctx context.Context) error {
	if !a.Snapshots.Synced() || a.Guardrails.InForce() == nil {
		return nil
	}
	w := Inventory{Snapshot: a.Snapshots.Snapshot()}
	a.reportExempt(ctx, w.Snapshot)
	if err := w.listPolicies(ctx, a.Client); err != nil {
		return err
	}
	now := auditedState{w.Snapshot, a.Guardrails.InForce(), w.policyDigest()}
	start := time.Now()
	if now == a.lastAudited && start.Sub(a.lastAuditTime) < refreshInterval {
		return nil
	}
	findings, err := FindViolations(ctx, w, now.guardrails, func(ctx context.Context, worked time.Duration) { sleepOrDone(ctx, restFactor*worked) })
	if err != nil {
		return err
	}
	duration.Set(time.Since(start).Seconds())
	err = errors.Join(a.writeStatuses(ctx, findings, now.guardrails), a.writeReports(ctx, findings))
	if err == nil {
		a.lastAudited, a.lastAuditTime = now, start
	}
	return err
}

// listPolicies reads the policies from a cache. They must not be changed.
func (w *Inventory) listPolicies(ctx context.Context, from client.Reader) error {
	var nps networkingv1.NetworkPolicyList
	var cnps policyv1alpha2.ClusterNetworkPolicyList
	for _, list := range []client.ObjectList{&nps, &cnps} {
		limited, cancel := context.WithTimeout(ctx, effectTimeout)
		err := from.List(limited, list, client.UnsafeDisableDeepCopy)
		cancel()
		if err != nil {
			return fmt.Errorf("list %T: %w", list, err)
		}
	}
	for i := range nps.Items {
		w.NetworkPolicies = append(w.NetworkPolicies, &nps.Items[i])
	}
	for i := range cnps.Items {
		w.ClusterNetworkPolicies = append(w.ClusterNetworkPolicies, &cnps.Items[i])
	}
	return nil
}

// policyDigest returns a digest of the policies' versions, whatever their order.
func (w *Inventory) policyDigest() [sha256.Size]byte {
	versions := make([]string, 0, len(w.NetworkPolicies)+len(w.ClusterNetworkPolicies))
	add := func(o client.Object) {
		versions = append(versions, fmt.Sprintf("%q %q", o.GetUID(), o.GetResourceVersion()))
	}
	for _, p := range w.NetworkPolicies {
		add(p)
	}
	for _, p := range w.ClusterNetworkPolicies {
		add(p)
	}
	slices.Sort(versions)
	return sha256.Sum256([]byte(strings.Join(versions, "\n")))
}
