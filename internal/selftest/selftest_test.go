package selftest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/tierwall/tierwall/api/v1alpha1"
)

// installation is one that works, before a test breaks it.
type installation struct {
	enforcers             *appsv1.DaemonSet
	webhook               *appsv1.Deployment
	asked                 *admissionv1.ValidatingWebhookConfiguration
	onGuardrail, onPolicy error
}

func working() *installation {
	meta := func(suffix string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: "tierwall-system", Name: "tierwall" + suffix}
	}
	denied := func(webhook string) error {
		return fmt.Errorf("admission webhook %q denied the request: no", webhook)
	}
	return &installation{
		enforcers: &appsv1.DaemonSet{ObjectMeta: meta("-enforcer"), Status: appsv1.DaemonSetStatus{
			DesiredNumberScheduled: 2, UpdatedNumberScheduled: 2, NumberReady: 2,
		}},
		webhook: &appsv1.Deployment{ObjectMeta: meta("-webhook"), Status: appsv1.DeploymentStatus{Replicas: 2, ReadyReplicas: 1}},
		asked: &admissionv1.ValidatingWebhookConfiguration{
			ObjectMeta: metav1.ObjectMeta{Name: "tierwall"},
			Webhooks:   []admissionv1.ValidatingWebhook{{Name: "policies.tierwall.io"}},
		},
		onGuardrail: denied("guardrails.tierwall.io"),
		onPolicy:    denied("policies.tierwall.io"),
	}
}

// check runs the self-test and returns what it wrote.
func (i *installation) check(t *testing.T) (string, error) {
	t.Helper()
	s := runtime.NewScheme()
	if err := errors.Join(scheme.AddToScheme(s), v1alpha1.AddToScheme(s)); err != nil {
		t.Fatal(err)
	}
	c := fake.NewClientBuilder().WithScheme(s).WithObjects(i.enforcers, i.webhook, i.asked).WithInterceptorFuncs(interceptor.Funcs{
		Create: func(_ context.Context, _ client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			options := client.CreateOptions{}
			if options.ApplyOptions(opts); len(options.DryRun) == 0 {
				t.Errorf("%T is created for good", o)
			}
			if _, ok := o.(*networkingv1.NetworkPolicy); ok {
				return i.onPolicy
			}
			return i.onGuardrail
		},
	}).Build()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	var out strings.Builder
	tested := &Installation{
		Client: c, Namespace: "tierwall-system", Name: "tierwall", PolicyNamespace: "default", Poll: time.Millisecond,
	}
	err := tested.Check(ctx, &out)
	return out.String(), err
}

func TestInstallationThatWorks(t *testing.T) {
	out, err := working().check(t)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(out, "ok      "); got != 5 {
		t.Errorf("%d checks are reported as passed, want 5:\n%s", got, out)
	}
}

func TestInstallationThatDoesNotWork(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(*installation)
		says  string
	}{
		{"an enforcer is not ready", func(i *installation) { i.enforcers.Status.NumberReady = 1 }, "1 of 2 enforcers are ready"},
		{"an enforcer is of yesterday", func(i *installation) { i.enforcers.Status.UpdatedNumberScheduled = 1 }, "1 of them up to date"},
		{"no node has an enforcer", func(i *installation) { i.enforcers.Status = appsv1.DaemonSetStatus{} }, "0 of 0 enforcers"},
		{"the webhook is down", func(i *installation) { i.webhook.Status.ReadyReplicas = 0 }, "none of its 2 replicas is ready"},
		{"the API server asks nobody", func(i *installation) { i.asked.Webhooks = nil }, "still empty"},
		{"an open policy is admitted", func(i *installation) { i.onPolicy = nil }, "it was admitted"},
		{"a missing right is no refusal", func(i *installation) { i.onPolicy = errors.New("forbidden: cannot create") }, "it was not webhook policies.tierwall.io"},
		{"the webhook of somebody else refuses", func(i *installation) { i.onGuardrail = errors.New(`admission webhook "x" denied the request`) }, "it was not webhook guardrails.tierwall.io"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			i := working()
			test.spoil(i)
			out, err := i.check(t)
			if err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, want it to say %q", err, test.says)
			}
			if strings.Count(out, "FAILED") != 1 {
				t.Errorf("want one check to fail:\n%s", out)
			}
		})
	}
}
