//go:build admission

package admission

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/test/apiserver"
	"github.com/tierwall/tierwall/webhook/registration"
)

// pinned is a second release, whose webhook nobody runs: its configurations stay empty, and what its account
// tries is tried in dry runs.
const pinned = "pinned-tierwall"

// thief is a client with the stolen credentials of a service account of tierwall, on a node or on none.
func thief(t *testing.T, account, node string) client.Client {
	t.Helper()
	config := world.api.Config(apiserver.Admin)
	config.Impersonate = rest.ImpersonationConfig{
		UserName: "system:serviceaccount:" + systemNamespace + ":" + account,
		Groups:   []string{"system:serviceaccounts", "system:serviceaccounts:" + systemNamespace, "system:authenticated"},
	}
	if node != "" {
		config.Impersonate.Extra = map[string][]string{"authentication.kubernetes.io/node-name": {node}}
	}
	c, err := client.New(config, client.Options{Scheme: scheme()})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// installPinned installs the second release, and returns what its configurations are to hold.
func installPinned(t *testing.T) registration.Webhooks {
	t.Helper()
	c, err := renderRelease(t.Context(), strings.TrimSuffix(pinned, "-tierwall"), "templates/admission/configurations.yaml", "templates/admission/configmap.yaml",
		"templates/admission/accounts.yaml", "templates/webhook/rbac.yaml", "templates/enforcer/rbac.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c.crds = nil
	if err := c.install(t.Context(), world.admin); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, o := range c.objects {
			remove(t, o)
		}
	})
	hooks, err := c.asRendered()
	if err != nil {
		t.Fatal(err)
	}
	return hooks
}

func validatingConfiguration(hooks registration.Webhooks) *admissionv1.ValidatingWebhookConfiguration {
	o := &admissionv1.ValidatingWebhookConfiguration{}
	for _, h := range hooks.Validating {
		h.ClientConfig.CABundle = []byte(authority)
		o.Webhooks = append(o.Webhooks, *h.DeepCopy())
	}
	return o
}

func mutatingConfiguration(hooks registration.Webhooks) *admissionv1.MutatingWebhookConfiguration {
	o := &admissionv1.MutatingWebhookConfiguration{}
	for _, h := range hooks.Mutating {
		h.ClientConfig.CABundle = []byte(authority)
		o.Webhooks = append(o.Webhooks, *h.DeepCopy())
	}
	return o
}

// everything is a rule that has every Secret sent to the webhook.
var everything = admissionv1.RuleWithOperations{Operations: []admissionv1.OperationType{"*"},
	Rule: admissionv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"secrets"}}}

// thefts change the validating webhooks of the chart to the thief's advantage.
var thefts = map[string]func(*admissionv1.ValidatingWebhookConfiguration){
	"a rule more": func(c *admissionv1.ValidatingWebhookConfiguration) {
		c.Webhooks[0].Rules = append(c.Webhooks[0].Rules, everything)
	},
	"another rule": func(c *admissionv1.ValidatingWebhookConfiguration) { c.Webhooks[1].Rules[0] = everything },
	"a resource more": func(c *admissionv1.ValidatingWebhookConfiguration) {
		c.Webhooks[3].Rules[0].Resources = append(c.Webhooks[3].Rules[0].Resources, "secrets")
	},
	"an operation more": func(c *admissionv1.ValidatingWebhookConfiguration) {
		c.Webhooks[1].Rules[0].Operations = []admissionv1.OperationType{"*"}
	},
	"no rules": func(c *admissionv1.ValidatingWebhookConfiguration) { c.Webhooks[0].Rules = nil },
	"a URL": func(c *admissionv1.ValidatingWebhookConfiguration) {
		c.Webhooks[0].ClientConfig.Service = nil
		c.Webhooks[0].ClientConfig.URL = pointerTo("https://thief.example/")
	},
	"another Service": func(c *admissionv1.ValidatingWebhookConfiguration) { c.Webhooks[0].ClientConfig.Service.Name = "thief" },
	"another namespace": func(c *admissionv1.ValidatingWebhookConfiguration) {
		c.Webhooks[0].ClientConfig.Service.Namespace = "default"
	},
	"another port": func(c *admissionv1.ValidatingWebhookConfiguration) {
		c.Webhooks[0].ClientConfig.Service.Port = pointerTo(int32(8443))
	},
	"another path": func(c *admissionv1.ValidatingWebhookConfiguration) {
		c.Webhooks[0].ClientConfig.Service.Path = pointerTo("/tierroles")
	},
	"no path": func(c *admissionv1.ValidatingWebhookConfiguration) { c.Webhooks[0].ClientConfig.Service.Path = nil },
	"failure policy": func(c *admissionv1.ValidatingWebhookConfiguration) {
		c.Webhooks[0].FailurePolicy = pointerTo(admissionv1.Ignore)
	},
	"the last failure policy": func(c *admissionv1.ValidatingWebhookConfiguration) {
		c.Webhooks[len(c.Webhooks)-1].FailurePolicy = pointerTo(admissionv1.Fail)
	},
	"match policy": func(c *admissionv1.ValidatingWebhookConfiguration) {
		c.Webhooks[0].MatchPolicy = pointerTo(admissionv1.Exact)
	},
	"more namespaces": func(c *admissionv1.ValidatingWebhookConfiguration) {
		c.Webhooks[0].NamespaceSelector = &metav1.LabelSelector{}
	},
	"fewer namespaces": func(c *admissionv1.ValidatingWebhookConfiguration) {
		s := c.Webhooks[0].NamespaceSelector
		s.MatchExpressions[0].Values = append(s.MatchExpressions[0].Values, "prod")
	},
	"an object selector": func(c *admissionv1.ValidatingWebhookConfiguration) {
		c.Webhooks[0].ObjectSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}}
	},
	"a match condition": func(c *admissionv1.ValidatingWebhookConfiguration) {
		c.Webhooks[0].MatchConditions = []admissionv1.MatchCondition{{Name: "never", Expression: "false"}}
	},
	"no match condition": func(c *admissionv1.ValidatingWebhookConfiguration) { c.Webhooks[3].MatchConditions = nil },
	"another condition": func(c *admissionv1.ValidatingWebhookConfiguration) {
		c.Webhooks[3].MatchConditions[0].Expression = "false"
	},
	"a longer timeout": func(c *admissionv1.ValidatingWebhookConfiguration) {
		c.Webhooks[0].TimeoutSeconds = pointerTo(int32(30))
	},
	"another review": func(c *admissionv1.ValidatingWebhookConfiguration) {
		c.Webhooks[0].AdmissionReviewVersions = []string{"v1beta1", "v1"}
	},
	"one webhook less": func(c *admissionv1.ValidatingWebhookConfiguration) { c.Webhooks = c.Webhooks[1:] },
	"no webhook":       func(c *admissionv1.ValidatingWebhookConfiguration) { c.Webhooks = nil },
	"one webhook more": func(c *admissionv1.ValidatingWebhookConfiguration) {
		more := *c.Webhooks[0].DeepCopy()
		more.Name = "more.tierwall.io"
		c.Webhooks = append(c.Webhooks, more)
	},
	"another name":         func(c *admissionv1.ValidatingWebhookConfiguration) { c.Webhooks[0].Name = "policies2.tierwall.io" },
	"the rules of another": func(c *admissionv1.ValidatingWebhookConfiguration) { c.Webhooks[0].Rules = c.Webhooks[1].Rules },
	"an owner that is not there": func(c *admissionv1.ValidatingWebhookConfiguration) {
		c.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Namespace", Name: "gone", UID: "1"}}
	},
	"a finalizer": func(c *admissionv1.ValidatingWebhookConfiguration) { c.Finalizers = []string{"example.com/kept"} },
	"a label": func(c *admissionv1.ValidatingWebhookConfiguration) {
		c.Labels["app.kubernetes.io/managed-by"] = "thief"
	},
	"an annotation": func(c *admissionv1.ValidatingWebhookConfiguration) { c.Annotations = map[string]string{"a": "b"} },
}

func pointerTo[T any](v T) *T { return &v }

// The webhook's account may fill in the configurations that the chart pins, with any authority, and nothing else.
func TestTheWebhooksAccountFillsItsConfigurationsAndNoMore(t *testing.T) {
	hooks := installPinned(t)
	webhook := thief(t, pinned+"-webhook", "")
	get := func() *admissionv1.ValidatingWebhookConfiguration {
		o := &admissionv1.ValidatingWebhookConfiguration{}
		if err := webhook.Get(t.Context(), types.NamespacedName{Name: pinned}, o); err != nil {
			t.Fatal(err)
		}
		o.Webhooks = validatingConfiguration(hooks).Webhooks
		return o
	}
	becomes(t, "allowed to read", func() error { // roles and admission policies take effect a moment later
		return webhook.Get(t.Context(), types.NamespacedName{Name: pinned}, &admissionv1.ValidatingWebhookConfiguration{})
	})
	becomes(t, "pinned", func() error {
		o := get()
		thefts["a URL"](o)
		if err := webhook.Update(t.Context(), o, client.DryRunAll); !contains(err, "'"+pinned+"-configurations'") {
			return fmt.Errorf("a URL is not refused yet: %v", err) //nolint:errorlint // it may be nil
		}
		return nil
	})
	if err := webhook.Update(t.Context(), get(), client.DryRunAll); err != nil {
		t.Errorf("the chart's own webhooks: %v", err)
	}
	for name, steal := range thefts {
		t.Run(name, func(t *testing.T) {
			o := get()
			steal(o)
			isPinned(t, webhook.Update(t.Context(), o, client.DryRunAll))
		})
	}
	m := &admissionv1.MutatingWebhookConfiguration{}
	if err := webhook.Get(t.Context(), types.NamespacedName{Name: pinned}, m); err != nil {
		t.Fatal(err)
	}
	m.Webhooks = mutatingConfiguration(hooks).Webhooks
	if err := webhook.Update(t.Context(), m.DeepCopy(), client.DryRunAll); err != nil {
		t.Errorf("the chart's own mutating webhooks: %v", err)
	}
	for name, steal := range map[string]func(*admissionv1.MutatingWebhook){
		"a rule": func(w *admissionv1.MutatingWebhook) { w.Rules[0] = everything },
		"reinvocation": func(w *admissionv1.MutatingWebhook) {
			w.ReinvocationPolicy = pointerTo(admissionv1.NeverReinvocationPolicy)
		},
		"failure policy": func(w *admissionv1.MutatingWebhook) { w.FailurePolicy = pointerTo(admissionv1.Fail) },
		"a Service":      func(w *admissionv1.MutatingWebhook) { w.ClientConfig.Service.Name = "thief" },
	} {
		t.Run("mutating: "+name, func(t *testing.T) {
			o := m.DeepCopy()
			steal(&o.Webhooks[0])
			isPinned(t, webhook.Update(t.Context(), o, client.DryRunAll))
		})
	}
}

// isPinned checks that the admission policy refused it; what other checks refuse would pass some day.
func isPinned(t *testing.T, err error) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), "'"+pinned+"-configurations'") {
		t.Errorf("error %v, want a refusal by %s-configurations", err, pinned)
	}
}

// isRefused reports whether RBAC or an admission policy refused a request.
func isRefused(err error) bool {
	return apierrors.IsForbidden(err) || contains(err, "ValidatingAdmissionPolicy 'tierwall")
}

// What else stolen credentials of tierwall are tried for: RBAC refuses it.
func TestStolenAccountsOpenNothingElse(t *testing.T) {
	shop(t, "stolen")
	create(t, pod("stolen", "web", "web"))
	hooks, err := world.chart.asRendered()
	if err != nil {
		t.Fatal(err)
	}
	v := validatingConfiguration(hooks)
	v.Name = "thief"
	m := mutatingConfiguration(hooks)
	m.Name = "thief"
	vap := &admissionv1.ValidatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: "tierwall-configurations"}}
	binding := &admissionv1.ValidatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: "tierwall-configurations"}}
	own := &admissionv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "tierwall"}}
	running := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "stolen", Name: "web"}}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1"}}
	cnp := &policyv1alpha2.ClusterNetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: "tierwall-dns"}}
	patch := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"annotations":{"a":"b"}}}`))
	for name, try := range map[string]func(context.Context, client.Client) error{
		"another configuration": func(ctx context.Context, c client.Client) error { return c.Create(ctx, v.DeepCopy(), client.DryRunAll) },
		"another mutating one":  func(ctx context.Context, c client.Client) error { return c.Create(ctx, m.DeepCopy(), client.DryRunAll) },
		"the configuration goes": func(ctx context.Context, c client.Client) error {
			return c.Delete(ctx, own.DeepCopy(), client.DryRunAll)
		},
		"the policy goes": func(ctx context.Context, c client.Client) error {
			return c.Delete(ctx, vap.DeepCopy(), client.DryRunAll)
		},
		"the policy changes": func(ctx context.Context, c client.Client) error {
			return c.Patch(ctx, vap.DeepCopy(), patch, client.DryRunAll)
		},
		"the binding goes": func(ctx context.Context, c client.Client) error {
			return c.Delete(ctx, binding.DeepCopy(), client.DryRunAll)
		},
		"the binding changes": func(ctx context.Context, c client.Client) error {
			return c.Patch(ctx, binding.DeepCopy(), patch, client.DryRunAll)
		},
		"all Secrets": func(ctx context.Context, c client.Client) error { return c.List(ctx, &corev1.SecretList{}) },
		"the Secrets of its namespace": func(ctx context.Context, c client.Client) error {
			return c.List(ctx, &corev1.SecretList{}, client.InNamespace(systemNamespace))
		},
		"a pod's annotation": func(ctx context.Context, c client.Client) error {
			return c.Patch(ctx, running.DeepCopy(), patch, client.DryRunAll)
		},
		"a pod's status": func(ctx context.Context, c client.Client) error {
			return c.Status().Patch(ctx, running.DeepCopy(), patch, client.DryRunAll)
		},
		"a new pod": func(ctx context.Context, c client.Client) error {
			return c.Create(ctx, pod("stolen", "more", "web"), client.DryRunAll)
		},
		"the pod goes": func(ctx context.Context, c client.Client) error {
			return c.Delete(ctx, running.DeepCopy(), client.DryRunAll)
		},
		"a Node": func(ctx context.Context, c client.Client) error {
			return c.Patch(ctx, node.DeepCopy(), patch, client.DryRunAll)
		},
		"a NetworkPolicy": func(ctx context.Context, c client.Client) error {
			return c.Create(ctx, toTier("stolen", "open", "data", networkingv1.NetworkPolicyPeer{}), client.DryRunAll)
		},
		"a ClusterNetworkPolicy": func(ctx context.Context, c client.Client) error {
			return c.Patch(ctx, cnp.DeepCopy(), patch, client.DryRunAll)
		},
		"a Guardrail goes": func(ctx context.Context, c client.Client) error {
			return c.Delete(ctx, &v1alpha1.Guardrail{ObjectMeta: metav1.ObjectMeta{Name: "tier-order"}}, client.DryRunAll)
		},
		"a TierRole": func(ctx context.Context, c client.Client) error {
			return c.Create(ctx, &v1alpha1.TierRole{ObjectMeta: metav1.ObjectMeta{Name: "x"}, Spec: v1alpha1.TierRoleSpec{Role: "data", Namespaces: []string{"stolen"}}}, client.DryRunAll)
		},
		"the webhooks that are to be": func(ctx context.Context, c client.Client) error {
			return c.Patch(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: systemNamespace, Name: "tierwall-admission"}}, patch, client.DryRunAll)
		},
		"another service account": func(ctx context.Context, c client.Client) error {
			return c.Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: systemNamespace, Name: "more"}}, client.DryRunAll)
		},
	} {
		for _, account := range []string{"tierwall-webhook", "tierwall-enforcer"} {
			t.Run(account+": "+name, func(t *testing.T) {
				if err := try(t.Context(), thief(t, account, "node-1")); !isRefused(err) {
					t.Errorf("error %v, want a refusal", err)
				}
			})
		}
	}
}

// An Event is from a reporter about an object.
func event(reporter, kind, name string) *corev1.Event {
	namespace := "default"
	return &corev1.Event{
		ObjectMeta:          metav1.ObjectMeta{Namespace: namespace, GenerateName: "event-"},
		InvolvedObject:      corev1.ObjectReference{APIVersion: "v1", Kind: kind, Name: name},
		ReportingController: reporter, ReportingInstance: "x", Source: corev1.EventSource{Component: reporter}, Reason: "Test", Action: "Test", Type: "Warning",
		EventTime: metav1.NowMicro(),
	}
}

func newerEvent(reporter, kind, name string) *eventsv1.Event {
	return &eventsv1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", GenerateName: "event-"},
		Regarding:  corev1.ObjectReference{APIVersion: "v1", Kind: kind, Name: name},
		EventTime:  metav1.NowMicro(), ReportingController: reporter, ReportingInstance: "x", Action: "Test", Reason: "Test", Type: "Warning",
	}
}

// Accounts of tierwall write Events in their own name, and an enforcer about its own Node.
func TestEventsOfStolenAccounts(t *testing.T) {
	foreign := event("kubelet", "Node", "node-1")
	create(t, foreign)
	for _, c := range []struct {
		account, node, reporter, kind, about string
		ok                                   bool
	}{
		{"tierwall-enforcer", "node-1", "tierwall-enforcer", "Node", "node-1", true},
		{"tierwall-enforcer", "node-1", "tierwall-enforcer", "Node", "node-2", false},
		{"tierwall-enforcer", "", "tierwall-enforcer", "Node", "node-1", false},
		{"tierwall-enforcer", "node-1", "kubelet", "Node", "node-1", false},
		{"tierwall-enforcer", "node-1", "tierwall-webhook", "Pod", "web", false},
		{"tierwall-webhook", "node-1", "tierwall-webhook", "NetworkPolicy", "web", true},
		{"tierwall-webhook", "node-1", "tierwall-audit", "NetworkPolicy", "web", true},
		{"tierwall-webhook", "node-1", "deployment-controller", "Deployment", "web", false},
		{"tierwall-webhook", "node-1", "anything", "Lease", "web", false}, // in another namespace than the release's
	} {
		t.Run(fmt.Sprintf("%s on %q by %s about %s %s", c.account, c.node, c.reporter, c.kind, c.about), func(t *testing.T) {
			var e client.Object = event(c.reporter, c.kind, c.about)
			if c.account == "tierwall-webhook" { // it writes the newer kind
				e = newerEvent(c.reporter, c.kind, c.about)
			}
			err := thief(t, c.account, c.node).Create(t.Context(), e, client.DryRunAll)
			if c.ok && err != nil || !c.ok && !contains(err, "'tierwall-events'") {
				t.Errorf("allowed: want %v, got error %v", c.ok, err)
			}
		})
	}
	for name, o := range map[string]client.Object{
		"core":          &corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: foreign.Name}},
		"events.k8s.io": &eventsv1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: foreign.Name}},
	} {
		for _, account := range []string{"tierwall-webhook", "tierwall-enforcer"} {
			t.Run(account+" takes over an Event of another: "+name, func(t *testing.T) {
				for _, change := range []string{`{"metadata":{"labels":{"a":"b"}}}`, `{"series":{"count":7,"lastObservedTime":"2026-01-01T00:00:00.000000Z"}}`} {
					err := thief(t, account, "node-1").Patch(t.Context(), o, client.RawPatch(types.MergePatchType, []byte(change)), client.DryRunAll)
					if !isRefused(err) {
						t.Errorf("%s: error %v, want a refusal", change, err)
					}
				}
			})
		}
	}
}

// The webhook keeps the certificate of the enforcers' metrics, by its right to one Secret.
func TestTheWebhookKeepsTheCertificateOfTheMetrics(t *testing.T) {
	becomes(t, "there", func() error {
		secret := &corev1.Secret{}
		if err := world.admin.Get(t.Context(), types.NamespacedName{Namespace: systemNamespace, Name: "tierwall-enforcer-metrics"}, secret); err != nil {
			return err
		}
		for _, key := range []string{"ca.crt", "tls.crt", "tls.key"} {
			if block, _ := pem.Decode(secret.Data[key]); block == nil {
				return fmt.Errorf("%s is no PEM", key)
			}
		}
		return nil
	})
}

// A name that is exempt and has no namespace yet goes to an administrator of tierwall alone.
func TestAnExemptNamespaceIsNotForWhoeverTakesIt(t *testing.T) {
	makers := &client.CreateOptions{DryRun: []string{metav1.DryRunAll}}
	config := world.api.Config(apiserver.Admin)
	config.Impersonate = rest.ImpersonationConfig{UserName: "maker", Groups: []string{"system:authenticated"}}
	maker, err := client.New(config, client.Options{Scheme: scheme()})
	if err != nil {
		t.Fatal(err)
	}
	grant(t, "maker", "namespaces", "create", "")
	for name, exempt := range map[string]bool{"monitoring": true, "backup": true, "monitoring2": false, "prod-x": false} {
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
		err := maker.Create(t.Context(), namespace.DeepCopy(), makers)
		if !exempt && err != nil || exempt && !contains(err, "is exempt from tierwall (exemptNamespaces)") {
			t.Errorf("%s: error %v", name, err)
		}
		if err := world.admin.Create(t.Context(), namespace.DeepCopy(), makers); err != nil {
			t.Errorf("%s, by an administrator: %v", name, err)
		}
	}
	grant(t, "maker", "validatingadmissionpolicies", "update", "tierwall-exempt")
	becomes(t, "allowed", func() error {
		return maker.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "monitoring"}}, makers)
	})
}

// authority is a certificate that the API server takes for an authority.
var authority = newAuthority()

// grant lets a user do something, in the whole cluster.
func grant(t *testing.T, user, resource, verb, name string) {
	t.Helper()
	group := ""
	if resource == "validatingadmissionpolicies" {
		group = "admissionregistration.k8s.io"
	}
	rule := rbacv1.PolicyRule{APIGroups: []string{group}, Resources: []string{resource}, Verbs: []string{verb}}
	if name != "" {
		rule.ResourceNames = []string{name}
	}
	meta := metav1.ObjectMeta{Name: "test-" + user + "-" + resource}
	create(t, &rbacv1.ClusterRole{ObjectMeta: meta, Rules: []rbacv1.PolicyRule{rule}})
	create(t, &rbacv1.ClusterRoleBinding{ObjectMeta: meta, RoleRef: rbacv1.RoleRef{APIGroup: "rbac.authorization.k8s.io", Kind: "ClusterRole", Name: meta.Name},
		Subjects: []rbacv1.Subject{{Kind: "User", APIGroup: "rbac.authorization.k8s.io", Name: user}}})
}

func newAuthority() string {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}
