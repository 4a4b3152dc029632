package admit

import (
	"context"
	"errors"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/tierwall/tierwall/webhook/snapshot"
)

// NamespaceHandler reviews changes of namespaces' labels by what they open.
type NamespaceHandler struct {
	*Reviewer
	Decoder admission.Decoder
}

// Handle reviews the UPDATE of a namespace, of its status or its finalizers.
func (h *NamespaceHandler) Handle(ctx context.Context, req admission.Request) admission.Response {
	if _, err := snapshot.ReadSynced(h.Snapshots); err != nil {
		return internalError(err)
	}
	old, now, err := decodeOldAndNew[corev1.Namespace](h.Decoder, req)
	switch {
	case err != nil:
		return badRequest(err)
	case old == nil || now == nil:
		return badRequest(errors.New("only changes of a namespace that stays are judged"))
	}
	return h.JudgeLabels(ctx, req, namespaceLabelChange(old, now))
}
