package admit

import (
	"context"
	"fmt"

	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/webhook/snapshot"
)

// PolicyHandler validates NetworkPolicies and ClusterNetworkPolicies, and reviews their changes
// by what they open. It refuses what it cannot judge.
type PolicyHandler struct {
	*Reviewer
	Decoder admission.Decoder
}

// Handle reviews the CREATE, UPDATE or DELETE of a policy.
func (h *PolicyHandler) Handle(ctx context.Context, req admission.Request) admission.Response {
	if _, err := snapshot.ReadSynced(h.Snapshots); err != nil {
		return internalError(err)
	}
	return h.withSlot(ctx, req, func(ctx context.Context) admission.Response {
		switch req.Kind.Kind {
		case networkPolicies.kind:
			return reviewPolicy(ctx, h, req, networkPolicies, compile.ValidateNetworkPolicy)
		case clusterNetworkPolicies.kind:
			return reviewPolicy(ctx, h, req, clusterNetworkPolicies, compile.ValidateClusterNetworkPolicy)
		default:
			return badRequest(fmt.Errorf("kind %s is no policy", req.Kind.Kind))
		}
	})
}

func reviewPolicy[T networkingv1.NetworkPolicy | policyv1alpha2.ClusterNetworkPolicy, P apiObject[T]](
	ctx context.Context, h *PolicyHandler, req admission.Request, of objectKind[T], validate func(*T) []policy.Problem,
) admission.Response {
	old, now, err := decodeOldAndNew[T, P](h.Decoder, req)
	if err != nil {
		return badRequest(err)
	}
	switch isChanged := old == nil || now == nil || !of.same(old, now); {
	case now == nil:
	case isDeletion[T, P](req, now):
		req, now = asDeletion(req), nil
	case !isChanged && of.isTerminating(now):
		return admission.Allowed("") // only metadata changes, and finalizers remain
	case isChanged:
		if problems := validate(now); len(problems) > 0 {
			return h.refuse(ctx, req, problemReasons(problems))
		}
	}
	c := of.newChange(old, now)
	if now != nil && c.isNetworkPolicy && !c.isNoop {
		before, after := c.applyTo(h.Snapshots.Snapshot())
		if problems := compile.ExceededBudgets(before, after, c.namespace, now.GetName()); len(problems) > 0 {
			return h.refuse(ctx, req, problemReasons(problems))
		}
	}
	return h.Judge(ctx, req, c)
}
