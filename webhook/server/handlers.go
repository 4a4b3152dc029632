package server

import (
	"context"
	"fmt"
	"runtime"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/tierwall/tierwall/webhook/admit"
	"github.com/tierwall/tierwall/webhook/audit"
	"github.com/tierwall/tierwall/webhook/peer"
)

// The paths of the handlers; the chart's webhook configurations have them too.
const (
	policiesPath   = "/policies"
	guardrailsPath = "/guardrails"
	tierRolesPath  = "/tierroles"
	roleLabelPath  = "/rolelabel"
	podLabelsPath  = "/podlabels"
	namespacesPath = "/namespaces"
)

// registerHandlers registers the handlers, and returns the reviewer that they share.
func (s *Server) registerHandlers() *admit.Reviewer {
	decoder := admission.NewDecoder(s.manager.GetScheme())
	reviewer := &admit.Reviewer{
		Snapshots: s.broadcaster, Guardrails: s.guardrailStore, Terminating: s.isNamespaceTerminating,
		Limit: reviewTimeout, Slots: admit.NewSlots(runtime.GOMAXPROCS(0)), Log: s.options.Log,
	}
	for path, handler := range map[string]admission.Handler{
		policiesPath: &admit.PolicyHandler{Reviewer: reviewer, Decoder: decoder},
		guardrailsPath: &admit.GuardrailHandler{Reviewer: reviewer, Decoder: decoder, Bundle: s.guardrailStore.Bundle,
			Existing: audit.ExistingViolations(s.broadcaster, s.manager.GetAPIReader())},
		tierRolesPath:  &admit.TierRoleHandler{Reviewer: reviewer, Decoder: decoder},
		roleLabelPath:  &admit.RoleLabelHandler{Snapshots: s.broadcaster, Decoder: decoder},
		podLabelsPath:  &admit.PodLabelHandler{Reviewer: reviewer, Decoder: decoder},
		namespacesPath: &admit.NamespaceHandler{Reviewer: reviewer, Decoder: decoder},
	} {
		s.manager.GetWebhookServer().Register(path, &admission.Webhook{Handler: handler, WithContextFunc: peer.WithIdentity})
	}
	return reviewer
}

// isNamespaceTerminating reads from the API server whether a namespace is being deleted.
func (s *Server) isNamespaceTerminating(ctx context.Context, name string) (bool, error) {
	namespace := &corev1.Namespace{}
	if err := s.manager.GetAPIReader().Get(ctx, types.NamespacedName{Name: name}, namespace); err != nil {
		return false, fmt.Errorf("read namespace %s: %w", name, err)
	}
	return namespace.DeletionTimestamp != nil, nil
}
