package admit

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/events"

	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/policy/effect"
	"github.com/tierwall/tierwall/rego"
)

const (
	// recheckDelay is how long after a change happened it is reviewed again. The watches of other kinds of objects
	// may be behind.
	recheckDelay = 2 * time.Second
	// recheckRest is how long rechecks rest after each, as a multiple of its duration.
	recheckRest = 4
	// maxSettled bounds the changes that wait for a recheck, and maxHandled the outcomes that this replica admitted.
	maxSettled = 4096
	maxHandled = 16384
)

// settledChanges are admitted changes that happened, and that are not rechecked yet.
type settledChanges struct {
	changes []settledChange
	// handled are the outcomes that this replica admitted, until they can no longer be in flight. It reviewed them with
	// each other in flight.
	handled map[outcome]time.Time
	// dropped counts changes that there was no room for.
	dropped int
}

// settledChange is a change that a snapshot showed at a time.
type settledChange struct {
	*inflightChange
	shown time.Time
}

func (s *settledChanges) add(c *inflightChange, shown time.Time) {
	if c.isPod() {
		return // a policy's review has hypothetical pods with any labels
	}
	if len(s.changes) == maxSettled {
		s.dropped++
		return
	}
	s.changes = append(s.changes, settledChange{c, shown})
}

func (s *settledChanges) markHandled(c *inflightChange) {
	if c.isPod() {
		return
	}
	if len(s.handled) >= maxHandled {
		s.handled = nil // they are rechecked in vain
	}
	if s.handled == nil {
		s.handled = map[outcome]time.Time{}
	}
	s.handled[c.outcome()] = c.until
}

func (c change) isPod() bool { return strings.HasPrefix(c.object, pods.kind+" ") }

// policiesOf returns what of a snapshot a recheck compares.
func policiesOf(s *compile.Snapshot) *compile.Snapshot {
	return &compile.Snapshot{Namespaces: s.Namespaces, NetworkPolicies: s.NetworkPolicies,
		ClusterNetworkPolicies: s.ClusterNetworkPolicies, TierRoles: s.TierRoles}
}

// takeSettled returns the changes that are due for a recheck, in groups that depend on each other, and how many
// there was no room for.
func (f *inflightChanges) takeSettled(clock time.Time) (groups [][]settledChange, dropped int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var later []settledChange
	byScope := map[string][]settledChange{}
	for _, c := range f.settled.changes {
		if clock.Sub(c.shown) < recheckDelay {
			later = append(later, c)
			continue
		}
		scope := ""
		if c.isNetworkPolicy {
			scope = c.namespace
		}
		byScope[scope] = append(byScope[scope], c)
	}
	f.settled.changes, dropped, f.settled.dropped = later, f.settled.dropped, 0
	for _, group := range byScope {
		groups = append(groups, group)
	}
	return groups, dropped
}

// notHandledHere returns those of the changes that this replica has not admitted.
func (f *inflightChanges) notHandledHere(changes []change, clock time.Time) []change {
	f.mu.Lock()
	defer f.mu.Unlock()
	for outcome, until := range f.settled.handled {
		if clock.After(until.Add(inflightLifetime)) {
			delete(f.settled.handled, outcome)
		}
	}
	return slices.DeleteFunc(changes, func(c change) bool {
		_, handled := f.settled.handled[c.outcome()]
		return handled
	})
}

// Rechecker reviews admitted changes again after they happened, together with changes that other replicas admitted at
// the same time. A replica does not know what others have in flight, so two replicas may admit changes that a guardrail
// denies together. What it finds cannot be undone; it is logged, counted, and written as an Event.
type Rechecker struct {
	*Reviewer
	// Recorder may be nil.
	Recorder events.EventRecorder
}

// NeedLeaderElection returns false: each replica rechecks what it admitted.
func (*Rechecker) NeedLeaderElection() bool { return false }

// Start rechecks until ctx ends.
func (r *Rechecker) Start(ctx context.Context) error {
	tick := time.NewTicker(recheckDelay)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			r.recheckSettled(ctx)
		}
	}
}

func (r *Rechecker) recheckSettled(ctx context.Context) {
	r.inflight.prune(r.Snapshots)
	groups, dropped := r.inflight.takeSettled(time.Now())
	if dropped > 0 {
		r.Log.WarnContext(ctx, "too many changes happened at once; some are not reviewed together with those of other replicas", "changes", dropped)
	}
	for _, group := range groups {
		start := time.Now()
		if err := r.recheck(ctx, group); err != nil && ctx.Err() == nil {
			r.Log.WarnContext(ctx, "reviewing an admitted change again failed", "object", group[0].object, "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(recheckRest * time.Since(start)):
		}
	}
}

// recheck reviews changes of one scope as one, together with the changes that other replicas admitted meanwhile.
func (r *Rechecker) recheck(ctx context.Context, group []settledChange) error {
	now, base, last := r.Snapshots.Snapshot(), group[0].base, group[len(group)-1]
	others := r.inflight.notHandledHere(changesSince(base, now, last.change), time.Now())
	if len(others) == 0 {
		return nil
	}
	before := now
	for _, o := range others {
		before = o.variants[0].set(before)
	}
	for _, c := range slices.Backward(group) {
		before = c.variants[0].set(before)
	}
	if effect.CanOnlyClose(before, now) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, r.Limit)
	defer cancel()
	in := rego.Input{Source: rego.Admission, Request: last.request, Namespace: guardrailNamespace(last.request, now)}
	var err error
	if in.OldObject, err = marshalValue(last.variants[0].value); err != nil {
		return err
	}
	if in.Object, err = marshalValue(last.variants[len(last.variants)-1].value); err != nil {
		return err
	}
	in.Effect = r.computeEffect(ctx, before, now)
	result, err := r.evaluate(ctx, in)
	if err != nil {
		return err
	}
	for _, v := range result.Denials {
		r.report(ctx, last, others, v)
	}
	return nil
}

func marshalValue(value any) (json.RawMessage, error) {
	if value == nil {
		return nil, nil
	}
	text, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("marshal an admitted object: %w", err)
	}
	return text, nil
}

func (r *Rechecker) report(ctx context.Context, c settledChange, others []change, v rego.Violation) {
	names := make([]string, 0, len(others))
	for _, o := range others {
		names = append(names, o.object)
	}
	missedViolations.WithLabelValues(v.Guardrail).Inc()
	r.Log.ErrorContext(ctx, "changes that several replicas admitted at once violate a guardrail together", "guardrail", v.Guardrail,
		"object", c.object, "operation", c.request.Operation, "user", c.request.UserInfo.Username, "with", joinFirst(names), "why", v.Message)
	if r.Recorder == nil {
		return
	}
	kind := c.request.Kind
	regarding := &corev1.ObjectReference{APIVersion: apiVersion(kind), Kind: kind.Kind, Namespace: c.request.Namespace, Name: c.request.Name}
	r.Recorder.Eventf(regarding, nil, corev1.EventTypeWarning, "GuardrailViolatedTogether", "Recheck", "Guardrail %s: %s (together with the change of %s)",
		v.Guardrail, shortenLine(v.Message), joinFirst(names))
}

func apiVersion(k rego.GroupVersionKind) string {
	if k.Group == "" {
		return k.Version
	}
	return k.Group + "/" + k.Version
}

// changesSince returns the changes from the policies of one snapshot to those of another that a change can depend on,
// but not those of its own object.
func changesSince(base, now *compile.Snapshot, c change) []change {
	inScope := func(o change) bool {
		return o.object != c.object && (!c.isNetworkPolicy || !o.isNetworkPolicy || o.namespace == c.namespace)
	}
	scope := ""
	if c.isNetworkPolicy {
		scope = c.namespace
	}
	return slices.DeleteFunc(slices.Concat(
		networkPolicies.changesSince(base, now, scope),
		clusterNetworkPolicies.changesSince(base, now, ""),
		tierRoles.changesSince(base, now, ""),
		namespaces.changesSince(base, now, ""),
	), func(o change) bool { return !inScope(o) })
}

// changesSince returns the changes of the kind's objects in one namespace, or in all if it is empty.
func (k objectKind[T]) changesSince(base, now *compile.Snapshot, namespace string) []change {
	old, current := *k.list(base), *k.list(now)
	if len(old) == len(current) && (len(old) == 0 || &old[0] == &current[0]) {
		return nil
	}
	inNamespace := func(o *T) bool { return namespace == "" || k.key(o).Namespace == namespace }
	unseen := map[string]*T{}
	for _, o := range old {
		if inNamespace(o) {
			unseen[k.key(o).String()] = o
		}
	}
	var out []change
	for _, o := range current {
		if !inNamespace(o) {
			continue
		}
		key := k.key(o).String()
		before := unseen[key]
		delete(unseen, key)
		if before == nil || before != o && !k.same(before, o) {
			out = append(out, k.newChange(before, o))
		}
	}
	for _, o := range unseen {
		out = append(out, k.newChange(o, nil))
	}
	return out
}
