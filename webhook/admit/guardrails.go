package admit

import (
	"context"
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/rego"
)

// GuardrailHandler refuses Guardrails that could not come into force.
type GuardrailHandler struct {
	*Reviewer
	Decoder admission.Decoder
	// Bundle returns the bundle in use, or nil; the function may be nil.
	Bundle func() *rego.Bundle
	// Existing returns the names of existing objects that the guardrails would deny; it may be nil.
	Existing func(ctx context.Context, guardrails *rego.Engine) ([]string, error)
}

// existingTimeout bounds the call of Existing, on which only a warning depends.
const existingTimeout = 3 * time.Second

func (h *GuardrailHandler) currentBundle() *rego.Bundle {
	if h.Bundle == nil {
		return nil
	}
	return h.Bundle()
}

// Handle validates a Guardrail's CREATE or UPDATE.
func (h *GuardrailHandler) Handle(ctx context.Context, req admission.Request) admission.Response {
	return h.withSlot(ctx, req, func(ctx context.Context) admission.Response { return h.review(ctx, req) })
}

func (h *GuardrailHandler) review(ctx context.Context, req admission.Request) admission.Response {
	g := &v1alpha1.Guardrail{}
	if err := h.Decoder.Decode(req, g); err != nil {
		return badRequest(fmt.Errorf("read the Guardrail: %w", err))
	}
	if g.DeletionTimestamp != nil {
		return admission.Allowed("") // finalizers can always be removed
	}
	if errs := rego.Validate(ctx, g, h.currentBundle()); len(errs) > 0 {
		return denyRequest(fieldReasons("Guardrail "+g.Name, errs)...)
	}
	warnings := h.existingViolationWarnings(ctx, req, g)
	if err := ctx.Err(); err != nil {
		return internalError(fmt.Errorf("validate Guardrail %s: %w", g.Name, err))
	}
	return admission.Allowed("").WithWarnings(warnings...)
}

// existingViolationWarnings returns warnings about the existing objects that a guardrail would deny.
func (h *GuardrailHandler) existingViolationWarnings(ctx context.Context, req admission.Request, g *v1alpha1.Guardrail) []string {
	old := &v1alpha1.Guardrail{}
	known := len(req.OldObject.Raw) > 0 && h.Decoder.DecodeRaw(req.OldObject, old) == nil
	if h.Existing == nil || known && equality.Semantic.DeepEqual(old.Spec, g.Spec) {
		return nil
	}
	prepared, err := rego.Prepare(ctx, g, h.currentBundle())
	if err != nil {
		return []string{err.Error()} // unlikely, since Validate compiled it
	}
	ctx, cancel := context.WithTimeout(ctx, existingTimeout)
	defer cancel()
	names, err := h.Existing(ctx, rego.EngineOf([]*rego.Prepared{prepared}))
	switch {
	case err != nil:
		return []string{fmt.Sprintf("Guardrail %s: what exists could not be judged in time (%v); its status will tell", g.Name, err)}
	case len(names) == 0:
		return nil
	default:
		return []string{fmt.Sprintf("Guardrail %s would %s %d that exist: %s; they stay as they are", g.Name, enforcementVerb(g.Spec.Enforcement), len(names), joinFirst(names))}
	}
}

func enforcementVerb(e v1alpha1.Enforcement) string {
	switch e {
	case v1alpha1.EnforceWarn:
		return "warn of"
	case v1alpha1.EnforceAudit:
		return "find"
	default:
		return "deny"
	}
}

// joinFirst joins the first few names, and counts the others.
func joinFirst(names []string) string {
	const few = 5
	if len(names) <= few {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d others", strings.Join(names[:few], ", "), len(names)-few)
}
