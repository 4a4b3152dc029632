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

// roleNewsTimeout bounds the wait for a TierRole that another replica may have seen before this one.
const roleNewsTimeout = time.Second

// newPodTimeout bounds the review of a new pod; after it, the pod is admitted.
const newPodTimeout = 2 * time.Second

// PodLabelHandler refuses role labels that differ from the computed role, and label changes that would
// change the role of a running pod. It reviews changes of other labels by what they open.
type PodLabelHandler struct {
	*Reviewer
	Decoder admission.Decoder
}

// Handle reviews a pod's CREATE, an UPDATE of the pod or of one of its subresources, and the
// CREATE of a Binding, whose labels the API server copies to the pod (KEP-4742).
func (h *PodLabelHandler) Handle(ctx context.Context, req admission.Request) admission.Response {
	current, err := snapshot.ReadSynced(h.Snapshots)
	switch {
	case err != nil && isCreation(req):
		return admission.Allowed("") // the repair controller corrects the label
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

// reviewCreation refuses a wrong role label, which another webhook set after RoleLabelHandler ran, and
// reviews what the pod opens. The repair controller adds a missing label.
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

// awaitRoleLabelError returns why the role label of a new pod is wrong, or nil. It waits up to roleNewsTimeout for the
// TierRole that the label may be from.
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

// reviewNewPod reviews what a new pod opens. A pod that cannot be judged is admitted: an outage must not stop pods, and
// the audit finds what it opens. New pods are not tracked in flight, since concurrent changes are judged with
// hypothetical pods anyway.
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

// reviewRelabelling reviews a change of the labels of an existing pod.
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

// roleReviewer checks changes of a pod's labels against the roles in one snapshot.
type roleReviewer struct {
	snapshot *compile.Snapshot
	roles    *roles.Roles
}

func newRoleReviewer(namespace string, s *compile.Snapshot) roleReviewer {
	return roleReviewer{snapshot: s, roles: rolesOfNamespace(namespace, s)}
}

// checkLabels returns why the role label or the role of an existing pod would be wrong with the labels, or nil.
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

// roleChangeReason returns the reason that names the labels which would change a pod's role.
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

// selectorLabelKeys returns the label keys in the selectors of the TierRoles.
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

// roleLabelError returns why the role label is wrong, or nil.
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
