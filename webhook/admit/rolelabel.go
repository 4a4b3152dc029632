package admit

import (
	"context"
	"encoding/json"
	"fmt"

	jsonpatch "gomodules.xyz/jsonpatch/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/policy/roles"
	"github.com/tierwall/tierwall/webhook/snapshot"
)

// roleLabelField is the role label as a JSON pointer (RFC 6901: ~1 is a slash).
const roleLabelField = "/metadata/labels/tierwall.io~1tier-role"

// RoleLabelHandler sets the role label of every new pod to its tier role.
//
// It refuses pods of a controller whose template has a wrong role label. If the label were
// overwritten, a controller that selects by it would not find its pod, and would create pods
// without end. (A node, which controls mirror pods, does not select by labels.)
//
// All other pods are admitted, even if they cannot be labelled: roles are computed from the pod
// itself wherever they decide, and the repair controller adds the label later.
type RoleLabelHandler struct {
	Snapshots snapshot.SnapshotReader
	Decoder   admission.Decoder
}

// Handle mutates a pod's CREATE.
func (h *RoleLabelHandler) Handle(_ context.Context, req admission.Request) admission.Response {
	pod := &corev1.Pod{}
	if err := h.Decoder.Decode(req, pod); err != nil {
		return badRequest(fmt.Errorf("read the pod: %w", err))
	}
	current, err := snapshot.ReadSynced(h.Snapshots)
	if err != nil {
		return admission.Allowed("").WithWarnings("tierwall labels this pod later: " + err.Error())
	}
	match := rolesOfNamespace(req.Namespace, current).Of(req.Namespace, pod.Spec.ServiceAccountName, pod.Labels)
	patch := roleLabelPatch(pod.Labels, match.Role)
	forged, has := pod.Labels[v1alpha1.RoleLabel]
	if !has || len(patch) == 0 {
		return admission.Patched("", patch...)
	}
	if owner := metav1.GetControllerOf(pod); owner != nil && owner.Kind != "Node" && setByRequester(pod, v1alpha1.RoleLabel) {
		return denyRequest(templateReason(owner, forged, match))
	}
	return admission.Patched("", patch...).WithWarnings(overwriteWarning(forged, match))
}

// setByRequester reports whether the request that creates the pod set the label. The managed fields
// are those of the request: they lack what mutating webhooks, such as an earlier call of ours, added.
func setByRequester(pod *corev1.Pod, label string) bool {
	for _, m := range pod.ManagedFields {
		var fields struct {
			Metadata struct {
				Labels map[string]any `json:"f:labels"`
			} `json:"f:metadata"`
		}
		if m.FieldsV1 == nil || json.Unmarshal(m.FieldsV1.Raw, &fields) != nil {
			continue
		}
		if _, has := fields.Metadata.Labels["f:"+label]; has {
			return true
		}
	}
	return false
}

// roleLabelPatch returns the JSON patch (RFC 6902) that sets the role label to the role.
func roleLabelPatch(labels map[string]string, role string) []jsonpatch.Operation {
	shown, has := labels[v1alpha1.RoleLabel]
	switch {
	case shown == role && has == (role != ""):
		return nil
	case role == "":
		return []jsonpatch.Operation{jsonpatch.NewOperation("remove", roleLabelField, nil)}
	case len(labels) == 0:
		return []jsonpatch.Operation{jsonpatch.NewOperation("add", "/metadata/labels", map[string]string{v1alpha1.RoleLabel: role})}
	default:
		return []jsonpatch.Operation{jsonpatch.NewOperation("add", roleLabelField, role)}
	}
}

func templateReason(owner *metav1.OwnerReference, forged string, match roles.Match) denialReason {
	return denialReason{field: roleLabelField, message: fmt.Sprintf(
		"%s %s makes pods with the label %s=%s, but the role is computed: the pod has %s; leave the role label out of workload templates and selectors",
		owner.Kind, owner.Name, v1alpha1.RoleLabel, forged, describeRole(match))}
}

func overwriteWarning(forged string, match roles.Match) string {
	if match.Role == "" {
		return fmt.Sprintf("label %s=%s was removed: no TierRole gives this pod a role", v1alpha1.RoleLabel, forged)
	}
	return fmt.Sprintf("label %s=%s was replaced by %s, the role that TierRole %s gives this pod",
		v1alpha1.RoleLabel, forged, match.Role, match.TierRole)
}
