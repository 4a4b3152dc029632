package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/policy/effect"
	"github.com/tierwall/tierwall/rego"
)

// Judge says what the guardrails in force say of a change.
type Judge interface {
	Judge(ctx context.Context, in rego.Input) (rego.Result, error)
}

// Court judges changes, of whatever kind of object, by what they open. Handlers
// share one, so that changes of several kinds that come together are judged together.
type Court struct {
	Snapshots  Snapshots
	Guardrails Judge
	// Terminating says whether a namespace is being deleted.
	Terminating func(ctx context.Context, namespace string) (bool, error)
	// Limit is how long a judgement may take, the wait for its turn included.
	Limit time.Duration
	// Turns has room for the judgements that may go on at once: they cost memory and
	// processor time, and many users may ask. Nil is no bound.
	Turns chan struct{}
	Log   *slog.Logger

	recent recent
	memory effect.Memory
}

// Judge answers a change: it is refused where a guardrail denies it, and where it cannot be judged.
func (h *Court) Judge(ctx context.Context, req admission.Request, c change) admission.Response {
	ctx, cancel := context.WithTimeout(ctx, h.Limit)
	defer cancel()
	now, likely, self := h.recent.join(c, h.Snapshots)
	answer := h.judged(ctx, req, c, now, likely)
	if answer.Allowed && !isDryRun(req) {
		h.recent.keep(self)
	} else {
		h.recent.forget(self)
	}
	return answer
}

// judged is what the guardrails say of a change to the cluster as it is now, and
// as it is likely to be in a moment.
func (h *Court) judged(ctx context.Context, req admission.Request, c change, now, likely *compile.Snapshot) admission.Response {
	if !c.matters(now) && (likely == now || !c.matters(likely)) {
		return admission.Allowed("")
	}
	if err := h.turn(ctx); err != nil {
		return unable(err)
	}
	defer h.done()
	result, err := h.ask(ctx, req, c, now)
	if err == nil && len(result.Denials) == 0 && likely != now {
		result, err = h.ask(ctx, req, c, likely)
	}
	if err != nil {
		return unable(err)
	}
	count(result)
	h.tell(ctx, req, result)
	if len(result.Denials) > 0 && !h.goesWithNamespace(ctx, req) {
		return h.refuse(ctx, req, violationReasons(result.Denials)).WithWarnings(warnings(result)...)
	}
	return admission.Allowed("").WithWarnings(warnings(result)...)
}

func isDryRun(req admission.Request) bool { return req.DryRun != nil && *req.DryRun }

// refuse denies a request, and tells so in the log.
func (h *Court) refuse(ctx context.Context, req admission.Request, reasons []reason) admission.Response {
	answer := refused(reasons...)
	h.Log.InfoContext(ctx, "change refused", "operation", req.Operation, "kind", req.Kind.Kind, "namespace", req.Namespace,
		"name", req.Name, "user", req.UserInfo.Username, "dryRun", isDryRun(req), "why", answer.Result.Message)
	return answer
}

// tell has in the log what guardrails that only audit have found.
func (h *Court) tell(ctx context.Context, req admission.Request, result rego.Result) {
	for _, v := range result.Audited {
		h.Log.InfoContext(ctx, "audited", "guardrail", v.Guardrail, "operation", req.Operation, "kind", req.Kind.Kind,
			"namespace", req.Namespace, "name", req.Name, "user", req.UserInfo.Username, "dryRun", isDryRun(req), "why", v.Message)
	}
}

// turn waits until a judgement may begin; done ends it.
func (h *Court) turn(ctx context.Context) error {
	if h.Turns == nil {
		return nil
	}
	select {
	case h.Turns <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("too many changes are judged at once; try again in a moment: %w", ctx.Err())
	}
}

func (h *Court) done() {
	if h.Turns != nil {
		<-h.Turns
	}
}

// ask asks the guardrails about the effect of a change to the cluster.
func (h *Court) ask(ctx context.Context, req admission.Request, c change, s *compile.Snapshot) (rego.Result, error) {
	before, after := c.on(s)
	result, err := h.Guardrails.Judge(ctx, guardrailInput(req, namespaceOf(req, after), h.effectOf(ctx, before, after)))
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

// goesWithNamespace says whether a policy is deleted because its namespace is.
// To refuse that would keep the namespace from ever going.
func (h *Court) goesWithNamespace(ctx context.Context, req admission.Request) bool {
	if req.Operation != admissionv1.Delete || req.Namespace == "" {
		return false
	}
	terminating, err := h.Terminating(ctx, req.Namespace)
	if err != nil {
		h.Log.ErrorContext(ctx, "cannot tell whether a namespace is being deleted", "namespace", req.Namespace, "err", err)
		return false
	}
	return terminating
}

// effectOf leaves the guardrails half of the time that is left: of an effect that
// takes longer they learn that it is not complete.
func (h *Court) effectOf(ctx context.Context, before, after *compile.Snapshot) effect.Effect {
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(deadline)/2)
		defer cancel()
	}
	return h.memory.Of(ctx, before, after)
}

func guardrailInput(req admission.Request, namespace rego.Namespace, e effect.Effect) rego.Input {
	return rego.Input{
		Source: rego.Admission,
		Request: rego.Request{
			UID:       string(req.UID),
			Operation: string(req.Operation),
			Kind:      rego.GroupVersionKind{Group: req.Kind.Group, Version: req.Kind.Version, Kind: req.Kind.Kind},
			Namespace: req.Namespace,
			Name:      req.Name,
			DryRun:    isDryRun(req),
			UserInfo:  rego.UserInfo{Username: req.UserInfo.Username, Groups: req.UserInfo.Groups},
		},
		Object:    json.RawMessage(req.Object.Raw),
		OldObject: json.RawMessage(req.OldObject.Raw),
		Namespace: namespace,
		Effect:    e,
	}
}

// namespaceOf is the object's namespace, and of a namespace itself.
func namespaceOf(req admission.Request, s *compile.Snapshot) rego.Namespace {
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

func violationReasons(violations []rego.Violation) []reason {
	out := make([]reason, 0, len(violations))
	for _, v := range violations {
		out = append(out, reason{v.Path, violationText(v)})
	}
	return out
}

func warnings(r rego.Result) []string {
	var out []string
	for _, v := range r.Warnings {
		out = append(out, violationText(v))
	}
	return out
}

func violationText(v rego.Violation) string {
	if v.Path == "" {
		return fmt.Sprintf("Guardrail %s: %s", v.Guardrail, v.Message)
	}
	return fmt.Sprintf("Guardrail %s: %s (%s)", v.Guardrail, v.Message, v.Path)
}
