package webhook

import (
	"context"

	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/policy/roles"
)

// TierRoles refuses TierRoles that cannot be understood, and judges what the
// others, and those that go, open: policies say what may reach a role.
type TierRoles struct {
	*Reviewer
	Decoder admission.Decoder
}

// Handle answers a TierRole's CREATE, UPDATE and DELETE.
func (h *TierRoles) Handle(ctx context.Context, req admission.Request) admission.Response {
	return h.withSlot(ctx, req, func(ctx context.Context) admission.Response { return h.review(ctx, req) })
}

func (h *TierRoles) review(ctx context.Context, req admission.Request) admission.Response {
	old, now, err := decodeBoth[v1alpha1.TierRole](h.Decoder, req)
	if err != nil {
		return malformed(err)
	}
	switch isChanged := old == nil || now == nil || !tierRoles.same(old, now); {
	case now == nil:
	case isDeletion[v1alpha1.TierRole](req, now):
		req, now = asDeletion(req), nil
	case !isChanged && now.DeletionTimestamp != nil:
		return admission.Allowed("") // it stays, and is no other TierRole
	default:
		if errs := roles.Validate(now); len(errs) > 0 {
			return refused(fieldReasons("TierRole "+now.Name, errs)...)
		}
	}
	if _, err := current(h.Snapshots); err != nil {
		return unable(err)
	}
	if old != nil && now != nil && tierRoles.same(old, now) {
		return admission.Allowed("")
	}
	return h.Judge(ctx, req, tierRoles.change(old, now))
}
