//go:build admission

package admission

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	registrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// isolatingPolicy lets nothing into any pod of the namespace.
func isolatingPolicy(namespace, name string) *networkingv1.NetworkPolicy {
	return &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: networkingv1.NetworkPolicySpec{PolicyTypes: []networkingv1.PolicyType{"Ingress"}}}
}

// refusedLater are requests of a namespace that has the isolating policies a and b. The
// webhook admits each of them, and the API server does not carry it out.
var refusedLater = map[string]struct {
	prepare func(t *testing.T, namespace string)
	request func(ctx context.Context, namespace string) error
	// isRefused reports whether an error is the expected one.
	isRefused func(error) bool
}{
	"open-taken": {
		request: func(ctx context.Context, namespace string) error {
			return world.admin.Create(ctx, isolatingPolicy(namespace, "b"))
		},
		isRefused: apierrors.IsAlreadyExists,
	},
	"open-dry-run": {
		request: func(ctx context.Context, namespace string) error {
			return world.admin.Create(ctx, isolatingPolicy(namespace, "new"), client.DryRunAll)
		},
		isRefused: func(err error) bool { return err == nil },
	},
	"open-quota": {
		prepare: limitPolicies,
		request: func(ctx context.Context, namespace string) error {
			return world.admin.Create(ctx, isolatingPolicy(namespace, "new"))
		},
		isRefused: func(err error) bool { return contains(err, "exceeded quota") },
	},
	"open-refused": {
		prepare: refusePolicies,
		request: func(ctx context.Context, namespace string) error {
			return world.admin.Create(ctx, isolatingPolicy(namespace, "new"))
		},
		isRefused: func(err error) bool { return contains(err, "no more policies here") },
	},
}

func TestInFlightChangesThatAreRefusedLaterProtectNoParallelDeletion(t *testing.T) {
	for namespace, c := range refusedLater {
		t.Run(namespace, func(t *testing.T) {
			ctx := t.Context()
			policies := isolateTwice(t, namespace)
			if c.prepare != nil {
				c.prepare(t, namespace)
			}
			becomes(t, "refused later", func() error {
				err := c.request(ctx, namespace)
				switch {
				case c.isRefused(err):
					return nil
				case err == nil:
					return errors.New("it was admitted")
				}
				return fmt.Errorf("it failed otherwise: %w", err)
			})
			for range 3 {
				if err := c.request(ctx, namespace); !c.isRefused(err) {
					t.Errorf("the answer is %v", err)
				}
			}
			deletesOneOfTwo(t, policies)
		})
	}
}

// isolateTwice makes a namespace whose pod two policies isolate, and waits until the webhook knows both.
func isolateTwice(t *testing.T, namespace string) []client.Object {
	t.Helper()
	ctx := t.Context()
	if err := makeNamespace(ctx, namespace); err != nil {
		t.Fatal(err)
	}
	create(t, pod(namespace, "db", "default"))
	policies := []client.Object{isolatingPolicy(namespace, "a"), isolatingPolicy(namespace, "b")}
	for _, p := range policies {
		if err := world.admin.Create(ctx, p); err != nil {
			t.Fatal(err)
		}
	}
	becomes(t, "known", func() error {
		return errors.Join(world.admin.Delete(ctx, policies[0], client.DryRunAll), world.admin.Delete(ctx, policies[1], client.DryRunAll))
	})
	return policies
}

// deletesOneOfTwo deletes two objects at the same time, and checks that exactly one of them goes.
func deletesOneOfTwo(t *testing.T, objects []client.Object) {
	t.Helper()
	answers := make(chan error, len(objects))
	for _, o := range objects {
		go func() { answers <- world.admin.Delete(t.Context(), o) }()
	}
	first, second := <-answers, <-answers
	if first == nil {
		first, second = second, first
	}
	refusedWith(t, first, "Guardrail default-deny-stays")
	if second != nil {
		t.Errorf("both are refused: %v", second)
	}
}

// limitPolicies is a quota of the policies that there are. Its status is what a controller would write.
func limitPolicies(t *testing.T, namespace string) {
	t.Helper()
	two := corev1.ResourceList{"count/networkpolicies.networking.k8s.io": resource.MustParse("2")}
	quota := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "policies"}, Spec: corev1.ResourceQuotaSpec{Hard: two}}
	create(t, quota)
	quota.Status = corev1.ResourceQuotaStatus{Hard: two, Used: two}
	if err := world.admin.Status().Update(t.Context(), quota); err != nil {
		t.Fatal(err)
	}
	becomes(t, "the quota is in force", func() error {
		if err := world.admin.Create(t.Context(), isolatingPolicy(namespace, "new"), client.DryRunAll); !contains(err, "exceeded quota") {
			return errors.Join(errors.New("want a refusal"), err)
		}
		return nil
	})
}

// refusePolicies is another webhook, which refuses every new policy of the namespace.
func refusePolicies(t *testing.T, namespace string) {
	t.Helper()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		review := &admissionv1.AdmissionReview{}
		if err := json.NewDecoder(r.Body).Decode(review); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		review.Response = &admissionv1.AdmissionResponse{UID: review.Request.UID, Result: &metav1.Status{Message: "no more policies here"}}
		review.Request = nil
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(review)
	}))
	t.Cleanup(server.Close)
	none := registrationv1.SideEffectClassNone
	create(t, &registrationv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "refuses-" + namespace},
		Webhooks: []registrationv1.ValidatingWebhook{{
			Name: "policies.example.com", SideEffects: &none, AdmissionReviewVersions: []string{"v1"},
			ClientConfig: registrationv1.WebhookClientConfig{URL: &server.URL,
				CABundle: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})},
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": namespace}},
			Rules: []registrationv1.RuleWithOperations{{Operations: []registrationv1.OperationType{registrationv1.Create},
				Rule: registrationv1.Rule{APIGroups: []string{"networking.k8s.io"}, APIVersions: []string{"v1"}, Resources: []string{"networkpolicies"}}}},
		}},
	})
	becomes(t, "the other webhook is in force", func() error {
		if err := world.admin.Create(t.Context(), isolatingPolicy(namespace, "new"), client.DryRunAll); !contains(err, "no more policies here") {
			return errors.Join(errors.New("want a refusal"), err)
		}
		return nil
	})
}
