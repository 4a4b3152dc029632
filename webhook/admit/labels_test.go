package admit

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/policy/effect"
	"github.com/tierwall/tierwall/rego"
)

// policyFromSelectors is a policy that lets pods of namespaces, both by their labels, into the pods of shop.
func policyFromSelectors(namespaces, pods labels) *networkingv1.NetworkPolicy {
	return networkPolicy(networkingv1.NetworkPolicyIngressRule{From: []networkingv1.NetworkPolicyPeer{{
		NamespaceSelector: &metav1.LabelSelector{MatchLabels: namespaces}, PodSelector: &metav1.LabelSelector{MatchLabels: pods}}}})
}

// countingJudge counts how often guardrails are asked, and refuses what opens anything.
type countingJudge struct {
	asked int
	last  rego.Input
}

func (j *countingJudge) Judge(_ context.Context, in rego.Input) (rego.Result, error) {
	j.asked, j.last = j.asked+1, in
	if !in.Effect.Complete {
		return rego.Result{Denials: []rego.Violation{{Guardrail: "sure", Message: "incomplete"}}}, nil
	}
	if len(in.Effect.Added) > 0 {
		return rego.Result{Denials: []rego.Violation{{Guardrail: "nothing-new", Message: "opens"}}}, nil
	}
	return rego.Result{}, nil
}

func labelledPod(account, node string, l labels) *corev1.Pod {
	p := newPod(account, l)
	p.Name, p.Spec.NodeName = "plain", node
	return p
}

// A label that opens a path is judged as a policy that opens it is; one that no selector
// mentions is not even looked at.
func TestLabelChangeIsJudgedByEffect(t *testing.T) {
	partner := func(l labels) *corev1.Namespace {
		return &corev1.Namespace{TypeMeta: metav1.TypeMeta{Kind: "Namespace"}, ObjectMeta: metav1.ObjectMeta{Name: "test", Labels: l}}
	}
	plain := func(l labels) *corev1.Pod { return labelledPod("default", "", l) }
	ended, host := plain(nil), plain(nil)
	ended.Status.Phase, host.Spec.HostNetwork = corev1.PodSucceeded, true
	endedNow, hostNow := plain(labels{"app": "client"}), plain(labels{"app": "client"})
	endedNow.Status.Phase, hostNow.Spec.HostNetwork = corev1.PodSucceeded, true
	binding := newRequest("CREATE", "Binding", "shop", nil, &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: "plain", Labels: labels{"app": "client"}}})
	binding.SubResource, binding.Name = "binding", "plain"
	for _, c := range []struct {
		name    string
		req     admission.Request
		allowed bool
		asked   int
	}{
		{"pod, opens", newRequest("UPDATE", "Pod", "shop", plain(nil), plain(labels{"app": "client"})), false, 1},
		{"pod, closes", newRequest("UPDATE", "Pod", "shop", plain(labels{"app": "client"}), plain(nil)), true, 1},
		{"pod, opens as before", newRequest("UPDATE", "Pod", "shop", plain(labels{"app": "client", "a": "b"}), plain(labels{"app": "client"})), true, 0},
		{"pod, no selector mentions it", newRequest("UPDATE", "Pod", "shop", plain(nil), plain(labels{"version": "2"})), true, 0},
		{"pod, no selector mentions the value", newRequest("UPDATE", "Pod", "shop", plain(nil), plain(labels{"app": "other"})), true, 0},
		{"pod, ended", newRequest("UPDATE", "Pod", "shop", ended, endedNow), true, 0},
		{"pod, on the host network", newRequest("UPDATE", "Pod", "shop", host, hostNow), true, 0},
		{"pod, by a binding", binding, false, 1},
		{"namespace, opens", newRequest("UPDATE", "Namespace", "", partner(nil), partner(labels{"partner": "yes"})), false, 1},
		{"namespace, closes", newRequest("UPDATE", "Namespace", "", partner(labels{"partner": "yes"}), partner(nil)), true, 1},
		{"namespace, no selector mentions it", newRequest("UPDATE", "Namespace", "", partner(nil), partner(labels{"x": "yes"})), true, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, j := newShopCluster(), &countingJudge{}
			w.snapshot.NetworkPolicies = []*networkingv1.NetworkPolicy{policyFromSelectors(nil, labels{"app": "client"})}
			other := policyFromSelectors(labels{"partner": "yes"}, nil)
			other.Name = "partners"
			w.snapshot.NetworkPolicies = append(w.snapshot.NetworkPolicies, other)
			var h admission.Handler = &PodLabelHandler{Reviewer: newReviewer(w, j), Decoder: decoder}
			if c.req.Kind.Kind == "Namespace" {
				c.req.Name = "test"
				h = &NamespaceHandler{Reviewer: newReviewer(w, j), Decoder: decoder}
			}
			assertResponse(t, h.Handle(t.Context(), c.req), c.allowed, "")
			if j.asked != c.asked {
				t.Errorf("the guardrails were asked %d times, want %d: %+v", j.asked, c.asked, j.last.Effect)
			}
		})
	}
}

// A new pod is judged as one that gets its labels; one like those that are there is not even looked at.
func TestNewPodIsJudgedByEffect(t *testing.T) {
	made := func(account string, l labels) *corev1.Pod {
		p := newPod(account, l)
		p.Name = "new"
		return p
	}
	host, ported := made("default", labels{"app": "client"}), made("default", labels{"app": "server"})
	host.Spec.HostNetwork = true
	ported.Spec.Containers = []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "admin", ContainerPort: 81}}}}
	for _, c := range []struct {
		name    string
		pod     *corev1.Pod
		allowed bool
		asked   int
	}{
		{"opens", made("default", labels{"app": "client"}), false, 1},
		{"opens, with a true role", made("web", labels{"app": "client", role: "frontend"}), false, 1},
		{"opens by the role that a label gives", made("default", labels{"app": "db", role: "data"}), false, 1},
		{"like one there is", made("default", labels{"app": "server", "version": "2"}), true, 0},
		{"like one there is, but of another account", made("web", labels{"app": "server", role: "frontend"}), false, 1},
		{"like one there is, but with a port of its own", ported, false, 1},
		{"no labels", made("default", nil), true, 0},
		{"no selector mentions it", made("default", labels{"version": "2"}), true, 0},
		{"no selector mentions the value", made("default", labels{"app": "other"}), true, 0},
		{"on the host network", host, true, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, j := newShopCluster(), &countingJudge{}
			w.snapshot.Pods = append(w.snapshot.Pods, &compile.Pod{Namespace: "shop", Name: "old", ServiceAccount: "default", Labels: labels{"app": "server"}})
			for i, l := range []labels{{"app": "client"}, {"app": "server"}, {role: "data"}} {
				np := policyFromSelectors(nil, l)
				np.Name += strconv.Itoa(i)
				w.snapshot.NetworkPolicies = append(w.snapshot.NetworkPolicies, np)
			}
			h := &PodLabelHandler{Reviewer: newReviewer(w, j), Decoder: decoder}
			assertResponse(t, h.Handle(t.Context(), newRequest("CREATE", "Pod", "shop", nil, c.pod)), c.allowed, "")
			if j.asked != c.asked {
				t.Errorf("the guardrails were asked %d times, want %d: %+v", j.asked, c.asked, j.last.Effect)
			}
		})
	}
}

// What cannot be judged must not stop pods.
func TestNewPodIsAdmittedIfJudgingFails(t *testing.T) {
	w := newShopCluster()
	w.snapshot.NetworkPolicies = []*networkingv1.NetworkPolicy{policyFromSelectors(nil, labels{"app": "client"})}
	broken := judgeFunc(func(context.Context, rego.Input) (rego.Result, error) {
		return rego.Result{}, errors.New("no evaluator")
	})
	got := (&PodLabelHandler{Reviewer: newReviewer(w, broken), Decoder: decoder}).Handle(t.Context(),
		newRequest("CREATE", "Pod", "shop", nil, newPod("default", labels{"app": "client"})))
	assertResponse(t, got, true, "")
	if len(got.Warnings) != 1 || !containsText(got.Warnings[0], "was not judged: ask the guardrails: no evaluator") {
		t.Errorf("warnings %q", got.Warnings)
	}
}

func TestGuardrailInputOfNamespaceHasItsLabels(t *testing.T) {
	w, j := newShopCluster(), &countingJudge{}
	w.snapshot.NetworkPolicies = []*networkingv1.NetworkPolicy{policyFromSelectors(labels{"partner": "yes"}, nil)}
	old := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "test"}}
	now := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "test", Labels: labels{"partner": "yes"}}}
	req := newRequest("UPDATE", "Namespace", "", old, now)
	req.Name = "test"
	assertResponse(t, (&NamespaceHandler{Reviewer: newReviewer(w, j), Decoder: decoder}).Handle(t.Context(), req), false, "nothing-new")
	if n := j.last.Namespace; n.Name != "test" || n.Labels["partner"] != "yes" {
		t.Errorf("namespace %+v, want test as it would be", n)
	}
	// There is no pod in it yet: the row is about those that could come.
	if rows := j.last.Effect.Added; len(rows) == 0 || rows[0].From.Kind != effect.Class || rows[0].From.Namespace != "test" {
		t.Errorf("rows %+v, want what pods of test could reach", rows)
	}
}

// A TierRole gives pods, those that exist and those that could, what policies offer to its role.
func TestTierRoleChangeIsJudgedByEffect(t *testing.T) {
	backend := func(accounts ...string) *v1alpha1.TierRole {
		return newTierRole("backend", v1alpha1.TierRoleSpec{Role: "backend", Namespaces: []string{"shop"}, ServiceAccounts: accounts})
	}
	for _, c := range []struct {
		name     string
		old, now *v1alpha1.TierRole
		allowed  bool
	}{
		{"a role for a pod there is", nil, backend("default"), false},
		{"a role for pods that could be", nil, backend("nobody-yet"), false},
		{"another service account", backend("nobody-yet"), backend("default"), false},
		{"a role that goes", backend("default"), nil, true},
		{"nothing new", backend("default"), backend("default"), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, j := newShopCluster(), &countingJudge{}
			w.snapshot.NetworkPolicies = []*networkingv1.NetworkPolicy{policyFromSelectors(nil, labels{role: "backend"})}
			if c.old != nil {
				w.snapshot.TierRoles = append(w.snapshot.TierRoles, c.old)
			}
			op, old, now := tierRoleRequest(c.old, c.now)
			h := &TierRoleHandler{Reviewer: newReviewer(w, j), Decoder: decoder}
			assertResponse(t, h.Handle(t.Context(), newRequest(op, "TierRole", "", old, now)), c.allowed, "")
		})
	}
}

// A label and a policy that come together open what neither opens alone.
func TestConcurrentLabelAndPolicyAreJudgedTogether(t *testing.T) {
	asked := 0
	clients := judgeFunc(func(_ context.Context, in rego.Input) (r rego.Result, _ error) {
		asked++
		if slices.ContainsFunc(in.Effect.Added, func(row effect.Row) bool { return row.From.Kind == effect.Workload }) {
			r.Denials = []rego.Violation{{Guardrail: "no-clients", Message: "opens"}}
		}
		return r, nil
	})
	c := newReviewer(newShopCluster(), clients)
	pods, policies := &PodLabelHandler{Reviewer: c, Decoder: decoder}, &PolicyHandler{Reviewer: c, Decoder: decoder}
	label := newRequest("UPDATE", "Pod", "shop", labelledPod("default", "", nil), labelledPod("default", "", labels{"app": "client"}))
	admits := newRequest("CREATE", "NetworkPolicy", "shop", nil, policyFromSelectors(nil, labels{"app": "client"}))
	rehearsal, dry := admits, true
	rehearsal.DryRun = &dry
	assertResponse(t, policies.Handle(t.Context(), rehearsal), true, "")
	asked = 0
	assertResponse(t, pods.Handle(t.Context(), label), true, "")
	if asked != 0 {
		t.Error("the guardrails were asked about a label that nothing mentions yet")
	}
	assertResponse(t, policies.Handle(t.Context(), admits), false, "opens")
}

func tierRoleRequest(old, now *v1alpha1.TierRole) (op admissionv1.Operation, before, after any) {
	switch {
	case old == nil:
		return admissionv1.Create, nil, now
	case now == nil:
		return admissionv1.Delete, old, nil
	default:
		return admissionv1.Update, old, now
	}
}
