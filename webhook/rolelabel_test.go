package webhook

import (
	"encoding/json"
	"maps"
	"testing"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/tierwall/tierwall/api/v1alpha1"
)

const role = v1alpha1.RoleLabel

// patched are the labels of a pod after an answer.
func patched(t *testing.T, before *corev1.Pod, answer admission.Response) labels {
	t.Helper()
	text, err := json.Marshal(answer.Patches)
	if err != nil {
		t.Fatal(err)
	}
	patch, err := jsonpatch.DecodePatch(text)
	if err != nil {
		t.Fatal(err)
	}
	out, err := patch.Apply(raw(before).Raw)
	if err != nil {
		t.Fatalf("apply %s: %v", text, err)
	}
	after := &corev1.Pod{}
	if err := json.Unmarshal(out, after); err != nil {
		t.Fatal(err)
	}
	return after.Labels
}

func TestRoleLabel(t *testing.T) {
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
			h := &RoleLabel{Snapshots: shop(), Decoder: decoder}
			p := pod(c.account, c.labels)
			got := h.Handle(t.Context(), request("CREATE", "Pod", "shop", nil, p))
			answers(t, got, true, "")
			if after := patched(t, p, got); !maps.Equal(after, c.want) {
				t.Errorf("labels %v, want %v", after, c.want)
			}
			if warns := len(got.Warnings) > 0; warns != c.warns {
				t.Errorf("warnings %q, want some: %v", got.Warnings, c.warns)
			}
		})
	}
}

func TestRoleLabelGoesByTheNamespaceOfTheRequest(t *testing.T) {
	p := pod("postgres", nil)
	p.Namespace = "shop" // claimed; the request is for test
	got := (&RoleLabel{Snapshots: shop(), Decoder: decoder}).Handle(t.Context(), request("CREATE", "Pod", "test", nil, p))
	if after := patched(t, p, got); len(after) != 0 {
		t.Errorf("labels %v, want none", after)
	}
}

func TestRoleLabelStopsNoPodWhileTheClusterIsUnknown(t *testing.T) {
	w := shop()
	w.unsynced = true
	got := (&RoleLabel{Snapshots: w, Decoder: decoder}).Handle(t.Context(), request("CREATE", "Pod", "shop", nil, pod("web", nil)))
	answers(t, got, true, "")
	if len(got.Patches) > 0 || len(got.Warnings) == 0 {
		t.Errorf("patches %v and warnings %q, want no patch and a warning", got.Patches, got.Warnings)
	}
}
