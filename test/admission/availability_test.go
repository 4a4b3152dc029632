//go:build admission

package admission

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/test/apiserver"
	"github.com/tierwall/tierwall/webhook/server"
)

// slow puts a Guardrail in force that never comes to an end about policies of its name in the namespace.
func slow(t *testing.T, name, namespace string) {
	t.Helper()
	create(t, &v1alpha1.Guardrail{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.GuardrailSpec{
		Namespaces: []string{namespace},
		Rego: "package tierwall.guardrails." + strings.ReplaceAll(name, "-", "_") + `

deny contains "no" if {
	input.request.name == "` + name + `"
	xs := numbers.range(1, 100000)
	some a in xs
	some b in xs
	a + b < 0
}
`}})
	becomes(t, "in force", func() error {
		g := &v1alpha1.Guardrail{ObjectMeta: metav1.ObjectMeta{Name: name}}
		return condition(t, g, "Active", metav1.ConditionTrue, "InForce")
	})
}

func TestARunawayGuardrailIsCutAndNamed(t *testing.T) {
	shop(t, "runaway")
	slow(t, "runaway", "runaway")
	err := world.admin.Create(t.Context(), toTier("runaway", "runaway", "data", fromTier("backend")), client.DryRunAll)
	refusedWith(t, err, "Guardrail runaway", "could not judge this: it took too long and was stopped")
	if err := world.admin.Create(t.Context(), toTier("runaway", "another", "data", fromTier("backend")), client.DryRunAll); err != nil {
		t.Errorf("a policy that it has no trouble with: %v", err)
	}
}

// A replica that goes answers what it was asked.
func TestRequestsUnderWayAreAnsweredWhenTheWebhookStops(t *testing.T) {
	shop(t, "drained")
	slow(t, "draining", "drained")
	before := judgements(t)
	answer := make(chan error, 1)
	go func() {
		answer <- world.admin.Create(context.Background(), toTier("drained", "draining", "data", fromTier("backend")), client.DryRunAll)
	}()
	becomes(t, "under way", func() error {
		if judgements(t) == before {
			return errors.New("the request is not there yet")
		}
		return nil
	})
	if err := world.webhook.stop(); err != nil {
		t.Errorf("the webhook ends with %v", err)
	}
	refusedWith(t, <-answer, "Guardrail draining", "it took too long and was stopped")
	restart(t, "")
}

// judgements is how many requests about policies are under way.
func judgements(t *testing.T) string {
	t.Helper()
	_, body := metrics(t, apiserver.Admin)
	for line := range strings.Lines(body) {
		if strings.HasPrefix(line, `controller_runtime_webhook_requests_in_flight{webhook="/policies"}`) {
			return line
		}
	}
	return ""
}

// A replica without certificate, cluster and guardrails is alive, and not asked.
func TestAWebhookThatKnowsNothingIsNotReady(t *testing.T) {
	ports, err := apiserver.FreePorts(3)
	if err != nil {
		t.Fatal(err)
	}
	hooks, err := world.chart.webhooks(ports[0])
	if err != nil {
		t.Fatal(err)
	}
	config := world.api.Config(apiserver.Admin)
	config.Impersonate = rest.ImpersonationConfig{UserName: "nobody", Groups: []string{"system:authenticated"}} // who may read nothing
	srv, err := server.New(config, server.Options{Defaults: policy.Defaults{}, Namespace: systemNamespace, Service: "another",
		AuthoritySecret: "no-such", Webhooks: hooks, Validating: "another", Mutating: "another", Host: "127.0.0.1", Port: ports[0],
		MetricsAddress: "0", HealthAddress: fmt.Sprintf("127.0.0.1:%d", ports[2]), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(ctx) }()
	health := fmt.Sprintf("http://127.0.0.1:%d", ports[2])
	becomes(t, "alive", func() error { _, err := get(t, health+"/healthz", http.StatusOK); return err })
	for range 5 {
		body, err := get(t, health+"/readyz", http.StatusInternalServerError)
		if err != nil {
			t.Fatal(err)
		}
		for _, check := range []string{"cluster", "guardrails", "certificate"} {
			if !strings.Contains(body, "[-]"+check+" failed") {
				t.Errorf("readyz says %q, want %s in it", body, check)
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	cancel()
	<-ended
}

func get(t *testing.T, url string, status int) (string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != status {
		err = fmt.Errorf("%s: status %d, want %d: %s", url, answer.StatusCode, status, body)
	}
	return string(body), err
}

func TestHugePoliciesGetAnAnswer(t *testing.T) {
	shop(t, "huge")
	create(t, pod("huge", "db", "postgres"))
	blocks := func(n int) *networkingv1.NetworkPolicy {
		p := toTier("huge", "huge", "data")
		rule := p.Spec.Ingress[0]
		p.Spec.Ingress = nil
		for i := range n {
			r := rule.DeepCopy()
			r.From = []networkingv1.NetworkPolicyPeer{fromTier("backend"), fromBlock(fmt.Sprintf("203.%d.%d.0/24", i/250, i%250))}
			p.Spec.Ingress = append(p.Spec.Ingress, *r)
		}
		return p
	}
	refusedWith(t, world.admin.Create(t.Context(), blocks(1000), client.DryRunAll), "Guardrail data-tier-inside")
	sound := blocks(1000)
	for i := range sound.Spec.Ingress {
		sound.Spec.Ingress[i].From = sound.Spec.Ingress[i].From[:1]
	}
	if err := world.admin.Create(t.Context(), sound, client.DryRunAll); err != nil {
		t.Errorf("a thousand rules that open nothing wrong: %v", err)
	}
	tooLarge := blocks(1)
	tooLarge.Annotations = map[string]string{"x": strings.Repeat("x", 10<<20)}
	if err := world.admin.Create(t.Context(), tooLarge, client.DryRunAll); err == nil {
		t.Error("ten megabytes are admitted")
	}
}

// Whoever gets past the network policy that shields the webhook cannot fill its memory.
func TestHugeRequestsAreRefusedByTheWebhookItself(t *testing.T) {
	insecure := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer insecure.CloseIdleConnections()
	body := append([]byte(`{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"`), bytes.Repeat([]byte("x"), 16<<20)...)
	answer, err := insecure.Post(fmt.Sprintf("https://127.0.0.1:%d/policies", world.webhook.port), "application/json", bytes.NewReader(body))
	if err != nil {
		return // it hung up
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	if answer.StatusCode != http.StatusRequestEntityTooLarge || strings.Contains(string(text), `"allowed"`) {
		t.Errorf("answer %s %.200s", answer.Status, text)
	}
}
