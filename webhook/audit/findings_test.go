package audit

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"
	"sigs.k8s.io/yaml"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/rego"
)

// shop is a world of two environments with three tiers each and a system namespace.
func shop(manifests ...string) Inventory {
	s := &compile.Snapshot{
		Namespaces: []*compile.Namespace{
			{Name: "prod", Labels: map[string]string{"environment": "prod"}},
			{Name: "test", Labels: map[string]string{"environment": "test"}},
			{Name: "kube-system"},
		},
		Defaults: policy.Defaults{Exempt: []string{"kube-system"}},
	}
	for _, ns := range []string{"prod", "test"} {
		for _, tier := range [][2]string{{"frontend", "web"}, {"backend", "api"}, {"data", "db"}} {
			s.Pods = append(s.Pods, &compile.Pod{Namespace: ns, Name: tier[1] + "-1", ServiceAccount: tier[1], Labels: map[string]string{"app": tier[1]},
				Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 244, 0, byte(len(s.Pods) + 10)})}})
		}
	}
	for _, tier := range [][2]string{{"frontend", "web"}, {"backend", "api"}, {"data", "db"}} {
		s.TierRoles = append(s.TierRoles, &v1alpha1.TierRole{ObjectMeta: metav1.ObjectMeta{Name: tier[0]},
			Spec: v1alpha1.TierRoleSpec{Role: tier[0], Namespaces: []string{"prod", "test"}, ServiceAccounts: []string{tier[1]}}})
	}
	w := Inventory{Snapshot: s}
	for _, m := range manifests {
		w.add(m)
	}
	return w
}

func (w *Inventory) add(manifest string) {
	if strings.Contains(manifest, "tier: ") {
		p := &policyv1alpha2.ClusterNetworkPolicy{}
		if err := yaml.UnmarshalStrict([]byte(manifest), p); err != nil {
			panic(err)
		}
		w.ClusterNetworkPolicies = append(w.ClusterNetworkPolicies, p)
		return
	}
	p := &networkingv1.NetworkPolicy{}
	if err := yaml.UnmarshalStrict([]byte(manifest), p); err != nil {
		panic(err)
	}
	w.NetworkPolicies = append(w.NetworkPolicies, p)
}

// allow is a NetworkPolicy that lets pods of one role reach another in a namespace.
func allow(namespace, name, from, to string) string {
	return fmt.Sprintf(`
metadata: {namespace: %s, name: %s}
spec:
  podSelector: {matchLabels: {tierwall.io/tier-role: %s}}
  ingress: [{from: [{podSelector: {matchLabels: {tierwall.io/tier-role: %s}}}], ports: [{port: 5432}]}]
`, namespace, name, to, from)
}

func library(t *testing.T, names ...string) *rego.Engine {
	t.Helper()
	var guardrails []*v1alpha1.Guardrail
	for _, name := range names {
		guardrails = append(guardrails, &v1alpha1.Guardrail{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.GuardrailSpec{Library: name}})
	}
	return engineOf(t, guardrails...)
}

func engineOf(t *testing.T, guardrails ...*v1alpha1.Guardrail) *rego.Engine {
	t.Helper()
	e, errs := rego.NewEngine(t.Context(), guardrails)
	for _, err := range errs {
		t.Fatal(err)
	}
	return e
}

// found are the findings as "guardrail: kind namespace/name".
func found(t *testing.T, w Inventory, e *rego.Engine) []string {
	t.Helper()
	findings, err := FindViolations(t.Context(), w, e, nil)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, f := range findings {
		out = append(out, fmt.Sprintf("%s: %s %s", f.Guardrail, f.Kind, strings.TrimPrefix(f.Namespace+"/"+f.Name, "/")))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func expect(t *testing.T, got []string, want ...string) {
	t.Helper()
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("found\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestWhatExistsIsJudged(t *testing.T) {
	w := shop(allow("prod", "sound", "backend", "data"), allow("prod", "shortcut", "frontend", "data"), allow("test", "also", "frontend", "data"), allow("test", "sound", "frontend", "backend"))
	expect(t, found(t, w, library(t, "tier-order", "data-tier-closed")),
		"tier-order: NetworkPolicy prod/shortcut", "tier-order: NetworkPolicy test/also")
}

func TestTheTextIsJudgedOfWhatOpensNothing(t *testing.T) {
	w := shop(allow("prod", "sound", "backend", "data"))
	w.Snapshot.TierRoles[0].Spec = v1alpha1.TierRoleSpec{Role: "data", Namespaces: []string{"prod"}}
	owned := allow("prod", "owned", "backend", "data")
	w.add(strings.Replace(owned, "name: owned", "name: owned, annotations: {tierwall.io/owner: shop}", 1))
	expect(t, found(t, w, library(t, "owner-required", "roles-by-account")),
		"owner-required: NetworkPolicy prod/sound", "roles-by-account: TierRole frontend")
}

const (
	opensAll = `
metadata: {name: open}
spec:
  tier: Admin
  priority: 20
  subject: {namespaces: {matchLabels: {environment: prod}}}
  ingress: [{action: Accept, from: [{namespaces: {matchLabels: {environment: test}}}]}]
`
	closesAll = `
metadata: {name: closed}
spec:
  tier: Admin
  priority: 10
  subject: {namespaces: {matchLabels: {environment: prod}}}
  ingress: [{action: Deny, from: [{namespaces: {matchLabels: {environment: test}}}]}]
`
)

// The policy that opens does no harm while the other one is there; the other one
// can go while nothing opens. Each judged without the other, both would be let go.
func TestWhatIsHarmfulOnlyTogetherIsFound(t *testing.T) {
	e := library(t, "environments-apart")
	expect(t, found(t, shop(opensAll, closesAll), e))
	expect(t, found(t, shop(closesAll), e))
	expect(t, found(t, shop(), e))
	expect(t, found(t, shop(opensAll), e), "environments-apart: ClusterNetworkPolicy open")
}

func TestWhatNoPolicyDecidesIsTheNamespaces(t *testing.T) {
	w := shop()
	w.Snapshot.Defaults.Namespaces = map[string]policy.Verdict{"test": policy.Allow}
	findings, err := FindViolations(t.Context(), w, library(t, "default-deny-stays"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(findings) == 0 || findings[0].Kind != "Namespace" || findings[0].Name != "test" ||
		!strings.HasPrefix(findings[0].Message, "The default action of Namespace test would let ") {
		t.Errorf("found %+v", findings)
	}
	expect(t, found(t, shop(), library(t, "default-deny-stays")))
}

func TestExemptNamespacesAreNot(t *testing.T) {
	w := shop(allow("kube-system", "whatever", "frontend", "data"))
	expect(t, found(t, w, library(t, "owner-required", "default-deny-stays")))
}

func TestAGuardrailIsAskedAboutItsOwn(t *testing.T) {
	limited := &v1alpha1.Guardrail{ObjectMeta: metav1.ObjectMeta{Name: "limited"},
		Spec: v1alpha1.GuardrailSpec{Library: "tier-order", Namespaces: []string{"test"}, Enforcement: v1alpha1.EnforceAudit}}
	w := shop(allow("prod", "shortcut", "frontend", "data"), allow("test", "also", "frontend", "data"))
	expect(t, found(t, w, engineOf(t, limited)), "limited: NetworkPolicy test/also")
}

// many is a world of n sound policies, each in a namespace of its own, and one that is not.
func many(n int) Inventory {
	w := shop()
	for i := range n {
		ns := fmt.Sprintf("ns-%d", i)
		w.Snapshot.Namespaces = append(w.Snapshot.Namespaces, &compile.Namespace{Name: ns, Labels: map[string]string{"environment": "prod"}})
		w.add(allow(ns, "sound", "backend", "data"))
	}
	w.add(allow("prod", "shortcut", "frontend", "data"))
	return w
}

func TestOneOfManyIsFound(t *testing.T) {
	findings, err := FindViolations(t.Context(), many(200), library(t, "tier-order", "environments-apart", "sensitive-ports"), nil)
	if err != nil || len(findings) != 1 || findings[0].Name != "shortcut" {
		t.Fatalf("found %+v, %v", findings, err)
	}
}

// A runaway is violated by what it cannot judge, costs its share, and rests.
func TestARunawayDoesNotStopTheAudit(t *testing.T) {
	w := shop(allow("prod", "trap", "backend", "data"), allow("prod", "shortcut", "frontend", "data"))
	trap := &v1alpha1.Guardrail{ObjectMeta: metav1.ObjectMeta{Name: "trap"}, Spec: v1alpha1.GuardrailSpec{
		Rego: "package tierwall.guardrails.trap\n\ndeny contains \"no\" if {\n\tinput.request.name == \"trap\"\n\tsome a in numbers.range(1, 10000)\n\tsome b in numbers.range(1, 10000)\n\ta * b == -1\n}\n"}}
	order := &v1alpha1.Guardrail{ObjectMeta: metav1.ObjectMeta{Name: "order"}, Spec: v1alpha1.GuardrailSpec{Library: "tier-order"}}
	longest := time.Duration(0)
	findings, err := FindViolations(t.Context(), w, engineOf(t, trap, order), func(_ context.Context, worked time.Duration) { longest = max(longest, worked) })
	if err != nil || len(findings) != 2 {
		t.Fatalf("found %+v, %v", findings, err)
	}
	if longest < time.Second {
		t.Errorf("after the runaway there was no rest; the longest was for %v", longest)
	}
}

func TestAnAuditThatIsCutShortFindsNothingAtAll(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	findings, err := FindViolations(ctx, many(100), library(t, "tier-order"), func(context.Context, time.Duration) { cancel() })
	if err == nil || findings != nil {
		t.Errorf("%v, found %+v", err, findings)
	}
}
