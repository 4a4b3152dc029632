package webhook

import (
	"context"
	"fmt"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/rego"
)

// Guardrails refuses Guardrails that could not come into force.
type Guardrails struct {
	Decoder admission.Decoder
	// Limit is how long a validation may take.
	Limit time.Duration
	// Bundle is the one in use, or nil; without the function there is none.
	Bundle func() *rego.Bundle
}

func (h *Guardrails) bundle() *rego.Bundle {
	if h.Bundle == nil {
		return nil
	}
	return h.Bundle()
}

// Handle answers a Guardrail's CREATE and UPDATE.
func (h *Guardrails) Handle(ctx context.Context, req admission.Request) admission.Response {
	ctx, cancel := context.WithTimeout(ctx, h.Limit)
	defer cancel()
	g := &v1alpha1.Guardrail{}
	if err := h.Decoder.Decode(req, g); err != nil {
		return malformed(fmt.Errorf("read the Guardrail: %w", err))
	}
	if g.DeletionTimestamp != nil {
		return admission.Allowed("") // nothing may keep a finalizer from being removed
	}
	if errs := rego.Validate(ctx, g, h.bundle()); len(errs) > 0 {
		return refused(fieldReasons("Guardrail "+g.Name, errs)...)
	}
	if err := ctx.Err(); err != nil {
		return unable(fmt.Errorf("validate Guardrail %s: %w", g.Name, err))
	}
	return admission.Allowed("")
}
