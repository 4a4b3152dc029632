package admit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/policy/effect"
	"github.com/tierwall/tierwall/rego"
	"github.com/tierwall/tierwall/webhook/peer"
	"github.com/tierwall/tierwall/webhook/snapshot"
)

// Judge evaluates the guardrails in force.
type Judge interface {
	Judge(ctx context.Context, in rego.Input) (rego.Result, error)
}

// Reviewer reviews changes by what they open. All handlers share one, so that concurrent
// changes of different kinds are reviewed with each other in flight.
type Reviewer struct {
	Snapshots  snapshot.SnapshotReader
	Guardrails Judge
	// Terminating reports whether a namespace is being deleted.
	Terminating func(ctx context.Context, namespace string) (bool, error)
	// Limit bounds the duration of a review, from waiting for a slot and decoding the request on.
	Limit time.Duration
	// Slots bounds concurrent reviews; nil means no bound.
	Slots *Slots
	Log   *slog.Logger

	inflight   inflightChanges
	calculator effect.Calculator
}

// withSlot runs a review, including decoding the request, with a slot and within Limit.
func (r *Reviewer) withSlot(ctx context.Context, req admission.Request, review func(context.Context) admission.Response) admission.Response {
	ctx, cancel := context.WithTimeout(ctx, r.Limit)
	defer cancel()
	if r.Slots != nil {
		release, err := r.Slots.acquire(ctx, requestLane(req), requestTenant(req))
		if err != nil {
			return internalError(err)
		}
		defer release()
	}
	return review(ctx)
}

// Judge reviews a change, and tracks it while it is in flight. The caller holds a slot. A change is refused
// if a guardrail denies it or if it cannot be judged.
func (r *Reviewer) Judge(ctx context.Context, req admission.Request, c change) admission.Response {
	if isDryRun(req) {
		return r.judgeStates(ctx, req, c, r.inflight.statesFor(peer.IdentityFrom(ctx), c, r.Snapshots))
	}
	c.size = len(req.Object.Raw) + len(req.OldObject.Raw)
	states, self, err := r.inflight.track(peer.IdentityFrom(ctx), c, r.Snapshots)
	if err != nil {
		return internalError(err)
	}
	response := r.judgeStates(ctx, req, c, states)
	if response.Allowed {
		r.inflight.keepAdmitted(self, guardrailRequest(req))
	} else {
		r.inflight.removeChange(self)
	}
	return response
}

// JudgeLabels reviews a change of labels. Most such changes can open nothing; only the others take a slot.
func (r *Reviewer) JudgeLabels(ctx context.Context, req admission.Request, c change) admission.Response {
	if !c.mattersInAny(r.inflight.statesFor(peer.IdentityFrom(ctx), c, r.Snapshots)) {
		r.trackLabels(ctx, req, c)
		return admission.Allowed("")
	}
	return r.withSlot(ctx, req, func(ctx context.Context) admission.Response { return r.Judge(ctx, req, c) })
}

// trackLabels tracks a change of labels that no policy selects by, for concurrent policies that do. A change that
// is not tracked for want of room is covered by the hypothetical pods of those policies.
func (r *Reviewer) trackLabels(ctx context.Context, req admission.Request, c change) {
	if isDryRun(req) {
		return
	}
	c.size = len(req.Object.Raw) + len(req.OldObject.Raw)
	if _, self, err := r.inflight.track(peer.IdentityFrom(ctx), c, r.Snapshots); err == nil {
		r.inflight.keepAdmitted(self, guardrailRequest(req))
	}
}

// judgeStates judges a change in each of the states, until the change is denied in one.
func (r *Reviewer) judgeStates(ctx context.Context, req admission.Request, c change, states []hypothesis) admission.Response {
	var warned []string
	for _, state := range states {
		if !c.matters(state.Snapshot) || state.assumption != "" && effect.CanOnlyClose(c.applyTo(state.Snapshot)) {
			continue
		}
		result, caveats, err := r.judgeState(ctx, req, c, state.Snapshot)
		if err != nil {
			return internalError(err)
		}
		if state.assumption == "" {
			warned = append(violationWarnings(result), caveats...)
			r.logAudited(ctx, req, result)
			recordViolations(result)
		}
		if len(result.Denials) == 0 {
			continue
		}
		if r.isNamespaceCleanup(ctx, req) {
			break
		}
		if state.assumption != "" {
			recordViolations(rego.Result{Denials: result.Denials})
		}
		return r.refuse(ctx, req, violationReasons(result.Denials, state.assumption)).WithWarnings(warned...)
	}
	return admission.Allowed("").WithWarnings(warned...)
}

func isDryRun(req admission.Request) bool { return req.DryRun != nil && *req.DryRun }

// refuse denies and logs a request.
func (r *Reviewer) refuse(ctx context.Context, req admission.Request, reasons []denialReason) admission.Response {
	response := denyRequest(reasons...)
	r.Log.InfoContext(ctx, "change refused", "operation", req.Operation, "kind", req.Kind.Kind, "namespace", req.Namespace,
		"name", req.Name, "user", req.UserInfo.Username, "dryRun", isDryRun(req), "why", response.Result.Message)
	return response
}

// logAudited logs the violations of guardrails with enforcement Audit.
func (r *Reviewer) logAudited(ctx context.Context, req admission.Request, result rego.Result) {
	for _, v := range result.Audited {
		r.Log.InfoContext(ctx, "audited", "guardrail", v.Guardrail, "operation", req.Operation, "kind", req.Kind.Kind,
			"namespace", req.Namespace, "name", req.Name, "user", req.UserInfo.Username, "dryRun", isDryRun(req), "why", v.Message)
	}
}

// judgeState evaluates the guardrails on the effect of a change in one state. If the effect is incomplete and guardrails deny
// a change that can only close, they are evaluated again without openings; the caveats say so.
func (r *Reviewer) judgeState(ctx context.Context, req admission.Request, c change, s *compile.Snapshot) (result rego.Result, caveats []string, err error) {
	before, after := c.applyTo(s)
	in := guardrailInput(req, guardrailNamespace(guardrailRequest(req), after), r.computeEffect(ctx, before, after))
	if result, err = r.evaluate(ctx, in); err != nil || len(result.Denials) == 0 || in.Effect.Complete && !in.Effect.Truncated || !effect.CanOnlyClose(before, after) {
		return result, nil, err
	}
	caveats = []string{"admitted because it can only close, though what it closes is not known completely: " + missingFacts(in.Effect)}
	in.Effect = effect.WithoutOpenings(in.Effect)
	result, err = r.evaluate(ctx, in)
	return result, caveats, err
}

func missingFacts(e effect.Effect) string {
	if e.Complete {
		return "there are more rows than are shown"
	}
	return strings.Join(e.Incomplete, "; ")
}

func (r *Reviewer) evaluate(ctx context.Context, in rego.Input) (rego.Result, error) {
	result, err := r.Guardrails.Judge(ctx, in)
	if err == nil {
		err = ctx.Err()
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return rego.Result{}, fmt.Errorf("the guardrails did not answer in time: %w", err)
	}
	if err != nil {
		return rego.Result{}, fmt.Errorf("ask the guardrails: %w", err)
	}
	return result, nil
}

// isNamespaceCleanup reports whether a policy is deleted with its namespace and selects no pod any more. No pods
// are created in a terminating namespace, and existing ones are deleted first (KEP-5080). The namespace
// controller retries until they are.
func (r *Reviewer) isNamespaceCleanup(ctx context.Context, req admission.Request) bool {
	if req.Operation != admissionv1.Delete || req.Namespace == "" || hasSubjects(r.Snapshots.Snapshot(), req.Namespace) {
		return false
	}
	terminating, err := r.Terminating(ctx, req.Namespace)
	if err != nil {
		r.Log.ErrorContext(ctx, "reading a namespace failed; judged as not terminating", "namespace", req.Namespace, "err", err)
		return false
	}
	return terminating
}

// hasSubjects reports whether a namespace has pods that policies can select.
func hasSubjects(s *compile.Snapshot, namespace string) bool {
	return slices.ContainsFunc(s.Pods, func(p *compile.Pod) bool { return p.Namespace == namespace && !p.HostNetwork && !p.Ended })
}

// computeEffect computes an effect in at most half of the remaining time, so that the guardrails have the
// other half. An effect that takes longer is marked incomplete.
func (r *Reviewer) computeEffect(ctx context.Context, before, after *compile.Snapshot) effect.Effect {
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(deadline)/2)
		defer cancel()
	}
	return r.calculator.Compute(ctx, before, after)
}

func guardrailInput(req admission.Request, namespace rego.Namespace, e effect.Effect) rego.Input {
	return rego.Input{
		Source:    rego.Admission,
		Request:   guardrailRequest(req),
		Object:    json.RawMessage(req.Object.Raw),
		OldObject: json.RawMessage(req.OldObject.Raw),
		Namespace: namespace,
		Effect:    e,
	}
}

func guardrailRequest(req admission.Request) rego.Request {
	return rego.Request{
		UID:       string(req.UID),
		Operation: string(req.Operation),
		Kind:      rego.GroupVersionKind{Group: req.Kind.Group, Version: req.Kind.Version, Kind: req.Kind.Kind},
		Namespace: req.Namespace,
		Name:      req.Name,
		DryRun:    isDryRun(req),
		UserInfo:  rego.UserInfo{Username: req.UserInfo.Username, Groups: req.UserInfo.Groups},
	}
}

// guardrailNamespace returns the namespace of the request's object, or the object itself if it is a namespace.
func guardrailNamespace(req rego.Request, s *compile.Snapshot) rego.Namespace {
	name := req.Namespace
	if req.Kind.Kind == namespaces.kind {
		name = req.Name
	}
	for _, n := range s.Namespaces {
		if n.Name == name {
			return rego.Namespace{Name: name, Labels: n.Labels}
		}
	}
	return rego.Namespace{Name: name, Labels: map[string]string{}}
}
