package webhook

import (
	"context"
	"fmt"

	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/policy/roles"
)

// TierRoles refuses TierRoles that cannot be understood.
type TierRoles struct {
	Decoder admission.Decoder
}

// Handle answers a TierRole's CREATE and UPDATE.
func (h *TierRoles) Handle(_ context.Context, req admission.Request) admission.Response {
	tr := &v1alpha1.TierRole{}
	if err := h.Decoder.Decode(req, tr); err != nil {
		return malformed(fmt.Errorf("read the TierRole: %w", err))
	}
	if tr.DeletionTimestamp != nil {
		return admission.Allowed("") // nothing may keep a finalizer from being removed
	}
	if errs := roles.Validate(tr); len(errs) > 0 {
		return refused(fieldReasons("TierRole "+tr.Name, errs)...)
	}
	return admission.Allowed("")
}
