package controllers

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
)

// fromBlock is a NetworkPolicy that lets a network in.
func fromBlock(cidr string) *networkingv1.NetworkPolicy {
	return &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "p", UID: "np"},
		Spec: networkingv1.NetworkPolicySpec{PolicyTypes: []networkingv1.PolicyType{"Ingress"},
			Ingress: []networkingv1.NetworkPolicyIngressRule{{From: []networkingv1.NetworkPolicyPeer{{IPBlock: &networkingv1.IPBlock{CIDR: cidr}}}}}},
	}
}

// toDomain is a ClusterNetworkPolicy that lets everything out to a domain name.
func toDomain(name string) *policyv1alpha2.ClusterNetworkPolicy {
	return &policyv1alpha2.ClusterNetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "p", UID: "cnp", Generation: 1},
		Spec: policyv1alpha2.ClusterNetworkPolicySpec{Tier: policyv1alpha2.AdminTier,
			Subject: policyv1alpha2.ClusterNetworkPolicySubject{Namespaces: &metav1.LabelSelector{}},
			Egress: []policyv1alpha2.ClusterNetworkPolicyEgressRule{{Action: policyv1alpha2.ClusterNetworkPolicyRuleActionAccept,
				To: []policyv1alpha2.ClusterNetworkPolicyEgressPeer{{DomainNames: []policyv1alpha2.DomainName{policyv1alpha2.DomainName(name)}}}}}},
	}
}

// said are the Events since the last time.
func said(events <-chan string) []string {
	var out []string
	for {
		select {
		case e := <-events:
			out = append(out, e)
		default:
			return out
		}
	}
}

// says checks that what was said is one Event with the text, or nothing.
func says(t *testing.T, step string, got []string, want string) {
	t.Helper()
	if want == "" && len(got) == 0 || want != "" && len(got) == 1 && strings.Contains(got[0], want) {
		return
	}
	t.Errorf("%s: Events %q, want one with %q", step, got, want)
}

// counted is what the metric says of a kind.
func counted(t *testing.T, kind string) float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(notUnderstood)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range families[0].GetMetric() {
		if m.GetLabel()[0].GetValue() == kind {
			return m.GetGauge().GetValue()
		}
	}
	t.Fatalf("the metric says nothing of %s", kind)
	return 0
}

func TestProblemsOfNetworkPoliciesAreToldOnceInEvents(t *testing.T) {
	w := &world{}
	l, recorder := loop(t, w, interceptor.Funcs{})
	bad := fromBlock("10.0.0.0/99")
	for _, step := range []struct {
		name string
		list []*networkingv1.NetworkPolicy
		want string
		bad  float64
	}{
		{"understood", []*networkingv1.NetworkPolicy{fromBlock("10.0.0.0/8")}, "", 0},
		{"changed", []*networkingv1.NetworkPolicy{bad}, "Warning NotUnderstood what is not understood fails closed: /spec/ingress/0/from/0/ipBlock/cidr: ", 1},
		{"the same", []*networkingv1.NetworkPolicy{bad}, "", 1},
		{"the same problem in another version", []*networkingv1.NetworkPolicy{fromBlock("10.0.0.0/99")}, "", 1},
		{"another problem", []*networkingv1.NetworkPolicy{fromBlock("010.0.0.0/8")}, "Warning NotUnderstood", 1},
		{"mended", []*networkingv1.NetworkPolicy{fromBlock("10.0.0.0/8")}, "Normal Understood every field is understood", 0},
		{"gone", nil, "", 0},
		{"new, with a problem", []*networkingv1.NetworkPolicy{bad}, "Warning NotUnderstood", 1},
	} {
		w.snapshot.NetworkPolicies = step.list
		l.reportNetworkPolicies(&w.snapshot)
		says(t, step.name, said(recorder.Events), step.want)
		if got := counted(t, compile.NetworkPolicyKind); got != step.bad {
			t.Errorf("%s: the metric says %v, want %v", step.name, got, step.bad)
		}
	}
}

// understoodOf is the condition of the ClusterNetworkPolicy.
func understoodOf(t *testing.T, l *Reconciler, p *policyv1alpha2.ClusterNetworkPolicy) *metav1.Condition {
	t.Helper()
	now := &policyv1alpha2.ClusterNetworkPolicy{}
	if err := l.Client.Get(t.Context(), client.ObjectKeyFromObject(p), now); err != nil {
		t.Fatal(err)
	}
	return meta.FindStatusCondition(now.Status.Conditions, Understood)
}

func TestProblemsAreToldInTheStatusOfClusterNetworkPolicies(t *testing.T) {
	p := toDomain("example.com.")
	l, recorder := loop(t, &world{}, interceptor.Funcs{}, p)
	pass := func() {
		t.Helper()
		if err := l.updateClusterNetworkPolicies(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	pass()
	c := understoodOf(t, l, p)
	if c == nil || c.Status != metav1.ConditionFalse || c.Reason != "NotUnderstood" || c.ObservedGeneration != 1 ||
		!strings.Contains(c.Message, "/spec/egress/0/to/0/domainNames: ") {
		t.Fatalf("condition %+v", c)
	}
	says(t, "first", said(recorder.Events), "Warning NotUnderstood")
	pass()
	says(t, "again", said(recorder.Events), "")
	l.reported = reportedProblems{} // another leader
	pass()
	says(t, "another leader", said(recorder.Events), "")
	since := c.LastTransitionTime

	now := &policyv1alpha2.ClusterNetworkPolicy{}
	if err := l.Client.Get(t.Context(), client.ObjectKeyFromObject(p), now); err != nil {
		t.Fatal(err)
	}
	now.Generation, now.Spec.Egress = 2, nil
	if err := l.Client.Update(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	pass()
	c = understoodOf(t, l, p)
	if c.Status != metav1.ConditionTrue || c.Reason != "Understood" || c.ObservedGeneration != 2 || c.LastTransitionTime.Before(&since) {
		t.Errorf("condition %+v", c)
	}
	says(t, "mended", said(recorder.Events), "Normal Understood")
	if got := counted(t, compile.ClusterNetworkPolicyKind); got != 0 {
		t.Errorf("the metric says %v, want 0", got)
	}
}

// A kind that is not there, or that may not be read, must not stop the rest.
func TestAListThatNeverComesStopsNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, pod := unlabelled("shop", "db")
		w := &world{next: always, snapshot: compile.Snapshot{TierRoles: []*v1alpha1.TierRole{tierRole("a", "data", "pg")}}}
		l, _ := loop(t, w, interceptor.Funcs{
			List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
				if _, never := list.(*policyv1alpha2.ClusterNetworkPolicyList); never {
					<-ctx.Done()
					w.snapshot.Pods = []*compile.Pod{p} // comes while the first pass waits
					return ctx.Err()
				}
				return c.List(ctx, list, opts...)
			},
		}, pod)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := l.Start(ctx); err != nil {
			t.Fatal(err)
		}
		if got := roleOf(t, l, pod); got != "data" {
			t.Errorf("role label %q, want data", got)
		}
	})
}

// An Event's note has 1024 bytes at most, whatever somebody writes into a policy.
func TestWordsAreBounded(t *testing.T) {
	var problems []policy.Problem
	for range 7 {
		problems = append(problems, policy.Problem{ID: policy.RuleID{Field: "/spec"}, Message: "short"})
	}
	if got := problemText(problems); strings.Count(got, "short") != 5 || !strings.HasSuffix(got, "; and 2 more") {
		t.Errorf("7 problems in words: %q", got)
	}
	for shift := range 3 {
		long := strings.Repeat("x", shift) + strings.Repeat("€", 2000)
		got := problemText([]policy.Problem{{ID: policy.RuleID{Field: "/spec"}, Message: long}})
		if len(got) > 1024 || len(got) < 900 || !utf8.ValidString(got) {
			t.Errorf("a long problem comes to %d bytes, valid: %v", len(got), utf8.ValidString(got))
		}
	}
}
