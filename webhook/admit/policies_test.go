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

func port(first int, last int32) networkingv1.NetworkPolicyIngressRule {
	p := intstr.FromInt(first)
	return networkingv1.NetworkPolicyIngressRule{Ports: []networkingv1.NetworkPolicyPort{{Port: &p, EndPort: &last}}}
}

func TestPoliciesThatCannotBeUnderstood(t *testing.T) {
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
		{"endPort below port", "NetworkPolicy", "/spec/ingress/0/ports/0/endPort", networkPolicy(port(90, 80))},
		{"peer that is nothing", "ClusterNetworkPolicy", "/spec/ingress/0/from/0", unknownPeer},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := policies(shop(), newLoadedStore(t))
			got := h.Handle(t.Context(), request("CREATE", c.kind, "shop", nil, c.policy))
			answers(t, got, false, c.field)
			if got.Result.Details == nil || !strings.HasPrefix(got.Result.Details.Causes[0].Field, c.field) {
				t.Errorf("details %+v, want field %s", got.Result.Details, c.field)
			}
		})
	}
}

func TestAPolicyThatWasThereBeforeCanBeTouchedWithoutItsSpec(t *testing.T) {
	old, now := networkPolicy(fromBlock("10.0.0.0/33")), networkPolicy(fromBlock("10.0.0.0/33"))
	now.Annotations = labels{"owner": "anna"}
	answers(t, policies(shop(), newLoadedStore(t)).Handle(t.Context(), request("UPDATE", "NetworkPolicy", "shop", old, now)), true, "")
}

func TestATerminatingPolicyCanLoseAllFinalizersButTheLast(t *testing.T) {
	old, now := networkPolicy(), networkPolicy()
	old.DeletionTimestamp, now.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)}, &metav1.Time{Time: time.Unix(1, 0)}
	old.Finalizers, now.Finalizers = []string{"example.com/x", "example.com/y"}, []string{"example.com/y"}
	h := policies(shop(), newLoadedStore(t, guardrail("never", "deny", "true")))
	answers(t, h.Handle(t.Context(), request("UPDATE", "NetworkPolicy", "shop", old, now)), true, "")
	now.Spec.Ingress = append(now.Spec.Ingress, fromBlock("10.0.0.0/8"))
	answers(t, h.Handle(t.Context(), request("UPDATE", "NetworkPolicy", "shop", old, now)), false, "no (Guardrail never)")
}

func TestGuardrailsAnswer(t *testing.T) {
	warn := guardrail("softly", "warn", "true")
	for _, c := range []struct {
		name    string
		req     admission.Request
		allowed bool
		message string
	}{
		{"creation", request("CREATE", "NetworkPolicy", "shop", nil, networkPolicy()), false, "no (Guardrail created)"},
		{"update", request("UPDATE", "NetworkPolicy", "shop", networkPolicy(), networkPolicy(fromBlock("10.0.0.0/8"))), true, ""},
		{"deletion", request("DELETE", "NetworkPolicy", "shop", networkPolicy(), nil), false, "no (Guardrail deleted)"},
		{"deletion with the namespace", request("DELETE", "NetworkPolicy", "going", networkPolicy(), nil), true, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newLoadedStore(t, warn, guardrail("created", "deny", `input.request.operation == "CREATE"`),
				guardrail("deleted", "deny", `input.request.operation == "DELETE"; input.object == null`))
			got := policies(shop(), e).Handle(t.Context(), c.req)
			answers(t, got, c.allowed, c.message)
			if len(got.Warnings) != 1 || got.Warnings[0] != "no (Guardrail softly)" {
				t.Errorf("warnings %q", got.Warnings)
			}
		})
	}
}

func TestGuardrailsSeeTheChange(t *testing.T) {
	var in rego.Input
	j := judgeFunc(func(_ context.Context, i rego.Input) (rego.Result, error) { in = i; return rego.Result{}, nil })
	dry := true
	req := request("UPDATE", "NetworkPolicy", "shop", networkPolicy(), networkPolicy(fromBlock("10.0.0.0/8")))
	req.DryRun = &dry
	answers(t, policies(shop(), j).Handle(t.Context(), req), true, "")
	if in.Source != rego.Admission || !in.Request.DryRun || in.Request.UserInfo.Username != "anna" {
		t.Errorf("request %+v", in.Request)
	}
	if in.Namespace.Name != "shop" || in.Namespace.Labels["environment"] != "prod" {
		t.Errorf("namespace %+v", in.Namespace)
	}
	if !contains(string(in.Object), "10.0.0.0/8") || contains(string(in.OldObject), "10.0.0.0/8") {
		t.Errorf("object %s, before %s", in.Object, in.OldObject)
	}
}

func TestWhatAuditsIsNotToldToTheUser(t *testing.T) {
	quiet, loud := guardrail("quiet", "deny", "true"), guardrail("loud", "warn", "true")
	quiet.Spec.Enforcement = v1alpha1.EnforceAudit
	got := policies(shop(), newLoadedStore(t, quiet, loud)).Handle(t.Context(), request("CREATE", "NetworkPolicy", "shop", nil, networkPolicy()))
	answers(t, got, true, "")
	if len(got.Warnings) != 1 || contains(got.Warnings[0], "quiet") {
		t.Errorf("warnings %q", got.Warnings)
	}
}

// What the API server says was there before counts, even if the snapshot is
// behind, and nothing but that one policy changes.
func TestAChangeIsOfOnePolicy(t *testing.T) {
	w := shop()
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
			samePolicies(t, "before", before, c.before)
			samePolicies(t, "after", after, c.after)
		})
	}
}

func samePolicies(t *testing.T, when string, s *compile.Snapshot, want []*networkingv1.NetworkPolicy) {
	t.Helper()
	if got, want := string(raw(s.NetworkPolicies).Raw), string(raw(want).Raw); got != want {
		t.Errorf("%s: %s, want %s", when, got, want)
	}
}

func TestPoliciesFailClosed(t *testing.T) {
	unsynced := shop()
	unsynced.unsynced = true
	slow := judgeFunc(func(ctx context.Context, _ rego.Input) (rego.Result, error) { <-ctx.Done(); return rego.Result{}, nil })
	broken := judgeFunc(func(context.Context, rego.Input) (rego.Result, error) {
		return rego.Result{}, errors.New("out of order")
	})
	panics := judgeFunc(func(context.Context, rego.Input) (rego.Result, error) { panic("oops") })
	create := request("CREATE", "NetworkPolicy", "shop", nil, networkPolicy())
	notLoaded := guardrails.NewGuardrailStore(nil, discard)
	for _, c := range []struct {
		name    string
		world   *world
		judge   Judge
		req     admission.Request
		message string
	}{
		{"cluster unknown", unsynced, newLoadedStore(t), create, "does not know the whole cluster yet"},
		{"guardrails not loaded", shop(), notLoaded, create, "the guardrails are not loaded yet"},
		{"guardrails fail", shop(), broken, create, "ask the guardrails: out of order"},
		{"too slow", shop(), slow, create, "did not answer in time"},
		{"panic", shop(), panics, create, "oops"},
		{"garbage", shop(), newLoadedStore(t), request("CREATE", "NetworkPolicy", "shop", nil, "garbage"), "read the NetworkPolicy"},
		{"another kind", shop(), newLoadedStore(t), request("CREATE", "Secret", "shop", nil, networkPolicy()), "kind Secret is no policy"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := policies(c.world, c.judge)
			if c.name == "too slow" {
				h.Limit = 50 * time.Millisecond
			}
			got := (&admission.Webhook{Handler: h}).Handle(t.Context(), c.req)
			answers(t, got, false, c.message)
		})
	}
}

func TestAReviewWaitsForASlot(t *testing.T) {
	h := policies(shop(), newLoadedStore(t))
	h.Slots, h.Limit = NewSlots(1), 50*time.Millisecond
	create := request("CREATE", "NetworkPolicy", "shop", nil, networkPolicy())
	release, err := h.Slots.acquire(t.Context(), smallLane, "namespace other")
	if err != nil {
		t.Fatal(err)
	}
	answers(t, h.Handle(t.Context(), create), false, "too many changes are reviewed at once")
	release()
	h.Limit = time.Minute
	for range 2 { // and gives it back
		answers(t, h.Handle(t.Context(), create), true, "")
	}
}

func TestRefusalsCountWhatTheyLeaveOut(t *testing.T) {
	var reasons []denialReason
	for range maxReasons + 3 {
		reasons = append(reasons, denialReason{field: "/spec", message: "bad"})
	}
	got := denyRequest(reasons...)
	answers(t, got, false, "and 3 more")
	if n := len(got.Result.Details.Causes); n != maxReasons {
		t.Errorf("%d causes, want %d", n, maxReasons)
	}
}

func TestPoliciesOverABudgetOfTheirNamespaceAreRefusedWithTheFigures(t *testing.T) {
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
	w := shop()
	w.snapshot.NetworkPolicies = []*networkingv1.NetworkPolicy{named("first", 0, 80)}
	h := policies(w, newLoadedStore(t))
	second := named("second", 100, 40)
	answers(t, h.Handle(t.Context(), request("CREATE", "NetworkPolicy", "shop", nil, second)), false, "120 of which can match one pod; at most 100")

	w.snapshot.NetworkPolicies = append(w.snapshot.NetworkPolicies, second, named("third", 200, 90))
	h = policies(w, newLoadedStore(t))
	answers(t, h.Handle(t.Context(), request("CREATE", "NetworkPolicy", "shop", nil, named("fourth", 300, 2))), false, "212 of which can match one pod; at most 200")
	answers(t, h.Handle(t.Context(), request("DELETE", "NetworkPolicy", "shop", second, nil)), true, "")
	answers(t, h.Handle(t.Context(), request("UPDATE", "NetworkPolicy", "shop", second, named("second", 100, 30))), true, "")
	closing := networkPolicy()
	closing.Name = "closing"
	answers(t, h.Handle(t.Context(), request("CREATE", "NetworkPolicy", "shop", nil, closing)), true, "")
}
