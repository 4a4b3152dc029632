package admit

import (
	"encoding/json"
	"maps"
	"net/http"
	"testing"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/tierwall/tierwall/api/v1alpha1"
)

const role = v1alpha1.RoleLabel

// patchedLabels are the labels of a pod after an answer.
func patchedLabels(t *testing.T, before *corev1.Pod, answer admission.Response) labels {
	t.Helper()
	text, err := json.Marshal(answer.Patches)
	if err != nil {
		t.Fatal(err)
	}
	patch, err := jsonpatch.DecodePatch(text)
	if err != nil {
		t.Fatal(err)
	}
	out, err := patch.Apply(toRawExtension(before).Raw)
	if err != nil {
		t.Fatalf("apply %s: %v", text, err)
	}
	after := &corev1.Pod{}
	if err := json.Unmarshal(out, after); err != nil {
		t.Fatal(err)
	}
	return after.Labels
}

func TestRoleLabelIsSet(t *testing.T) {
	for _, c := range []struct {
		name, account string
		labels, want  labels
		warns         bool
	}{
		{"no labels at all", "postgres", nil, labels{role: "data"}, false},
		{"other labels stay", "web", labels{"a": "b"}, labels{"a": "b", role: "frontend"}, false},
		{"role by label", "default", labels{"app": "db"}, labels{"app": "db", role: "data"}, false},
		{"account before label", "web", labels{"app": "db"}, labels{"app": "db", role: "frontend"}, false},
		{"forged", "web", labels{role: "data"}, labels{role: "frontend"}, true},
		{"forged without a role", "default", labels{role: "data"}, nil, true},
		{"forged empty", "default", labels{role: "", "a": "b"}, labels{"a": "b"}, true},
		{"true already", "postgres", labels{role: "data"}, labels{role: "data"}, false},
		{"no role, no label", "default", labels{"a": "b"}, labels{"a": "b"}, false},
		{"no account is the default one", "", labels{"a": "b"}, labels{"a": "b"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := &RoleLabelHandler{Snapshots: newShopCluster(), Decoder: decoder}
			p := newPod(c.account, c.labels)
			got := h.Handle(t.Context(), newRequest("CREATE", "Pod", "shop", nil, p))
			assertResponse(t, got, true, "")
			if after := patchedLabels(t, p, got); !maps.Equal(after, c.want) {
				t.Errorf("labels %v, want %v", after, c.want)
			}
			if warns := len(got.Warnings) > 0; warns != c.warns {
				t.Errorf("warnings %q, want some: %v", got.Warnings, c.warns)
			}
		})
	}
}

// podOfReplicaSet is the pod as a ReplicaSet makes it: the labels are in its template.
func podOfReplicaSet(t *testing.T, p *corev1.Pod) *corev1.Pod {
	t.Helper()
	controller := true
	p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web-1", UID: "u", Controller: &controller}}
	keys := map[string]any{}
	for key := range p.Labels {
		keys["f:"+key] = struct{}{}
	}
	fields, err := json.Marshal(map[string]any{"f:metadata": map[string]any{"f:labels": keys}})
	if err != nil {
		t.Fatal(err)
	}
	p.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kube-controller-manager", FieldsType: "FieldsV1", FieldsV1: &metav1.FieldsV1{Raw: fields}}}
	return p
}

// A label that is overwritten makes a controller that selects by it lose its
// pod and make another, without end.
func TestWrongRoleLabelInTemplateIsRefused(t *testing.T) {
	for _, c := range []struct {
		name, account string
		labels        labels
		message       string
	}{
		{"forged", "web", labels{role: "data"}, "ReplicaSet web-1 makes pods with the label tierwall.io/tier-role=data, but the role is computed: the pod has role frontend (TierRole shop-web); leave the role label out of workload templates and selectors"},
		{"forged without a role", "default", labels{role: "data"}, "the pod has no role"},
		{"empty without a role", "default", labels{role: ""}, "the pod has no role"},
		{"empty", "web", labels{role: ""}, "the pod has role frontend"},
		{"true", "web", labels{role: "frontend"}, ""},
		{"none", "web", labels{"a": "b"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := &RoleLabelHandler{Snapshots: newShopCluster(), Decoder: decoder}
			got := h.Handle(t.Context(), newRequest("CREATE", "Pod", "shop", nil, podOfReplicaSet(t, newPod(c.account, c.labels))))
			assertResponse(t, got, c.message == "", c.message)
			if c.message != "" && (got.Result.Code != http.StatusForbidden || got.Result.Details.Causes[0].Field != "/metadata/labels/tierwall.io~1tier-role") {
				t.Errorf("result %+v, want the field of the label and 403", got.Result)
			}
		})
	}
}

// Only a controller fights for its pods; an owner of another kind does not.
func TestRoleLabelOfPodWithoutControllerIsOverwritten(t *testing.T) {
	owned, mirror := podOfReplicaSet(t, newPod("web", labels{role: "data"})), podOfReplicaSet(t, newPod("web", labels{role: "data"}))
	owned.OwnerReferences[0].Controller = nil
	mirror.OwnerReferences[0].Kind = "Node"
	for _, p := range []*corev1.Pod{owned, mirror} {
		got := (&RoleLabelHandler{Snapshots: newShopCluster(), Decoder: decoder}).Handle(t.Context(), newRequest("CREATE", "Pod", "shop", nil, p))
		assertResponse(t, got, true, "")
		if after := patchedLabels(t, p, got); after[role] != "frontend" {
			t.Errorf("labels %v, want the role frontend", after)
		}
	}
}

// The webhook is asked again when another one changed the pod after it. The
// label is its own then, and no fault of the template.
func TestRoleLabelOfEarlierCallIsReplaced(t *testing.T) {
	p := podOfReplicaSet(t, newPod("default", labels{"app": "db"}))
	p.Labels[role] = "frontend"
	got := (&RoleLabelHandler{Snapshots: newShopCluster(), Decoder: decoder}).Handle(t.Context(), newRequest("CREATE", "Pod", "shop", nil, p))
	assertResponse(t, got, true, "")
	if after := patchedLabels(t, p, got); after[role] != "data" {
		t.Errorf("labels %v, want the role data", after)
	}
}

func TestRoleLabelUsesNamespaceOfRequest(t *testing.T) {
	p := newPod("postgres", nil)
	p.Namespace = "shop" // claimed; the request is for test
	got := (&RoleLabelHandler{Snapshots: newShopCluster(), Decoder: decoder}).Handle(t.Context(), newRequest("CREATE", "Pod", "test", nil, p))
	if after := patchedLabels(t, p, got); len(after) != 0 {
		t.Errorf("labels %v, want none", after)
	}
}

func TestPodIsAdmittedUnlabelledBeforeSync(t *testing.T) {
	w := newShopCluster()
	w.unsynced = true
	got := (&RoleLabelHandler{Snapshots: w, Decoder: decoder}).Handle(t.Context(), newRequest("CREATE", "Pod", "shop", nil, newPod("web", nil)))
	assertResponse(t, got, true, "")
	if len(got.Patches) > 0 || len(got.Warnings) == 0 {
		t.Errorf("patches %v and warnings %q, want no patch and a warning", got.Patches, got.Warnings)
	}
}
