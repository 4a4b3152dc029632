package admit

import (
	"context"

	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/policy/roles"
	"github.com/tierwall/tierwall/webhook/snapshot"
)

// TierRoleHandler validates TierRoles, and reviews their changes by what they open, since
// policies select pods by role.
type TierRoleHandler struct {
	*Reviewer
	Decoder admission.Decoder
}

// Handle reviews a TierRole's CREATE, UPDATE or DELETE.
func (h *TierRoleHandler) Handle(ctx context.Context, req admission.Request) admission.Response {
	return h.withSlot(ctx, req, func(ctx context.Context) admission.Response { return h.review(ctx, req) })
}

func (h *TierRoleHandler) review(ctx context.Context, req admission.Request) admission.Response {
	old, now, err := decodeOldAndNew[v1alpha1.TierRole](h.Decoder, req)
	if err != nil {
		return badRequest(err)
	}
	switch isChanged := old == nil || now == nil || !tierRoles.same(old, now); {
	case now == nil:
	case isDeletion[v1alpha1.TierRole](req, now):
		req, now = asDeletion(req), nil
	case !isChanged && now.DeletionTimestamp != nil:
		return admission.Allowed("") // only metadata changes, and finalizers remain
	default:
		if errs := roles.Validate(now); len(errs) > 0 {
			return denyRequest(fieldReasons("TierRole "+now.Name, errs)...)
		}
	}
	if _, err := snapshot.ReadSynced(h.Snapshots); err != nil {
		return internalError(err)
	}
	if old != nil && now != nil && tierRoles.same(old, now) {
		return admission.Allowed("")
	}
	return h.Judge(ctx, req, tierRoles.newChange(old, now))
}
