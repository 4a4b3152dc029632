package admit

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/clustercache"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/policy/roles"
	"github.com/tierwall/tierwall/webhook/peer"
	"github.com/tierwall/tierwall/webhook/snapshot"
)

// roleNewsTimeout is how long a replica waits for news that another may have had.
const roleNewsTimeout = time.Second

// newPodTimeout is how long a new pod waits for its judgement; then it is let in.
const newPodTimeout = 2 * time.Second

// PodLabelHandler refuses role labels that are not true, and changes of those labels
// from which a pod's role follows: the role of a running pod stays what it was.
// Changes of other labels are judged by what they open.
type PodLabelHandler struct {
	*Reviewer
	Decoder admission.Decoder
}

// Handle answers a pod's CREATE, an UPDATE of the pod or of one of its
// subresources, and the CREATE of a Binding, whose labels the API server
// copies to the pod (KEP-4742).
func (h *PodLabelHandler) Handle(ctx context.Context, req admission.Request) admission.Response {
	current, err := snapshot.ReadSynced(h.Snapshots)
	switch {
	case err != nil && isCreation(req):
		return admission.Allowed("") // the label only shows the role; the repair corrects it
	case err != nil:
		return internalError(err)
	}
	switch {
	case isBinding(req):
		return h.reviewBinding(ctx, req, newRoleReviewer(req.Namespace, current))
	case isCreation(req):
		return h.reviewCreation(ctx, req)
	default:
		return h.reviewUpdate(ctx, req, newRoleReviewer(req.Namespace, current))
	}
}

func isBinding(req admission.Request) bool {
	return req.SubResource == "binding" || req.Resource.Resource == "bindings"
}

func isCreation(req admission.Request) bool {
	return req.Operation == admissionv1.Create && !isBinding(req)
}

// reviewCreation refuses a role label that another webhook forged after RoleLabel
// ran, and judges what the pod opens. A label that is missing is harmless and
// comes later.
func (h *PodLabelHandler) reviewCreation(ctx context.Context, req admission.Request) admission.Response {
	pod := &corev1.Pod{}
	if err := h.Decoder.Decode(req, pod); err != nil {
		return badRequest(fmt.Errorf("read the pod: %w", err))
	}
	if _, has := pod.Labels[v1alpha1.RoleLabel]; has {
		if r := h.awaitRoleLabelError(ctx, req, pod); r != nil {
			return denyRequest(*r)
		}
	}
	return h.reviewNewPod(ctx, req, pod)
}

// awaitRoleLabelError is why the role label of a new pod is not true, or nil once it is.
func (h *PodLabelHandler) awaitRoleLabelError(ctx context.Context, req admission.Request, pod *corev1.Pod) *denialReason {
	// The replica that wrote the label may have heard of a TierRole before this one.
	ctx, cancel := context.WithTimeout(ctx, roleNewsTimeout)
	defer cancel()
	for {
		next := h.Snapshots.Next()
		match := rolesOfNamespace(req.Namespace, h.Snapshots.Snapshot()).Of(req.Namespace, pod.Spec.ServiceAccountName, pod.Labels)
		r := roleLabelError(pod.Labels, match)
		if r == nil {
			return nil
		}
		select {
		case <-next:
		case <-ctx.Done():
			return r
		}
	}
}

// reviewNewPod judges what a new pod opens. One that cannot be judged is let in: the audit finds what it opens, and
// an outage must not stop pods. It is not remembered for changes that come together with it, which count the
// pods that could exist in any case.
func (h *PodLabelHandler) reviewNewPod(ctx context.Context, req admission.Request, pod *corev1.Pod) admission.Response {
	object := clustercache.Pod(pod)
	object.Namespace = req.Namespace
	ctx, cancel := context.WithTimeout(ctx, newPodTimeout)
	defer cancel()
	c := newPodChange(object)
	states := h.inflight.statesFor(peer.IdentityFrom(ctx), c, h.Snapshots)
	if !c.mattersInAny(states) {
		return admission.Allowed("")
	}
	response := h.withSlot(ctx, req, func(ctx context.Context) admission.Response { return h.judgeStates(ctx, req, c, states) })
	if !response.Allowed && response.Result.Code != http.StatusForbidden {
		return admission.Allowed("").WithWarnings("what this pod opens was not judged: " + response.Result.Message)
	}
	return response
}

func (h *PodLabelHandler) reviewUpdate(ctx context.Context, req admission.Request, j roleReviewer) admission.Response {
	pod, old := &corev1.Pod{}, &corev1.Pod{}
	if err := h.Decoder.Decode(req, pod); err != nil {
		return badRequest(fmt.Errorf("read the pod: %w", err))
	}
	if err := h.Decoder.DecodeRaw(req.OldObject, old); err != nil {
		return badRequest(fmt.Errorf("read the pod before the change: %w", err))
	}
	before := clustercache.Pod(old)
	before.Namespace = req.Namespace
	return h.reviewRelabelling(ctx, req, j, before, pod.Labels)
}

// reviewRelabelling answers a change of the labels of an existing pod.
func (h *PodLabelHandler) reviewRelabelling(ctx context.Context, req admission.Request, j roleReviewer, pod *compile.Pod, labels map[string]string) admission.Response {
	if r := j.checkLabels(pod, labels); r != nil {
		return h.refuse(ctx, req, []denialReason{*r})
	}
	return h.JudgeLabels(ctx, req, podLabelChange(pod, labels))
}

func (h *PodLabelHandler) reviewBinding(ctx context.Context, req admission.Request, j roleReviewer) admission.Response {
	binding := &corev1.Binding{}
	if err := h.Decoder.Decode(req, binding); err != nil {
		return badRequest(fmt.Errorf("read the binding: %w", err))
	}
	if len(binding.Labels) == 0 {
		return admission.Allowed("")
	}
	name := req.Name
	if name == "" {
		name = binding.Name
	}
	pod := pods.findObject(j.snapshot, types.NamespacedName{Namespace: req.Namespace, Name: name})
	if pod == nil {
		return internalError(fmt.Errorf("pod %s/%s, which the binding would label, is not known yet; try again in a moment", req.Namespace, name))
	}
	after := maps.Clone(binding.Labels)
	for k, v := range pod.Labels {
		if _, ok := after[k]; !ok {
			after[k] = v
		}
	}
	return h.reviewRelabelling(ctx, req, j, pod, after)
}

// roleReviewer judges changes of a pod's labels by the roles of one moment.
type roleReviewer struct {
	snapshot *compile.Snapshot
	roles    *roles.Roles
}

func newRoleReviewer(namespace string, s *compile.Snapshot) roleReviewer {
	return roleReviewer{snapshot: s, roles: rolesOfNamespace(namespace, s)}
}

// checkLabels is why the labels of an existing pod may not become those, as far as its role goes, or nil.
func (j roleReviewer) checkLabels(pod *compile.Pod, labels map[string]string) *denialReason {
	was := j.roles.Of(pod.Namespace, pod.ServiceAccount, pod.Labels)
	becomes := j.roles.Of(pod.Namespace, pod.ServiceAccount, labels)
	switch {
	case was.Role != becomes.Role:
		return j.roleChangeReason(was, becomes, pod.Labels, labels)
	case labelDiffers(v1alpha1.RoleLabel, pod.Labels, labels):
		return roleLabelError(labels, becomes)
	default:
		return nil
	}
}

// roleChangeReason says which labels would have moved a pod from role to role.
func (j roleReviewer) roleChangeReason(was, becomes roles.Match, before, after map[string]string) *denialReason {
	var keys []string
	for _, key := range j.selectorLabelKeys(was.TierRole, becomes.TierRole) {
		if labelDiffers(key, before, after) {
			keys = append(keys, key)
		}
	}
	return &denialReason{field: "/metadata/labels", message: fmt.Sprintf(
		"label %s of a running pod cannot change: it would move the pod from %s to %s; delete the pod and create it anew",
		strings.Join(keys, ", "), describeRole(was), describeRole(becomes))}
}

func describeRole(m roles.Match) string {
	if m.Role == "" {
		return "no role"
	}
	return fmt.Sprintf("role %s (TierRole %s)", m.Role, m.TierRole)
}

// selectorLabelKeys are the label keys that the selectors of the TierRoles mention.
func (j roleReviewer) selectorLabelKeys(tierRoles ...string) []string {
	var keys []string
	for _, tr := range j.snapshot.TierRoles {
		if s := tr.Spec.PodSelector; s != nil && slices.Contains(tierRoles, tr.Name) {
			keys = slices.AppendSeq(keys, maps.Keys(s.MatchLabels))
			for _, r := range s.MatchExpressions {
				keys = append(keys, r.Key)
			}
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

func labelDiffers(key string, before, after map[string]string) bool {
	old, had := before[key]
	value, has := after[key]
	return old != value || had != has
}

// roleLabelError is why the role label does not show the role, or nil where it does.
func roleLabelError(labels map[string]string, match roles.Match) *denialReason {
	shown, has := labels[v1alpha1.RoleLabel]
	if shown == match.Role && has == (match.Role != "") {
		return nil
	}
	is := "removed"
	if has {
		is = fmt.Sprintf("set to %q", shown)
	}
	return &denialReason{field: roleLabelField, message: fmt.Sprintf(
		"label %s cannot be %s: it shows the pod's tier role, which is computed: the pod has %s",
		v1alpha1.RoleLabel, is, describeRole(match))}
}
