//go:build admission

package admission

import (
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	registrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tierwall/tierwall/api/v1alpha1"
)

// ofReplicaSet is the pod as the controller of a ReplicaSet would make it.
func ofReplicaSet(p *corev1.Pod) *corev1.Pod {
	controller := true
	p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web-1", UID: "u", Controller: &controller}}
	return p
}

func TestARoleLabelInATemplateIsRefused(t *testing.T) {
	shop(t, "templates")
	forged := ofReplicaSet(pod("templates", "forged", "web", v1alpha1.RoleLabel+"=data"))
	refusedWith(t, world.admin.Create(t.Context(), forged), "ReplicaSet web-1 makes pods with the label tierwall.io/tier-role=data",
		"leave the role label out of workload templates and selectors")
	for _, p := range []*corev1.Pod{
		ofReplicaSet(pod("templates", "true", "web", v1alpha1.RoleLabel+"=frontend")),
		ofReplicaSet(pod("templates", "none", "web", "a=b")),
	} {
		create(t, p)
		if got := role(t, p); got != "frontend" {
			t.Errorf("pod %s: role label %q, want frontend", p.Name, got)
		}
	}
}

// Another mutating webhook, asked after ours, gives a pod the label from which
// another role follows. The label that is to be replaced then is our own.
func TestAPodThatChangesAfterItWasLabelledIsLabelledAgain(t *testing.T) {
	shop(t, "again")
	create(t, &v1alpha1.TierRole{ObjectMeta: metav1.ObjectMeta{Name: "again-rest"},
		Spec: v1alpha1.TierRoleSpec{Role: "frontend", Namespaces: []string{"again"}}})
	becomes(t, "known", func() error {
		p := pod("again", "probe", "default")
		if err := world.admin.Create(t.Context(), p, client.DryRunAll); err != nil || p.Labels[v1alpha1.RoleLabel] != "frontend" {
			return errors.Join(err, errors.New("the webhook does not know the TierRole"))
		}
		return nil
	})
	labelling(t, "again", "app", "db")
	becomes(t, "labelled again", func() error {
		p := ofReplicaSet(pod("again", "db", "default", "a=b"))
		if err := world.admin.Create(t.Context(), p, client.DryRunAll); err != nil {
			return err
		}
		if p.Labels["app"] != "db" || p.Labels[v1alpha1.RoleLabel] != "data" {
			return errors.New("labels " + labelText(p))
		}
		return nil
	})
}

func labelText(p *corev1.Pod) string {
	text, _ := json.Marshal(p.Labels)
	return string(text)
}

// labelling is another mutating webhook, which gives new pods of the namespace a label.
func labelling(t *testing.T, namespace, key, value string) {
	t.Helper()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		review := &admissionv1.AdmissionReview{}
		if err := json.NewDecoder(r.Body).Decode(review); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		kind := admissionv1.PatchTypeJSONPatch
		review.Response = &admissionv1.AdmissionResponse{UID: review.Request.UID, Allowed: true, PatchType: &kind,
			Patch: []byte(`[{"op":"add","path":"/metadata/labels/` + key + `","value":"` + value + `"}]`)}
		review.Request = nil
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(review)
	}))
	t.Cleanup(server.Close)
	none, all := registrationv1.SideEffectClassNone, "*"
	create(t, &registrationv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "zz-after-" + namespace},
		Webhooks: []registrationv1.MutatingWebhook{{
			Name: "after.example.com", SideEffects: &none, AdmissionReviewVersions: []string{"v1"},
			ClientConfig: registrationv1.WebhookClientConfig{URL: &server.URL,
				CABundle: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})},
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": namespace}},
			Rules: []registrationv1.RuleWithOperations{{Operations: []registrationv1.OperationType{registrationv1.Create},
				Rule: registrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{all}, Resources: []string{"pods"}}}},
		}},
	})
}
