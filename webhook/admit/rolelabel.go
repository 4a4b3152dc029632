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

// RoleLabelHandler writes the label of its tier role on every new pod, over whatever
// label the pod came with.
//
// It refuses one kind of pod, that of a controller whose template has a role
// label that is not true: were the label overwritten, a controller that selects
// by it would not know its pod again, and make another, without end. (A node,
// which controls the mirrors of its static pods, does not select by labels.)
//
// Otherwise it stops no pod: a pod that it cannot label is admitted as it is,
// for the label only shows the role (which is computed everywhere from the pod
// itself), and the repair labels the pod later.
type RoleLabelHandler struct {
	Snapshots snapshot.SnapshotReader
	Decoder   admission.Decoder
}

// Handle answers a pod's CREATE.
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

// setByRequester reports whether the request that makes the pod has the label. What
// mutating webhooks wrote since, ours among them when it is asked again, is not
// in the managed fields, which are those of the request.
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

// roleLabelPatch makes the labels show the role (RFC 6902).
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
