package admit

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/rego"
	"github.com/tierwall/tierwall/webhook/guardrails"
)

func portRange(first int, last int32) networkingv1.NetworkPolicyIngressRule {
	p := intstr.FromInt(first)
	return networkingv1.NetworkPolicyIngressRule{Ports: []networkingv1.NetworkPolicyPort{{Port: &p, EndPort: &last}}}
}

func TestInvalidPolicyIsRefused(t *testing.T) {
	unknownPeer := &policyv1alpha2.ClusterNetworkPolicy{
		TypeMeta:   metav1.TypeMeta{APIVersion: "policy.networking.k8s.io/v1alpha2", Kind: "ClusterNetworkPolicy"},
		ObjectMeta: metav1.ObjectMeta{Name: "all"},
		Spec: policyv1alpha2.ClusterNetworkPolicySpec{Tier: policyv1alpha2.AdminTier,
			Subject: policyv1alpha2.ClusterNetworkPolicySubject{Namespaces: &metav1.LabelSelector{}},
			Ingress: []policyv1alpha2.ClusterNetworkPolicyIngressRule{{Action: policyv1alpha2.ClusterNetworkPolicyRuleActionAccept,
				From: []policyv1alpha2.ClusterNetworkPolicyIngressPeer{{}}}}},
	}
	for _, c := range []struct {
		name, kind, field string
		policy            any
	}{
		{"CIDR", "NetworkPolicy", "/spec/ingress/0/from/0/ipBlock/cidr", networkPolicy(fromBlock("10.0.0.0/33"))},
		{"endPort below port", "NetworkPolicy", "/spec/ingress/0/ports/0/endPort", networkPolicy(portRange(90, 80))},
		{"peer that is nothing", "ClusterNetworkPolicy", "/spec/ingress/0/from/0", unknownPeer},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newPolicyHandler(newShopCluster(), newLoadedStore(t))
			got := h.Handle(t.Context(), newRequest("CREATE", c.kind, "shop", nil, c.policy))
			assertResponse(t, got, false, c.field)
			if got.Result.Details == nil || !strings.HasPrefix(got.Result.Details.Causes[0].Field, c.field) {
				t.Errorf("details %+v, want field %s", got.Result.Details, c.field)
			}
		})
	}
}

func TestMetadataOfInvalidPolicyCanChange(t *testing.T) {
	old, now := networkPolicy(fromBlock("10.0.0.0/33")), networkPolicy(fromBlock("10.0.0.0/33"))
	now.Annotations = labels{"owner": "anna"}
	assertResponse(t, newPolicyHandler(newShopCluster(), newLoadedStore(t)).Handle(t.Context(), newRequest("UPDATE", "NetworkPolicy", "shop", old, now)), true, "")
}

func TestFinalizersOfTerminatingPolicyCanBeRemoved(t *testing.T) {
	old, now := networkPolicy(), networkPolicy()
	old.DeletionTimestamp, now.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)}, &metav1.Time{Time: time.Unix(1, 0)}
	old.Finalizers, now.Finalizers = []string{"example.com/x", "example.com/y"}, []string{"example.com/y"}
	h := newPolicyHandler(newShopCluster(), newLoadedStore(t, newGuardrail("never", "deny", "true")))
	assertResponse(t, h.Handle(t.Context(), newRequest("UPDATE", "NetworkPolicy", "shop", old, now)), true, "")
	now.Spec.Ingress = append(now.Spec.Ingress, fromBlock("10.0.0.0/8"))
	assertResponse(t, h.Handle(t.Context(), newRequest("UPDATE", "NetworkPolicy", "shop", old, now)), false, "no (Guardrail never)")
}

func TestGuardrailResultBecomesResponse(t *testing.T) {
	warn := newGuardrail("softly", "warn", "true")
	for _, c := range []struct {
		name    string
		req     admission.Request
		allowed bool
		message string
	}{
		{"creation", newRequest("CREATE", "NetworkPolicy", "shop", nil, networkPolicy()), false, "no (Guardrail created)"},
		{"update", newRequest("UPDATE", "NetworkPolicy", "shop", networkPolicy(), networkPolicy(fromBlock("10.0.0.0/8"))), true, ""},
		{"deletion", newRequest("DELETE", "NetworkPolicy", "shop", networkPolicy(), nil), false, "no (Guardrail deleted)"},
		{"deletion with the namespace", newRequest("DELETE", "NetworkPolicy", "going", networkPolicy(), nil), true, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newLoadedStore(t, warn, newGuardrail("created", "deny", `input.request.operation == "CREATE"`),
				newGuardrail("deleted", "deny", `input.request.operation == "DELETE"; input.object == null`))
			got := newPolicyHandler(newShopCluster(), e).Handle(t.Context(), c.req)
			assertResponse(t, got, c.allowed, c.message)
			if len(got.Warnings) != 1 || got.Warnings[0] != "no (Guardrail softly)" {
				t.Errorf("warnings %q", got.Warnings)
			}
		})
	}
}

func TestGuardrailInputOfPolicyChange(t *testing.T) {
	var in rego.Input
	j := judgeFunc(func(_ context.Context, i rego.Input) (rego.Result, error) { in = i; return rego.Result{}, nil })
	dry := true
	req := newRequest("UPDATE", "NetworkPolicy", "shop", networkPolicy(), networkPolicy(fromBlock("10.0.0.0/8")))
	req.DryRun = &dry
	assertResponse(t, newPolicyHandler(newShopCluster(), j).Handle(t.Context(), req), true, "")
	if in.Source != rego.Admission || !in.Request.DryRun || in.Request.UserInfo.Username != "anna" {
		t.Errorf("request %+v", in.Request)
	}
	if in.Namespace.Name != "shop" || in.Namespace.Labels["environment"] != "prod" {
		t.Errorf("namespace %+v", in.Namespace)
	}
	if !containsText(string(in.Object), "10.0.0.0/8") || containsText(string(in.OldObject), "10.0.0.0/8") {
		t.Errorf("object %s, before %s", in.Object, in.OldObject)
	}
}

func TestAuditedViolationIsNoWarning(t *testing.T) {
	quiet, loud := newGuardrail("quiet", "deny", "true"), newGuardrail("loud", "warn", "true")
	quiet.Spec.Enforcement = v1alpha1.EnforceAudit
	got := newPolicyHandler(newShopCluster(), newLoadedStore(t, quiet, loud)).Handle(t.Context(), newRequest("CREATE", "NetworkPolicy", "shop", nil, networkPolicy()))
	assertResponse(t, got, true, "")
	if len(got.Warnings) != 1 || containsText(got.Warnings[0], "quiet") {
		t.Errorf("warnings %q", got.Warnings)
	}
}

// What the API server says was there before counts, even if the snapshot is
// behind, and nothing but that one policy changes.
func TestChangeReplacesOnePolicy(t *testing.T) {
	w := newShopCluster()
	other, stale := networkPolicy(), networkPolicy(fromBlock("192.0.2.0/24"))
	other.Name = "other"
	w.snapshot.NetworkPolicies = []*networkingv1.NetworkPolicy{other, stale}
	old, now := networkPolicy(fromBlock("10.0.0.0/8")), networkPolicy()
	for _, c := range []struct {
		name          string
		old, now      *networkingv1.NetworkPolicy
		before, after []*networkingv1.NetworkPolicy
	}{
		{"create", nil, now, []*networkingv1.NetworkPolicy{other}, []*networkingv1.NetworkPolicy{other, now}},
		{"update", old, now, []*networkingv1.NetworkPolicy{other, old}, []*networkingv1.NetworkPolicy{other, now}},
		{"delete", old, nil, []*networkingv1.NetworkPolicy{other, old}, []*networkingv1.NetworkPolicy{other}},
	} {
		t.Run(c.name, func(t *testing.T) {
			before, after := networkPolicies.newChange(c.old, c.now).applyTo(w.Snapshot())
			assertPolicies(t, "before", before, c.before)
			assertPolicies(t, "after", after, c.after)
		})
	}
}

func assertPolicies(t *testing.T, when string, s *compile.Snapshot, want []*networkingv1.NetworkPolicy) {
	t.Helper()
	if got, want := string(toRawExtension(s.NetworkPolicies).Raw), string(toRawExtension(want).Raw); got != want {
		t.Errorf("%s: %s, want %s", when, got, want)
	}
}

func TestPolicyIsRefusedIfJudgingFails(t *testing.T) {
	unsynced := newShopCluster()
	unsynced.unsynced = true
	slow := judgeFunc(func(ctx context.Context, _ rego.Input) (rego.Result, error) { <-ctx.Done(); return rego.Result{}, nil })
	broken := judgeFunc(func(context.Context, rego.Input) (rego.Result, error) {
		return rego.Result{}, errors.New("out of order")
	})
	panics := judgeFunc(func(context.Context, rego.Input) (rego.Result, error) { panic("oops") })
	create := newRequest("CREATE", "NetworkPolicy", "shop", nil, networkPolicy())
	notLoaded := guardrails.NewGuardrailStore(nil, discardLog)
	for _, c := range []struct {
		name    string
		world   *fakeCluster
		judge   Judge
		req     admission.Request
		message string
	}{
		{"cluster unknown", unsynced, newLoadedStore(t), create, "does not know the whole cluster yet"},
		{"guardrails not loaded", newShopCluster(), notLoaded, create, "the guardrails are not loaded yet"},
		{"guardrails fail", newShopCluster(), broken, create, "ask the guardrails: out of order"},
		{"too slow", newShopCluster(), slow, create, "did not answer in time"},
		{"panic", newShopCluster(), panics, create, "oops"},
		{"garbage", newShopCluster(), newLoadedStore(t), newRequest("CREATE", "NetworkPolicy", "shop", nil, "garbage"), "read the NetworkPolicy"},
		{"another kind", newShopCluster(), newLoadedStore(t), newRequest("CREATE", "Secret", "shop", nil, networkPolicy()), "kind Secret is no policy"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newPolicyHandler(c.world, c.judge)
			if c.name == "too slow" {
				h.Limit = 50 * time.Millisecond
			}
			got := (&admission.Webhook{Handler: h}).Handle(t.Context(), c.req)
			assertResponse(t, got, false, c.message)
		})
	}
}

func TestReviewWaitsForSlot(t *testing.T) {
	h := newPolicyHandler(newShopCluster(), newLoadedStore(t))
	h.Slots, h.Limit = NewSlots(1), 50*time.Millisecond
	create := newRequest("CREATE", "NetworkPolicy", "shop", nil, networkPolicy())
	release, err := h.Slots.acquire(t.Context(), smallLane, "namespace other")
	if err != nil {
		t.Fatal(err)
	}
	assertResponse(t, h.Handle(t.Context(), create), false, "too many changes are reviewed at once")
	release()
	h.Limit = time.Minute
	for range 2 { // and gives it back
		assertResponse(t, h.Handle(t.Context(), create), true, "")
	}
}

func TestRefusalCountsOmittedReasons(t *testing.T) {
	var reasons []denialReason
	for range maxReasons + 3 {
		reasons = append(reasons, denialReason{field: "/spec", message: "bad"})
	}
	got := denyRequest(reasons...)
	assertResponse(t, got, false, "and 3 more")
	if n := len(got.Result.Details.Causes); n != maxReasons {
		t.Errorf("%d causes, want %d", n, maxReasons)
	}
}

func TestPolicyOverNamespaceBudgetIsRefused(t *testing.T) {
	named := func(name string, first, n int) *networkingv1.NetworkPolicy {
		var from []networkingv1.NetworkPolicyPeer
		for i := range n {
			from = append(from, networkingv1.NetworkPolicyPeer{PodSelector: &metav1.LabelSelector{
				MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "x", Operator: metav1.LabelSelectorOpNotIn, Values: []string{fmt.Sprint(first + i)}}}}})
		}
		np := networkPolicy(networkingv1.NetworkPolicyIngressRule{From: from})
		np.Name = name
		return np
	}
	w := newShopCluster()
	w.snapshot.NetworkPolicies = []*networkingv1.NetworkPolicy{named("first", 0, 80)}
	h := newPolicyHandler(w, newLoadedStore(t))
	second := named("second", 100, 40)
	assertResponse(t, h.Handle(t.Context(), newRequest("CREATE", "NetworkPolicy", "shop", nil, second)), false, "120 of which can match one pod; at most 100")

	w.snapshot.NetworkPolicies = append(w.snapshot.NetworkPolicies, second, named("third", 200, 90))
	h = newPolicyHandler(w, newLoadedStore(t))
	assertResponse(t, h.Handle(t.Context(), newRequest("CREATE", "NetworkPolicy", "shop", nil, named("fourth", 300, 2))), false, "212 of which can match one pod; at most 200")
	assertResponse(t, h.Handle(t.Context(), newRequest("DELETE", "NetworkPolicy", "shop", second, nil)), true, "")
	assertResponse(t, h.Handle(t.Context(), newRequest("UPDATE", "NetworkPolicy", "shop", second, named("second", 100, 30))), true, "")
	closing := networkPolicy()
	closing.Name = "closing"
	assertResponse(t, h.Handle(t.Context(), newRequest("CREATE", "NetworkPolicy", "shop", nil, closing)), true, "")
}
