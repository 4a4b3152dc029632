//go:build admission

package admission

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tierwall/tierwall/api/v1alpha1"
)

const (
	endless  = "\tsome a in numbers.range(1, 10000)\n\tsome b in numbers.range(1, 10000)\n\ta * b == -1\n"
	hoarding = "\txs := [x | some a in numbers.range(1, 10000); some b in numbers.range(1, 10000); x := [a, b]]\n\tcount(xs) == 0\n"
)

// doubling makes a text of 2^40 bytes.
func doubling() string {
	var b strings.Builder
	b.WriteString("\ta0 := \"x\"\n")
	for i := range 40 {
		fmt.Fprintf(&b, "\ta%d := concat(\"\", [a%d, a%d])\n", i+1, i, i)
	}
	return b.String() + "\tcount(a40) == 0\n"
}

// standing checks that the guardrails in force still are.
func standing(t *testing.T, namespace string) {
	t.Helper()
	refusedWith(t, world.admin.Create(t.Context(), toTier(namespace, "probe", "data", fromBlock("0.0.0.0/0")), client.DryRunAll), "Guardrail data-tier-inside")
}

func TestHostileGuardrailsNeverComeIntoForce(t *testing.T) {
	shop(t, "hostile")
	const head = "package tierwall.guardrails.hostile\n\n"
	for name, c := range map[string]struct{ rego, want string }{
		"loops":                   {head + "deny contains \"no\" if {\n" + endless + "}\n", "judging an example: it took too long and was stopped"},
		"allocates":               {head + "deny contains \"no\" if {\n" + hoarding + "}\n", "and was stopped"},
		"doubles":                 {head + "deny contains \"no\" if {\n" + doubling() + "}\n", "and was stopped"},
		"shadows the library":     {"package tierwall.lib\n\nopens(_) := false\n", "hostile.rego:1:1: package is tierwall.lib; want tierwall.guardrails.hostile"},
		"shadows a guardrail":     {"package tierwall.guardrails.data_tier_inside\n\ndeny contains \"no\" if false\n", "want tierwall.guardrails.hostile"},
		"gives a flag":            {head + "deny := true\n", "hostile.rego:3:1: rule deny is not a set of messages"},
		"gives a number":          {head + "deny contains 1\n", "judging an example: deny has an element that is neither a text"},
		"has no rule":             {head + "forbid contains \"no\"\n", "there is no rule"},
		"asks the clock":          {head + "deny contains \"no\" if time.now_ns() > 0\n", "hostile.rego:3:23: undefined function time.now_ns"},
		"is deep":                 {head + "deny contains x if x := " + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + "\n", "judging an example: deny has an element that is neither a text"},
		"reads what it cannot be": {head + "deny contains \"no\" if data.kubernetes.secrets\n", "data.kubernetes.secrets is not for this guardrail"},
	} {
		t.Run(name, func(t *testing.T) {
			g := &v1alpha1.Guardrail{ObjectMeta: metav1.ObjectMeta{Name: "hostile"}, Spec: v1alpha1.GuardrailSpec{Rego: c.rego}}
			refusedWith(t, world.admin.Create(t.Context(), g, client.DryRunAll), "Guardrail hostile: spec.rego", c.want)
			standing(t, "hostile")
		})
	}
}

// One that judges the example, and turns on a name.
func TestARunawayIsCutAndNamed(t *testing.T) {
	shop(t, "runaway")
	g := forbids("trap", "nothing", "runaway")
	g.Spec.Rego = "package tierwall.guardrails.trap\n\ndeny contains \"no\" if {\n\tinput.request.name == \"trap\"\n" + endless + "}\n"
	create(t, g)
	becomes(t, "in force", func() error { return condition(t, g, "Active", metav1.ConditionTrue, "InForce") })
	refusedWith(t, world.admin.Create(t.Context(), toTier("runaway", "trap", "backend", fromTier("frontend"))),
		"guardrail trap could not judge this: it took too long and was stopped")
	create(t, toTier("runaway", "fine", "backend", fromTier("frontend")))
	standing(t, "runaway")
}

func TestTestsOfAGuardrailThatFail(t *testing.T) {
	g := forbids("tested", "x", "nowhere")
	g.Spec.Tests = "package tierwall.guardrails.tested_test\n\nimport data.tierwall.guardrails.tested\n\ntest_it if count(tested.deny) == 1\n"
	refusedWith(t, world.admin.Create(t.Context(), g.DeepCopy(), client.DryRunAll), "spec.tests", "tested_test.rego:5:1: test_it failed")
	g.Spec.Tests = strings.Replace(g.Spec.Tests, "== 1", "== 1 with input as {\"request\": {\"name\": \"x\"}}", 1)
	if err := world.admin.Create(t.Context(), g.DeepCopy(), client.DryRunAll); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(*v1alpha1.GuardrailSpec){
		"exactly one of library, bundle and rego": func(s *v1alpha1.GuardrailSpec) { s.Bundle = "x" },
		"tests are those of rego":                 func(s *v1alpha1.GuardrailSpec) { s.Rego, s.Library = "", "tier-order" },
		"spec.kinds[0]":                           func(s *v1alpha1.GuardrailSpec) { s.Kinds = []v1alpha1.Kind{"Secret"} },
		"spec.operations[0]":                      func(s *v1alpha1.GuardrailSpec) { s.Operations = []v1alpha1.Operation{"CONNECT"} },
		"spec.enforcement":                        func(s *v1alpha1.GuardrailSpec) { s.Enforcement = "Maybe" },
	} {
		bad := g.DeepCopy()
		change(&bad.Spec)
		if err := world.admin.Create(t.Context(), bad, client.DryRunAll); !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %s", err, want)
		}
	}
}

// ruleFrom is a rule for one address of 10.0.0.0/8, and one port.
func ruleFrom(i int) networkingv1.NetworkPolicyIngressRule {
	port := intstr.FromInt32(int32(1024 + i))
	return networkingv1.NetworkPolicyIngressRule{
		From:  []networkingv1.NetworkPolicyPeer{fromBlock(fmt.Sprintf("10.%d.%d.%d/32", i/65536, i/256%256, i%256))},
		Ports: []networkingv1.NetworkPolicyPort{{Port: &port}},
	}
}

// answered checks that a request was admitted, or refused by a guardrail that says why.
func answered(t *testing.T, err error) {
	t.Helper()
	if err != nil && (!apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "Guardrail ") || len(err.Error()) > 64<<10) {
		t.Errorf("the answer is %.1000v", err)
	}
}

func TestAPolicyOfAThousandRules(t *testing.T) {
	shop(t, "thousand")
	p := toTier("thousand", "long", "frontend")
	p.Spec.Ingress = nil
	for i := range 1000 {
		p.Spec.Ingress = append(p.Spec.Ingress, ruleFrom(i))
	}
	answered(t, world.admin.Create(t.Context(), p, client.DryRunAll))
	p.Spec.Ingress = append(p.Spec.Ingress, networkingv1.NetworkPolicyIngressRule{From: []networkingv1.NetworkPolicyPeer{fromBlock("0.0.0.0/0")}})
	p.Spec.PodSelector.MatchLabels[v1alpha1.RoleLabel] = "data"
	err := world.admin.Create(t.Context(), p, client.DryRunAll)
	answered(t, err)
	if err == nil {
		t.Error("among a thousand rules, one that opens the data tier to the world is let through")
	}
	standing(t, "thousand")
}

func TestHugeObjects(t *testing.T) {
	shop(t, "huge")
	p := toTier("huge", "wide", "frontend")
	for i := range 3000 {
		p.Spec.Ingress[0].From = append(p.Spec.Ingress[0].From, ruleFrom(i).From[0])
	}
	text, err := json.Marshal(p)
	if err != nil || len(text) < 100<<10 {
		t.Fatalf("%d bytes, %v", len(text), err)
	}
	answered(t, world.admin.Create(t.Context(), p, client.DryRunAll))
	p.Spec.Ingress[0].From[0].PodSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"a": strings.Repeat("x", 10<<20)}}
	if err := world.admin.Create(t.Context(), p, client.DryRunAll); !apierrors.IsRequestEntityTooLargeError(err) {
		t.Errorf("10 MB: %.300v", err)
	}
	standing(t, "huge")
}

// The API server takes no object of 10 MB; somebody else may send one.
func TestHugeRequestsToTheWebhookItself(t *testing.T) {
	shop(t, "direct")
	https := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}, Timeout: time.Minute}
	for name, body := range map[string]string{
		"10 MB":   `{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {"uid": "1", "object": {"a": "` + strings.Repeat("x", 10<<20) + `"}}}`,
		"no JSON": strings.Repeat("[", 1<<20),
		"nothing": "",
	} {
		for _, path := range []string{"/policies", "/guardrails", "/tierroles", "/podlabels", "/rolelabel"} {
			answer, err := https.Post(address(world.webhook.port, path), "application/json", bytes.NewBufferString(body))
			if err != nil {
				t.Errorf("%s to %s: %v", name, path, err)
				continue
			}
			text, err := io.ReadAll(answer.Body)
			if err := errors.Join(err, answer.Body.Close()); err != nil {
				t.Error(err)
			}
			if strings.Contains(string(text), `"allowed":true`) {
				t.Errorf("%s to %s is allowed: %.300s", name, path, text)
			}
		}
	}
	standing(t, "direct")
}

func TestUnknownFieldsOpenNothing(t *testing.T) {
	shop(t, "unknown")
	unknown := func(kind, apiVersion string, spec map[string]any) *unstructured.Unstructured {
		o := &unstructured.Unstructured{Object: map[string]any{"apiVersion": apiVersion, "kind": kind,
			"metadata": map[string]any{"name": "odd"}, "spec": spec}}
		if kind == "NetworkPolicy" {
			o.SetNamespace("unknown")
		}
		return o
	}
	for _, o := range []*unstructured.Unstructured{
		unknown("Guardrail", "tierwall.io/v1alpha1", map[string]any{"library": "tier-order", "enforcment": "Audit"}),
		unknown("NetworkPolicy", "networking.k8s.io/v1", map[string]any{"podSelector": map[string]any{}, "ingres": []any{}}),
		unknown("ClusterNetworkPolicy", "policy.networking.k8s.io/v1alpha2", map[string]any{"tier": "Admin", "priority": int64(1),
			"subject": map[string]any{"namespaces": map[string]any{}},
			"ingress": []any{map[string]any{"action": "Accept", "from": []any{map[string]any{"everybody": map[string]any{}}}}}}),
	} {
		if err := world.admin.Create(t.Context(), o.DeepCopy(), client.DryRunAll, client.FieldValidation("Strict")); !apierrors.IsBadRequest(err) {
			t.Errorf("%s, strictly: %v", o.GetKind(), err)
		}
		if o.GetKind() != "ClusterNetworkPolicy" {
			continue
		}
		err := world.admin.Create(t.Context(), o.DeepCopy(), client.DryRunAll, client.FieldValidation("Ignore"))
		if err == nil {
			t.Errorf("%s with a peer that nobody knows is let through", o.GetKind())
		}
	}
}
