package webhook

import (
	"context"
	"fmt"

	jsonpatch "gomodules.xyz/jsonpatch/v2"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/policy/roles"
)

// RoleLabel writes the label of its tier role on every new pod, over whatever
// label the pod came with.
//
// It stops no pod: a pod that it cannot label is admitted as it is, for the
// label only shows the role (which is computed everywhere from the pod
// itself), and Repair labels the pod later.
type RoleLabel struct {
	Snapshots Snapshots
	Decoder   admission.Decoder
}

// Handle answers a pod's CREATE.
func (h *RoleLabel) Handle(_ context.Context, req admission.Request) admission.Response {
	pod := &corev1.Pod{}
	if err := h.Decoder.Decode(req, pod); err != nil {
		return malformed(fmt.Errorf("read the pod: %w", err))
	}
	snapshot, err := current(h.Snapshots)
	if err != nil {
		return admission.Allowed("").WithWarnings("tierwall labels this pod later: " + err.Error())
	}
	match := rolesIn(req.Namespace, snapshot).Of(req.Namespace, pod.Spec.ServiceAccountName, pod.Labels)
	patch := labelPatch(pod.Labels, match.Role)
	answer := admission.Patched("", patch...)
	if forged, has := pod.Labels[v1alpha1.RoleLabel]; has && len(patch) > 0 {
		return answer.WithWarnings(overwritten(forged, match))
	}
	return answer
}

// labelPatch makes the labels show the role (RFC 6902).
func labelPatch(labels map[string]string, role string) []jsonpatch.Operation {
	const path = "/metadata/labels/tierwall.io~1tier-role" // RFC 6901: ~1 is a slash
	shown, has := labels[v1alpha1.RoleLabel]
	switch {
	case shown == role && has == (role != ""):
		return nil
	case role == "":
		return []jsonpatch.Operation{jsonpatch.NewOperation("remove", path, nil)}
	case len(labels) == 0:
		return []jsonpatch.Operation{jsonpatch.NewOperation("add", "/metadata/labels", map[string]string{v1alpha1.RoleLabel: role})}
	default:
		return []jsonpatch.Operation{jsonpatch.NewOperation("add", path, role)}
	}
}

func overwritten(forged string, match roles.Match) string {
	if match.Role == "" {
		return fmt.Sprintf("label %s=%s was removed: no TierRole gives this pod a role", v1alpha1.RoleLabel, forged)
	}
	return fmt.Sprintf("label %s=%s was replaced by %s, the role that TierRole %s gives this pod",
		v1alpha1.RoleLabel, forged, match.Role, match.TierRole)
}
