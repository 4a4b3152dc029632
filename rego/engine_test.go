package rego

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/policy/effect"
)

type option func(*v1alpha1.Guardrail)

func warnOnly(g *v1alpha1.Guardrail) { g.Spec.Enforcement = v1alpha1.EnforceWarn }

func onlyIn(namespaces ...string) option {
	return func(g *v1alpha1.Guardrail) { g.Spec.Namespaces = namespaces }
}

func with(parameters string) option {
	return func(g *v1alpha1.Guardrail) { g.Spec.Parameters = &apiextensionsv1.JSON{Raw: []byte(parameters)} }
}

func fromLibrary(name, library string, options ...option) *v1alpha1.Guardrail {
	g := &v1alpha1.Guardrail{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.GuardrailSpec{Library: library}}
	for _, o := range options {
		o(g)
	}
	return g
}

// ownRego is a Guardrail with a Rego of its own; the package is written for it.
func ownRego(name, rules string, options ...option) *v1alpha1.Guardrail {
	text := "package tierwall.guardrails." + strings.ReplaceAll(name, "-", "_") + "\n\n" + rules
	return written(name, text, options...)
}

func written(name, text string, options ...option) *v1alpha1.Guardrail {
	g := &v1alpha1.Guardrail{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.GuardrailSpec{Rego: text}}
	for _, o := range options {
		o(g)
	}
	return g
}

func engineOf(t *testing.T, guardrails ...*v1alpha1.Guardrail) *Engine {
	t.Helper()
	e, errs := NewEngine(t.Context(), guardrails)
	for _, err := range errs {
		t.Error(err)
	}
	return e
}

func judge(t *testing.T, e *Engine, in Input) Result {
	t.Helper()
	r, err := e.Judge(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func said(vs []Violation) string {
	var lines []string
	for _, v := range vs {
		lines = append(lines, v.Guardrail+": "+v.Message)
	}
	return strings.Join(lines, "\n")
}

// harmless is an input that no guardrail of the library refuses.
func harmless() Input {
	in := example
	in.Effect.Added, in.Effect.NewlyIsolated = []effect.Row{}, []effect.Isolation{}
	return in
}

func TestOpeningTheDataTierIsRefused(t *testing.T) {
	r := judge(t, engineOf(t, fromLibrary("data", "data-tier-closed")), example)
	want := "data: NetworkPolicy prod/open-data would let frontend pods of namespace test reach tier data in namespace prod on TCP/5432; " +
		"the data tier may be reached only from its own namespace. Remove the peer or ask the security team."
	if !strings.Contains(said(r.Denials), want) || len(r.Warnings) != 0 {
		t.Fatalf("denied:\n%s\nwarned:\n%s\nwant a denial:\n%s", said(r.Denials), said(r.Warnings), want)
	}
	if v := r.Denials[0]; v.Severity != "critical" || v.Title == "" || v.Path != "/spec" {
		t.Errorf("title %q, severity %q, path %q; want those of the METADATA and the message", v.Title, v.Severity, v.Path)
	}
}

func TestWholeLibraryAdmitsWhatOpensNothing(t *testing.T) {
	var all []*v1alpha1.Guardrail
	for _, entry := range Library() {
		if entry.Name != "owner-required" {
			all = append(all, fromLibrary(entry.Name, entry.Name))
		}
	}
	if len(all) < 15 {
		t.Fatalf("the library has %d guardrails", len(all))
	}
	if r := judge(t, engineOf(t, all...), harmless()); len(r.Denials)+len(r.Warnings) != 0 {
		t.Fatalf("denied:\n%s\nwarned:\n%s", said(r.Denials), said(r.Warnings))
	}
}

// textOnly are the guardrails that do not look at the effect.
var textOnly = []string{"admin-tier-writers", "owner-required", "roles-by-account", "rules-in-force"}

func TestWholeLibraryRefusesAnUnknownEffect(t *testing.T) {
	warners := map[string]bool{"api-server-stays": true, "dead-policies": true, "dns-stays": true, "rules-decide": true}
	for _, entry := range Library() {
		if slices.Contains(textOnly, entry.Name) {
			continue
		}
		in := harmless()
		in.Effect.Complete = false
		r := judge(t, engineOf(t, fromLibrary(entry.Name, entry.Name)), in)
		if got := len(r.Denials) > 0; got == warners[entry.Name] {
			t.Errorf("%s: denied:\n%s\nwarned:\n%s", entry.Name, said(r.Denials), said(r.Warnings))
		}
		if got := len(r.Warnings) > 0; got != warners[entry.Name] {
			t.Errorf("%s: denied:\n%s\nwarned:\n%s", entry.Name, said(r.Denials), said(r.Warnings))
		}
	}
}

func TestEnforcementWarnOnlyWarns(t *testing.T) {
	r := judge(t, engineOf(t, fromLibrary("data", "data-tier-closed", warnOnly)), example)
	if len(r.Denials) != 0 || len(r.Warnings) == 0 {
		t.Fatalf("denied:\n%s\nwarned:\n%s", said(r.Denials), said(r.Warnings))
	}
}

func TestWarnRulesAlwaysOnlyWarn(t *testing.T) {
	r := judge(t, engineOf(t, ownRego("careful", `warn contains "look twice"`)), example)
	if len(r.Denials) != 0 || said(r.Warnings) != "careful: look twice" {
		t.Fatalf("denied:\n%s\nwarned:\n%s", said(r.Denials), said(r.Warnings))
	}
}

func TestWhatAuditsIsNoAnswer(t *testing.T) {
	audits := func(g *v1alpha1.Guardrail) { g.Spec.Enforcement = v1alpha1.EnforceAudit }
	r := judge(t, engineOf(t, ownRego("quiet", "deny contains \"no\"\n\nwarn contains \"careful\"", audits), ownRego("wrong", `deny contains 1`, audits)), example)
	if len(r.Denials)+len(r.Warnings) != 0 || !strings.HasPrefix(said(r.Audited), "quiet: no\nquiet: careful\nwrong: ") {
		t.Fatalf("denied:\n%s\nwarned:\n%s\naudited:\n%s", said(r.Denials), said(r.Warnings), said(r.Audited))
	}
}

func TestKindsAndOperationsLimitAGuardrail(t *testing.T) {
	about := func(kinds []v1alpha1.Kind, operations ...v1alpha1.Operation) option {
		return func(g *v1alpha1.Guardrail) { g.Spec.Kinds, g.Spec.Operations = kinds, operations }
	}
	deletion, existing, label := example, example, example
	deletion.Request.Operation = "DELETE"
	existing.Source = Audit
	label.Request.Kind.Kind, label.Request.Operation = "Pod", "UPDATE"
	bound := example
	bound.Request.Kind.Kind = "Binding"
	for _, c := range []struct {
		name   string
		option option
		in     Input
		asked  bool
	}{
		{"another kind", about([]v1alpha1.Kind{"Pod"}), example, false},
		{"one of the kinds", about([]v1alpha1.Kind{"Pod", "NetworkPolicy"}), example, true},
		{"a label", about([]v1alpha1.Kind{"Pod"}), label, true},
		{"the labels of a binding", about([]v1alpha1.Kind{"Pod"}, "UPDATE"), bound, true},
		{"every kind", about(nil), label, true},
		{"another operation", about(nil, "UPDATE", "DELETE"), example, false},
		{"one of the operations", about(nil, "UPDATE", "DELETE"), deletion, true},
		{"kind and operation", about([]v1alpha1.Kind{"NetworkPolicy"}, "CREATE"), deletion, false},
		{"what exists was created or changed", about(nil, "UPDATE"), existing, true},
		{"what exists was not deleted", about(nil, "DELETE"), existing, false},
	} {
		if r := judge(t, engineOf(t, ownRego("g", `deny contains "asked"`, c.option)), c.in); (len(r.Denials) > 0) != c.asked {
			t.Errorf("%s: asked: %v", c.name, !c.asked)
		}
	}
}

// Whoever makes a pod has not opened what it can reach: a guardrail refuses it only where it says that it is about pods.
func TestANewPodIsRefusedOnlyByAGuardrailThatNamesPods(t *testing.T) {
	newPod := example
	newPod.Request.Kind.Kind = "Pod"
	label, existing := newPod, newPod
	label.Request.Operation, existing.Source = "UPDATE", Audit
	of := func(e v1alpha1.Enforcement, kinds ...v1alpha1.Kind) option {
		return func(g *v1alpha1.Guardrail) { g.Spec.Enforcement, g.Spec.Kinds = e, kinds }
	}
	for _, c := range []struct {
		name                    string
		option                  option
		in                      Input
		denied, warned, audited int
	}{
		{"every kind", of(v1alpha1.EnforceDeny), newPod, 0, 1, 0},
		{"no enforcement", of(""), newPod, 0, 1, 0},
		{"pods", of(v1alpha1.EnforceDeny, "Pod"), newPod, 1, 0, 0},
		{"pods and others", of(v1alpha1.EnforceDeny, "NetworkPolicy", "Pod"), newPod, 1, 0, 0},
		{"others", of(v1alpha1.EnforceDeny, "NetworkPolicy"), newPod, 0, 0, 0},
		{"pods, warns", of(v1alpha1.EnforceWarn, "Pod"), newPod, 0, 1, 0},
		{"audits", of(v1alpha1.EnforceAudit), newPod, 0, 0, 1},
		{"a pod's labels", of(v1alpha1.EnforceDeny), label, 1, 0, 0},
		{"what exists", of(v1alpha1.EnforceDeny), existing, 1, 0, 0},
	} {
		r := judge(t, engineOf(t, ownRego("g", `deny contains "no"`, c.option)), c.in)
		if len(r.Denials) != c.denied || len(r.Warnings) != c.warned || len(r.Audited) != c.audited {
			t.Errorf("%s: %d denials, %d warnings, %d audited", c.name, len(r.Denials), len(r.Warnings), len(r.Audited))
		}
	}
}

func TestNamespacesLimitAGuardrail(t *testing.T) {
	e := engineOf(t, ownRego("here", `deny contains "here"`, onlyIn("prod")), ownRego("there", `deny contains "there"`, onlyIn("test")))
	if r := judge(t, e, example); said(r.Denials) != "here: here" {
		t.Fatalf("denied:\n%s", said(r.Denials))
	}
}

func TestParametersReachOnlyTheirOwnGuardrail(t *testing.T) {
	e := engineOf(t,
		fromLibrary("a", "data-tier-closed", with(`{"roles": ["vault"]}`)),
		fromLibrary("b", "data-tier-closed", with(`{"namespaces": ["test", ""]}`)),
		fromLibrary("c", "data-tier-closed"),
		ownRego("d", `deny contains input.parameters.say`, with(`{"say": "hello"}`)),
		ownRego("e", `deny contains "has parameters" if count(input.parameters) > 0`),
	)
	denied := said(judge(t, e, example).Denials)
	for _, who := range []string{"a: ", "b: ", "e: "} {
		if strings.Contains(denied, who) {
			t.Errorf("%s got parameters that are not its own:\n%s", who, denied)
		}
	}
	if !strings.Contains(denied, "c: NetworkPolicy") || !strings.Contains(denied, "d: hello") {
		t.Errorf("denied:\n%s", denied)
	}
}

func TestTheOrderOfGuardrailsMeansNothing(t *testing.T) {
	a, b := ownRego("a", `deny contains "1"`), ownRego("b", `deny contains "2"`)
	one, two := judge(t, engineOf(t, a, b), example), judge(t, engineOf(t, b, a), example)
	if said(one.Denials) != said(two.Denials) {
		t.Fatalf("%s\nand\n%s", said(one.Denials), said(two.Denials))
	}
}

func TestManyMessagesAreCounted(t *testing.T) {
	r := judge(t, engineOf(t, ownRego("much", `deny contains sprintf("%d", [n]) if some n in numbers.range(1, 25)`)), example)
	if n := len(r.Denials); n != MaxMessages || r.Denials[n-1].Message != fmt.Sprintf("and %d more of this kind", 25-MaxMessages+1) {
		t.Fatalf("%d denials:\n%s", n, said(r.Denials))
	}
}

func TestInputDocument(t *testing.T) {
	for name, rule := range map[string]string{
		"schema":            `input.schema == "tierwall.io/guardrail/v1"`,
		"source":            `input.source == "admission"`,
		"request":           `input.request.operation == "CREATE"; input.request.userInfo.username == "ann"`,
		"object":            `input.object.spec.ingress[0].ports[0].port == 5432`,
		"oldObject":         `input.oldObject == null`,
		"namespace":         `input.namespace == {"name": "prod", "labels": {"environment": "prod"}}`,
		"parameters":        `input.parameters == {}`,
		"rows":              `count(input.effect.added) == 3; input.effect.added[0].via[0].rule == "/spec/ingress/0"`,
		"empty lists":       `input.effect.removed == []; input.effect.lint.deadPeers == []`,
		"roles":             `input.effect.roles.added.frontend.data == ["TCP/5432"]`,
		"nothing else":      `object.keys(input) == {"schema", "source", "request", "object", "oldObject", "namespace", "parameters", "effect"}`,
		"no data but rules": `count(input) > 0`,
	} {
		r := judge(t, engineOf(t, ownRego("asks", `deny contains "yes" if { `+rule+` }`)), example)
		if said(r.Denials) != "asks: yes" {
			t.Errorf("%s: not true: %s\n%s", name, rule, said(r.Denials))
		}
	}
}

func TestAnInputThatIsNotJSONIsAnError(t *testing.T) {
	in := example
	in.Object = []byte("{")
	if _, err := engineOf(t).Judge(t.Context(), in); err == nil {
		t.Fatal("it was judged")
	}
}

func TestAGuardrailThatCannotAnswerDenies(t *testing.T) {
	for rules, want := range map[string]string{
		`deny contains 1`:                                        "neither a text nor an object",
		`deny contains ""`:                                       "neither a text nor an object",
		`deny contains {"message": "no"}`:                        "neither a text nor an object",
		`deny contains {"msg": 1}`:                               "neither a text nor an object",
		`deny contains {"msg": "no", "path": 1}`:                 "neither a text nor an object",
		`warn contains ["no"]`:                                   "neither a text nor an object",
		`deny contains "no" if to_number("x") == 1`:              "to_number",
		`deny contains "no" if 1 / input.zero == 1`:              "", // undefined is no failure
		"deny contains f(1)\nf(x) := 1 if x\nf(x) := 2 if x > 0": "conflict",
		`deny contains "no" if net.cidr_contains("x", "y")`:      "net.cidr_contains",
	} {
		r := judge(t, engineOf(t, ownRego("odd", rules), ownRego("sound", `deny contains "sound"`)), example)
		denied := said(r.Denials)
		if !strings.Contains(denied, "sound: sound") {
			t.Errorf("%s: it stopped another guardrail:\n%s", rules, denied)
		}
		if got := strings.Contains(denied, "odd: guardrail odd could not judge this: "); got != (want != "") || !strings.Contains(denied, want) {
			t.Errorf("%s: denied:\n%s\nwant: %s", rules, denied, want)
		}
	}
}

const endless = "deny contains \"no\" if {\n\tsome a in numbers.range(1, 10000)\n\tsome b in numbers.range(1, 10000)\n\ta * b == -1\n}"

// doubling makes a text of 2^40 bytes.
func doubling() string {
	lines := []string{"deny contains \"no\" if {", "\ta0 := \"x\""}
	for i := range 40 {
		lines = append(lines, fmt.Sprintf("\ta%d := concat(\"\", [a%d, a%d])", i+1, i, i))
	}
	return strings.Join(append(lines, "\tcount(a40) == 0", "}"), "\n")
}

// hoarding holds pairs until something stops it.
const hoarding = "deny contains \"no\" if {\n\txs := [x | some a in numbers.range(1, 10000); some b in numbers.range(1, 10000); x := [a, b]]\n\tcount(xs) == 0\n}"

func TestARunawayIsCutAndNamedAndTheOthersAreHeard(t *testing.T) {
	for rules, c := range map[string]struct {
		why   string
		limit time.Duration
	}{
		endless:    {"it took too long and was stopped", 6 * time.Second},
		doubling(): {"and was stopped", time.Minute}, // long before, for memory
		hoarding:   {"and was stopped", time.Minute},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), c.limit)
		defer cancel()
		e := engineOf(t, ownRego("a-runaway", rules), ownRego("b-runaway", rules, warnOnly), ownRego("sound", `deny contains "sound"`))
		r, err := e.Judge(ctx, example)
		if err != nil {
			t.Fatal(err)
		}
		denied := said(r.Denials)
		if !strings.Contains(denied, "a-runaway: guardrail a-runaway could not judge this: ") || !strings.Contains(denied, c.why) ||
			!strings.HasSuffix(denied, "\nsound: sound") || !strings.Contains(said(r.Warnings), "b-runaway could not judge") {
			t.Errorf("%.60s: denied:\n%s\nwarned:\n%s", rules, denied, said(r.Warnings))
		}
		if ctx.Err() != nil {
			t.Errorf("%.60s: the whole time was used up", rules)
		}
	}
}

func TestTheLastGuardrailLeavesTimeToNameIt(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	r := judgeIn(ctx, t, engineOf(t, ownRego("a-sound", `deny contains "sound"`), ownRego("z-runaway", endless)))
	if ctx.Err() != nil || !strings.Contains(said(r.Denials), "guardrail z-runaway could not judge this: it took too long") {
		t.Errorf("%v; denied:\n%s", ctx.Err(), said(r.Denials))
	}
}

func judgeIn(ctx context.Context, t *testing.T, e *Engine) Result {
	t.Helper()
	r, err := e.Judge(ctx, example)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestMessagesAreBounded(t *testing.T) {
	for _, rules := range []string{
		`deny contains sprintf("%0100000d", [1])`,
		`deny contains {"msg": sprintf("%0100000d", [1]), "path": sprintf("%0100000d", [1])}`,
		`deny contains [sprintf("%0100000d", [1])]`,
	} {
		r := judge(t, engineOf(t, ownRego("long", rules)), example)
		if len(r.Denials) != 1 || len(r.Denials[0].Message) > 2*maxText || len(r.Denials[0].Path) > 2*maxText {
			t.Errorf("%s: %d bytes, at %d bytes", rules, len(r.Denials[0].Message), len(r.Denials[0].Path))
		}
	}
}

func TestOutOfTimeDenies(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	inOrder := example
	inOrder.Effect.Added = []effect.Row{exampleRow(effect.Peer{Kind: effect.Workload, Namespace: "prod", Role: "backend"})}
	e := engineOf(t, fromLibrary("order", "tier-order"))
	if r, err := e.Judge(ctx, inOrder); err == nil && len(r.Denials) == 0 {
		t.Error("a judgement that had no time was an admission")
	}
	if r := judge(t, e, inOrder); len(r.Denials) > 0 {
		t.Errorf("with time it is refused: %s", said(r.Denials))
	}
}

func TestABadGuardrailIsNamedWithItsPlaceAndStopsNoOther(t *testing.T) {
	for want, bad := range map[string]*v1alpha1.Guardrail{
		"bad.rego:3:":                          ownRego("bad", `deny contains msg if {`),
		"bad.rego:3:1: rule deny is not a set": ownRego("bad", `deny := "no"`),
		"bad.rego:3:15: var msg is unsafe":     ownRego("bad", `deny contains msg`),
		"there is no rule":                     ownRego("bad", `forbid contains "no"`),
		"empty module":                         written("bad", "# nothing"),
		"package is tierwall.guardrails.data_tier_closed; want tierwall.guardrails.bad": written("bad", "package tierwall.guardrails.data_tier_closed\n\ndeny contains \"no\""),
		"package is tierwall.lib; want":                                                   written("bad", "package tierwall.lib\n\ndeny contains \"no\""),
		"package is tierwall.guardrails.bad.more":                                         written("bad", "package tierwall.guardrails.bad.more\n\ndeny contains \"no\""),
		"tier-order is the name of a guardrail of the library":                            ownRego("tier-order", `deny contains "no"`),
		"data.tierwall.guardrails.other.deny is not for this guardrail":                   ownRego("bad", `deny contains "no" if data.tierwall.guardrails.other.deny`),
		"bad.rego:3:28: data is not for this guardrail":                                   ownRego("bad", `deny contains "no" if x := data`),
		"is not for this guardrail; it may read its own package and tierwall.lib":         ownRego("bad", `deny contains "no" if { some x; data[x] }`),
		"undefined function http.send":                                                    ownRego("bad", `deny contains "no" if http.send({"method": "get", "url": "http://example.com"})`),
		"undefined function opa.runtime":                                                  ownRego("bad", `deny contains "no" if opa.runtime()`),
		"data.tierwall.guardrails.other is not for this guardrail":                        ownRego("bad", "import data.tierwall.guardrails.other\n\ndeny contains other.deny"),
		"undefined function time.now_ns":                                                  ownRego("bad", `deny contains "no" if time.now_ns() > 1`),
		"undefined function net.lookup_ip_addr":                                           ownRego("bad", `deny contains "no" if net.lookup_ip_addr("example.com")`),
		"undefined function rego.parse_module":                                            ownRego("bad", `deny contains "no" if rego.parse_module("a", "package a")`),
		"undefined function trace":                                                        ownRego("bad", `deny contains "no" if trace("x")`),
		"undefined function rand.intn":                                                    ownRego("bad", `deny contains "no" if rand.intn("x", 2) == 1`),
		"rule data.tierwall.guardrails.bad.a is recursive":                                ownRego("bad", "deny contains \"no\" if a\na if b\nb if a"),
		"import data.tierwall.lib unused":                                                 ownRego("bad", "import data.tierwall.lib\n\ndeny contains \"no\""),
		`spec.library: there is no "nope"; there are admin-tier-writers, `:                fromLibrary("bad", "nope"),
		"exactly one of library, bundle and rego":                                         fromLibrary("bad", ""),
		"spec.parameters: want an object":                                                 fromLibrary("bad", "tier-order", with(`null`)),
		"spec.parameters: json: cannot unmarshal array":                                   fromLibrary("bad", "tier-order", with(`[]`)),
		"spec.parameters.roles: there is no such parameter; there are forwardOnly, order": fromLibrary("bad", "tier-order", with(`{"roles": []}`)),
		"spec.parameters.roles: want texts: the roles of the data tier":                   fromLibrary("bad", "data-tier-closed", with(`{"roles": "data"}`)),
		"spec.parameters.networks: want networks":                                         fromLibrary("bad", "data-tier-inside", with(`{"networks": ["10.0.0.1"]}`)),
		"spec.parameters.labels: want labels":                                             fromLibrary("bad", "dns-stays", with(`{"labels": {"a": 1}}`)),
		"spec.parameters.ports: want numbers":                                             fromLibrary("bad", "dns-stays", with(`{"ports": ["53"]}`)),
		`there is no type "list"`:                                                         written("bad", "# METADATA\n# custom:\n#   parameters:\n#     a:\n#       type: list\npackage tierwall.guardrails.bad\n\ndeny contains \"no\""),
	} {
		e, errs := NewEngine(t.Context(), []*v1alpha1.Guardrail{bad, ownRego("sound", `deny contains "sound"`)})
		if len(errs) != 1 || errs[0].Name != bad.Name || !strings.Contains(errs[0].Error(), want) {
			t.Errorf("errors: %v; want one of %s with: %s", errs, bad.Name, want)
		}
		if r := judge(t, e, example); said(r.Denials) != "sound: sound" {
			t.Errorf("%s: denied:\n%s", want, said(r.Denials))
		}
		if errs := Validate(t.Context(), bad, nil); len(errs) != 1 || !strings.Contains(errs[0].Error(), strings.TrimPrefix(want, "spec.parameters")) {
			t.Errorf("Validate: %v; want %s", errs, want)
		}
	}
}

func TestValidate(t *testing.T) {
	for _, entry := range Library() {
		if errs := Validate(t.Context(), fromLibrary(entry.Name, entry.Name), nil); len(errs) != 0 {
			t.Error(errs)
		}
	}
	if errs := Validate(t.Context(), ownRego("own", `deny contains "no"`), nil); len(errs) != 0 {
		t.Error(errs)
	}
}

func TestValidateTriesAnExample(t *testing.T) {
	for want, rules := range map[string]string{
		"judging an example: it took too long":                    endless,
		"judging an example: deny has an element that is neither": `deny contains 1`,
	} {
		errs := Validate(t.Context(), ownRego("own", rules), nil)
		if len(errs) != 1 || errs[0].Field != "spec.rego" || !strings.Contains(errs[0].Error(), want) {
			t.Errorf("%v; want %s", errs, want)
		}
	}
}

func FuzzValidate(f *testing.F) {
	for _, entry := range Library() {
		f.Add(entry.Source)
	}
	f.Add("package tierwall.guardrails.own\n\ndeny contains \"no\"")
	f.Add("package tierwall.guardrails.own\n\ndeny contains x if { some x in " + strings.Repeat("[", 200) + strings.Repeat("]", 200) + " }")
	f.Fuzz(func(t *testing.T, text string) {
		g := written("own", text)
		invalid := Validate(t.Context(), g, nil)
		if _, errs := NewEngine(t.Context(), []*v1alpha1.Guardrail{g}); len(invalid) == 0 && len(errs) > 0 {
			t.Fatalf("valid, and yet: %v", errs)
		}
	})
}

// rows is an input of a policy that opens nothing forbidden, with n rows.
func rows(n int) Input {
	in := harmless()
	for i := range n {
		in.Effect.Added = append(in.Effect.Added, exampleRow(effect.Peer{Kind: effect.Workload, Namespace: "prod",
			Name: fmt.Sprintf("api-%d", i), Role: "backend", Pods: 1,
			NamespaceLabels: map[string]string{"environment": "prod"}, Labels: map[string]string{"app": fmt.Sprintf("api-%d", i)}}))
	}
	return in
}

// BenchmarkJudge is of twenty guardrails: those of the library, some of them twice.
func BenchmarkJudge(b *testing.B) {
	var twenty []*v1alpha1.Guardrail
	for i := 0; len(twenty) < 20; i++ {
		if entry := Library()[i%len(Library())]; entry.Name != "owner-required" {
			twenty = append(twenty, fromLibrary(fmt.Sprintf("%s-%d", entry.Name, i), entry.Name))
		}
	}
	e, errs := NewEngine(b.Context(), twenty)
	if len(errs) > 0 {
		b.Fatal(errs)
	}
	for _, n := range []int{0, 1, 10, 100, effect.MaxRows} {
		in := rows(n)
		b.Run(fmt.Sprintf("rows=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if r, err := e.Judge(b.Context(), in); err != nil || len(r.Denials) > 0 {
					b.Fatal(err, said(r.Denials))
				}
			}
		})
	}
}

func BenchmarkNewEngine(b *testing.B) {
	var all []*v1alpha1.Guardrail
	for _, entry := range Library() {
		all = append(all, fromLibrary(entry.Name, entry.Name))
	}
	for b.Loop() {
		if _, errs := NewEngine(b.Context(), all); len(errs) > 0 {
			b.Fatal(errs)
		}
	}
}
