package check_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/cli/check"
	"github.com/tierwall/tierwall/cli/manifest"
	"github.com/tierwall/tierwall/cli/state"
	"github.com/tierwall/tierwall/policy"
)

// shop is a shop of three tiers in namespace prod, and its policies.
const shop = "../testdata/shop"

func objects(t *testing.T, paths ...string) []*manifest.Object {
	t.Helper()
	out, errs := manifest.Reader{Namespace: "default"}.Read(paths...)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	return out
}

// written are the objects of a text.
func written(t *testing.T, text string) []*manifest.Object {
	t.Helper()
	file := filepath.Join(t.TempDir(), "x.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return objects(t, file)
}

func existing(all []*manifest.Object) state.State {
	values := map[state.Key]client.Object{}
	for _, o := range all {
		if o.Value != nil {
			values[state.KeyOf(o.Kind, o.Value)] = o.Value
		}
	}
	return state.State{}.With(values)
}

func library(name string) *v1alpha1.Guardrail {
	return &v1alpha1.Guardrail{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.GuardrailSpec{Library: name, Enforcement: v1alpha1.EnforceDeny}}
}

// checker judges by guardrails of the library in a cluster that denies by default.
func checker(t *testing.T, before ...*manifest.Object) *check.Checker {
	t.Helper()
	guardrails, errs := check.ReadGuardrails(nil, "../testdata/guardrails.yaml")
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	return &check.Checker{Before: existing(before), Guardrails: guardrails, Defaults: policy.Defaults{Exempt: []string{"kube-system"}}}
}

func found(t *testing.T, c *check.Checker, all []*manifest.Object) []string {
	t.Helper()
	r, err := c.Check(t.Context(), all)
	if err != nil {
		t.Fatal(err)
	}
	out := []string{}
	for _, f := range r.Findings {
		out = append(out, string(f.Level)+" "+f.Rule+": "+f.Object)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func want(t *testing.T, got []string, wanted ...string) {
	t.Helper()
	if slices.Sort(wanted); !slices.Equal(got, append([]string{}, wanted...)) {
		t.Errorf("found\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(wanted, "\n"))
	}
}

func TestTheShopIsSound(t *testing.T) {
	want(t, found(t, checker(t), objects(t, shop)))
}

// Guardrails of the library stop the examples that their documentation has.
func TestExamplesAreStopped(t *testing.T) {
	for _, name := range []string{"data-tier-closed", "data-tier-inside", "dead-policies", "default-deny-stays", "dns-stays", "egress-to-world",
		"environments-apart", "owner-required", "sensitive-ports", "tier-order"} {
		c := &check.Checker{Before: existing(objects(t, shop+"/app.yaml", shop+"/roles.json")), Guardrails: []*v1alpha1.Guardrail{library(name)},
			Defaults: policy.Defaults{Exempt: []string{"kube-system"}}}
		if name == "dns-stays" { // there must be DNS to be cut off from
			c.Defaults.Action = policy.Allow
			c.Before = existing(append(objects(t, shop+"/app.yaml", shop+"/roles.json"), written(t, `
apiVersion: apps/v1
kind: Deployment
metadata: {name: coredns, namespace: kube-system}
spec: {template: {metadata: {labels: {k8s-app: kube-dns}}, spec: {containers: []}}, selector: {}}`)...))
		}
		r, err := c.Check(t.Context(), objects(t, "../../docs/guardrails/examples/"+name+".yaml"))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(r.Findings) == 0 {
			t.Errorf("%s says nothing about its example", name)
		}
		for _, f := range r.Findings {
			if f.Rule != name || f.Line == 0 || !strings.HasSuffix(f.File, name+".yaml") || f.Object == "" {
				t.Errorf("%s: %+v", name, f)
			}
		}
	}
}

const openDB = `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: NAME, namespace: prod}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0}}], ports: [{port: 5432}]}]
---
`

// What counts is what is open in the end: a policy of the Admin tier in the same
// folder can deny what another would open.
func TestManifestsAreJudgedAsIfAllWereApplied(t *testing.T) {
	const closed = `
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: closed}
spec:
  tier: Admin
  priority: 1
  subject: {pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: db}}}}
  ingress: [{name: none, action: Deny, from: [{namespaces: {}}]}]
---
`
	const openToTest = `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: open, namespace: prod}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress: [{from: [{namespaceSelector: {matchLabels: {environment: test}}}], ports: [{port: 5432}]}]
---
`
	c := checker(t, objects(t, shop)...)
	want(t, found(t, c, written(t, openToTest)), "deny data-tier-closed: NetworkPolicy prod/open", "deny environments-apart: NetworkPolicy prod/open")
	want(t, found(t, c, written(t, openToTest+closed)))
	want(t, found(t, c, written(t, closed+openToTest)))
}

// Two policies that open the same do not hide each other.
func TestPoliciesThatOpenTheSameDoNotHideEachOther(t *testing.T) {
	c := checker(t, objects(t, shop)...)
	one, two := strings.ReplaceAll(openDB, "NAME", "one"), strings.ReplaceAll(openDB, "NAME", "two")
	both := found(t, c, written(t, one+two))
	for name, text := range map[string]string{"one": one, "two": two} {
		if alone := found(t, c, written(t, text)); !slices.Contains(alone, "deny data-tier-inside: NetworkPolicy prod/"+name) {
			t.Errorf("%s alone: %q", name, alone)
		}
		if !slices.Contains(both, "deny data-tier-inside: NetworkPolicy prod/one") {
			t.Errorf("both: %q", both)
		}
	}
}

// The selectors of one policy are not held against another.
func TestEachPolicyIsBlamedForWhatItOpens(t *testing.T) {
	c := checker(t, objects(t, shop+"/app.yaml", shop+"/roles.json")...)
	got := found(t, c, append(objects(t, shop+"/policies.yaml"), written(t, strings.ReplaceAll(openDB, "NAME", "open"))...))
	for _, f := range got {
		if !strings.HasSuffix(f, "NetworkPolicy prod/open") {
			t.Errorf("%s", f)
		}
	}
	if len(got) == 0 {
		t.Error("nothing was found")
	}
}

// Nor are the ports that another opens between the same pods.
func TestPortsAreThoseOfThePolicy(t *testing.T) {
	guardrails, errs := check.ReadGuardrails(nil, "../../docs/guardrails/own/no_telnet.rego")
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	c := &check.Checker{Guardrails: guardrails}
	want(t, found(t, c, objects(t, shop, "../testdata/telnet.yaml")), "deny no-telnet: NetworkPolicy prod/telnet")
}

// A change that opens too much to list at once is judged in steps, and misses nothing.
func TestALargeFolderIsJudgedInSteps(t *testing.T) {
	folder := shops(t, 60)
	all := append(objects(t, folder), written(t, `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: open, namespace: shop-031}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress: [{}]
`)...)
	want(t, found(t, checker(t), all), "deny default-deny-stays: NetworkPolicy shop-031/open", "deny environments-apart: NetworkPolicy shop-031/open", "deny sensitive-ports: NetworkPolicy shop-031/open")
}

func TestALabelThatOpensIsJudgedAsAPolicyThatDoes(t *testing.T) {
	before := append(objects(t, shop), written(t, `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: partners, namespace: prod}
spec:
  podSelector: {matchLabels: {tierwall.io/tier-role: data}}
  ingress: [{from: [{namespaceSelector: {matchLabels: {partner: "yes"}}}], ports: [{port: 5432}]}]
`)...)
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"a namespace's label": {`{apiVersion: v1, kind: Namespace, metadata: {name: test, labels: {environment: test, partner: "yes"}}}`,
			[]string{"deny data-tier-closed: Namespace test", "deny environments-apart: Namespace test"}},
		"a namespace as it is":       {`{apiVersion: v1, kind: Namespace, metadata: {name: test, labels: {environment: test}}}`, nil},
		"a role":                     {`{apiVersion: tierwall.io/v1alpha1, kind: TierRole, metadata: {name: backend}, spec: {role: backend, namespaces: [prod], serviceAccounts: [api, web]}}`, nil},
		"a pod that nothing selects": {`{apiVersion: v1, kind: Pod, metadata: {name: x, namespace: test}, spec: {containers: []}}`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			want(t, found(t, checker(t, before...), written(t, c.text)), c.want...)
		})
	}
}

func TestWhatIsNotUnderstoodIsRefused(t *testing.T) {
	want(t, found(t, checker(t), objects(t, "../testdata/bad", shop)),
		"deny role-label: Deployment prod/sneaky", "deny not-understood: NetworkPolicy prod/range",
		"deny data-tier-closed: NetworkPolicy prod/open-db", "deny environments-apart: NetworkPolicy prod/open-db", "deny tier-order: NetworkPolicy prod/open-db")
	want(t, found(t, checker(t), written(t, `
apiVersion: tierwall.io/v1alpha1
kind: TierRole
metadata: {name: nowhere}
spec: {role: Data, namespaces: []}
`)), "deny not-understood: TierRole nowhere")
}

func TestExemptNamespacesAreNotJudged(t *testing.T) {
	r, err := checker(t).Check(t.Context(), written(t, strings.ReplaceAll(strings.ReplaceAll(openDB, "NAME", "open"), "prod", "kube-system")))
	if err != nil || len(r.Findings) > 0 || r.Exempt != 1 || r.Judged != 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

// Guardrails of the manifests come into force with them, in the place of their namesakes.
func TestGuardrailsAmongTheManifestsAreInForce(t *testing.T) {
	c := checker(t, objects(t, shop)...)
	text := strings.ReplaceAll(openDB, "NAME", "open") + `
apiVersion: tierwall.io/v1alpha1
kind: Guardrail
metadata: {name: data-tier-inside}
spec: {library: data-tier-inside, enforcement: Warn}
`
	got := found(t, c, written(t, text))
	if !slices.Contains(got, "warn data-tier-inside: NetworkPolicy prod/open") || slices.Contains(got, "deny data-tier-inside: NetworkPolicy prod/open") {
		t.Errorf("%q", got)
	}
}

func TestOwnGuardrails(t *testing.T) {
	for path, wanted := range map[string][]string{
		"../../docs/guardrails/own/no_telnet.rego":           {"no-telnet"},
		"../../docs/guardrails/own/no-telnet.yaml":           {"no-telnet"},
		"../../docs/guardrails/own":                          {"no-telnet", "no-telnet"},
		"../../rego/library/tier_order.rego":                 {"tier-order"},
		"../../docs/guardrails/examples/tier-order.yaml":     nil,
		"../../docs/guardrails/own/no_telnet_test.rego":      nil,
		"../../docs/guardrails/examples/nothing-of-the-kind": nil,
	} {
		guardrails, errs := check.ReadGuardrails(nil, path)
		names := []string{}
		for _, g := range guardrails {
			names = append(names, g.Name)
		}
		if !slices.Equal(names, append([]string{}, wanted...)) || (len(errs) == 0) != (len(wanted) > 0) {
			t.Errorf("%s: %q, errors %v; want %q", path, names, errs, wanted)
		}
	}
}

// A guardrail that cannot come into force stops the check: nobody knows what it would have said.
func TestAGuardrailThatDoesNotCompileStopsTheCheck(t *testing.T) {
	file := filepath.Join(t.TempDir(), "own.rego")
	if err := os.WriteFile(file, []byte("package tierwall.guardrails.own\n\ndeny contains msg if {\n\tmsg := http.send({})\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	guardrails, errs := check.ReadGuardrails(nil, file)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	_, err := (&check.Checker{Guardrails: guardrails}).Check(t.Context(), objects(t, shop))
	if err == nil || !strings.Contains(err.Error(), "own.rego:4:9") {
		t.Errorf("%v", err)
	}
}

// The guardrails without a flag are those that the chart installs: what Helm renders
// with the default values.
func TestTheGuardrailsAreTheCharts(t *testing.T) {
	guardrails, err := check.ChartGuardrails()
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]*v1alpha1.Guardrail{}
	for _, g := range guardrails {
		byName[g.Name] = g
	}
	rendered := 0
	for _, o := range objects(t, "../../test/chart/testdata/default.yaml") {
		g, ok := o.Value.(*v1alpha1.Guardrail)
		if !ok {
			continue
		}
		rendered++
		own := byName[g.Name]
		if own == nil {
			t.Errorf("the chart installs %s", g.Name)
			continue
		}
		if g.Spec.Parameters != nil && own.Spec.Parameters != nil {
			if !equality.Semantic.DeepEqual(objectsByKey(t, g), objectsByKey(t, own)) {
				t.Errorf("%s: parameters %s, want %s", g.Name, own.Spec.Parameters.Raw, g.Spec.Parameters.Raw)
			}
			own.Spec.Parameters = g.Spec.Parameters
		}
		if !equality.Semantic.DeepEqual(g.Spec, own.Spec) {
			t.Errorf("%s: %+v, want %+v", g.Name, own.Spec, g.Spec)
		}
	}
	if rendered == 0 || rendered != len(guardrails) {
		t.Errorf("%d guardrails, the chart installs %d", len(guardrails), rendered)
	}
}

func objectsByKey(t *testing.T, g *v1alpha1.Guardrail) map[string]any {
	t.Helper()
	var out map[string]any
	if err := json.Unmarshal(g.Spec.Parameters.Raw, &out); err != nil {
		t.Fatal(err)
	}
	return out
}
