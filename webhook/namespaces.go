package webhook

import (
	"context"
	"errors"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

// Namespaces judges changes of namespaces' labels by what they open.
type Namespaces struct {
	*Reviewer
	Decoder admission.Decoder
}

// Handle answers the UPDATE of a namespace, of its status or its finalizers.
func (h *Namespaces) Handle(ctx context.Context, req admission.Request) admission.Response {
	if _, err := current(h.Snapshots); err != nil {
		return unable(err)
	}
	old, now, err := decodeBoth[corev1.Namespace](h.Decoder, req)
	switch {
	case err != nil:
		return malformed(err)
	case old == nil || now == nil:
		return malformed(errors.New("only changes of a namespace that stays are judged"))
	}
	return h.JudgeLabels(ctx, req, namespaceLabelChange(old, now))
}
