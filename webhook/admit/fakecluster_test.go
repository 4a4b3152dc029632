package admit

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/clustercache"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/rego"
	"github.com/tierwall/tierwall/webhook/guardrails"
)

// fakeCluster is a cluster as the handlers see it.
type fakeCluster struct {
	snapshot compile.Snapshot
	unsynced bool
}

func (w *fakeCluster) Snapshot() *compile.Snapshot { return &w.snapshot }

func (w *fakeCluster) Synced() bool { return !w.unsynced }

func (w *fakeCluster) Next() <-chan struct{} { return nil }

// newShopCluster is a world in which pods in namespace shop that run as postgres are
// data, as web frontend, and those labelled app=db data as well.
func newShopCluster() *fakeCluster {
	return &fakeCluster{snapshot: compile.Snapshot{
		Namespaces: []*compile.Namespace{{Name: "shop", Labels: map[string]string{"environment": "prod"}}, {Name: "test"}},
		Pods: []*compile.Pod{
			{Namespace: "shop", Name: "db-0", ServiceAccount: "postgres", Labels: map[string]string{"app": "pg"}},
			{Namespace: "shop", Name: "plain", ServiceAccount: "default", Labels: map[string]string{"a": "b"}},
		},
		TierRoles: []*v1alpha1.TierRole{
			newTierRole("shop-data", v1alpha1.TierRoleSpec{Role: "data", Namespaces: []string{"shop"}, ServiceAccounts: []string{"postgres"}}),
			newTierRole("shop-web", v1alpha1.TierRoleSpec{Role: "frontend", Namespaces: []string{"shop"}, ServiceAccounts: []string{"web"}}),
			newTierRole("shop-db", v1alpha1.TierRoleSpec{Role: "data", Namespaces: []string{"shop"},
				PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "db"}}}),
		},
	}}
}

func newTierRole(name string, spec v1alpha1.TierRoleSpec) *v1alpha1.TierRole {
	return &v1alpha1.TierRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec}
}

var decoder = admission.NewDecoder(clustercache.Scheme())

// newRequest is a request about objects of a kind; nil is absent.
func newRequest(op admissionv1.Operation, kind, namespace string, old, now any) admission.Request {
	return admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
		UID: "1", Operation: op, Namespace: namespace,
		Kind:      metav1.GroupVersionKind{Kind: kind},
		UserInfo:  authenticationv1.UserInfo{Username: "anna"},
		OldObject: toRawExtension(old), Object: toRawExtension(now),
	}}
}

func toRawExtension(o any) runtime.RawExtension {
	if o == nil {
		return runtime.RawExtension{}
	}
	text, err := json.Marshal(o)
	if err != nil {
		panic(err)
	}
	return runtime.RawExtension{Raw: text}
}

func newPod(account string, labels map[string]string) *corev1.Pod {
	return &corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "shop", Labels: labels},
		Spec:       corev1.PodSpec{ServiceAccountName: account}}
}

type labels = map[string]string

// networkPolicy lets what the rule says into every pod of shop.
func networkPolicy(rules ...networkingv1.NetworkPolicyIngressRule) *networkingv1.NetworkPolicy {
	return &networkingv1.NetworkPolicy{
		TypeMeta:   metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "NetworkPolicy"},
		ObjectMeta: metav1.ObjectMeta{Name: "backend", Namespace: "shop"},
		Spec:       networkingv1.NetworkPolicySpec{PolicyTypes: []networkingv1.PolicyType{"Ingress"}, Ingress: rules},
	}
}

func fromBlock(cidr string) networkingv1.NetworkPolicyIngressRule {
	return networkingv1.NetworkPolicyIngressRule{From: []networkingv1.NetworkPolicyPeer{{IPBlock: &networkingv1.IPBlock{CIDR: cidr}}}}
}

// newGuardrail is a Guardrail of a rule's body, whose message is "no".
func newGuardrail(name, rule, body string) *v1alpha1.Guardrail {
	return &v1alpha1.Guardrail{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("uid-" + name), Generation: 1},
		Spec: v1alpha1.GuardrailSpec{Enforcement: v1alpha1.EnforceDeny,
			Rego: "package tierwall.guardrails." + name + "\n\n" + rule + " contains \"no\" if {\n\t" + body + "\n}\n"},
	}
}

// newLoadedStore returns a store with the guardrails in force.
func newLoadedStore(t testing.TB, inForce ...*v1alpha1.Guardrail) *guardrails.GuardrailStore {
	t.Helper()
	s := guardrails.NewGuardrailStore(nil, discardLog)
	s.Load(t.Context(), inForce)
	return s
}

// judgeFunc is a Judge.
type judgeFunc func(context.Context, rego.Input) (rego.Result, error)

func (f judgeFunc) Judge(ctx context.Context, in rego.Input) (rego.Result, error) { return f(ctx, in) }

func newPolicyHandler(w *fakeCluster, j Judge) *PolicyHandler {
	return &PolicyHandler{Reviewer: newReviewer(w, j), Decoder: decoder}
}

func newReviewer(w *fakeCluster, j Judge) *Reviewer {
	return &Reviewer{Snapshots: w, Guardrails: j, Limit: time.Minute, Log: discardLog,
		Terminating: func(_ context.Context, namespace string) (bool, error) { return namespace == "going", nil }}
}

// assertResponse checks whether an answer allows, and what it says.
func assertResponse(t *testing.T, got admission.Response, allowed bool, message string) {
	t.Helper()
	text := ""
	if got.Result != nil {
		text = got.Result.Message
	}
	if got.Allowed != allowed {
		t.Errorf("allowed %v, want %v; message %q", got.Allowed, allowed, text)
	}
	if !containsText(text, message) {
		t.Errorf("message %q, want %q in it", text, message)
	}
}
