package rego

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	oparego "github.com/open-policy-agent/opa/v1/rego"

	"github.com/tierwall/tierwall/policy/effect"
)

const schemaFile = "schema/input.json"

func inputSchema(t *testing.T) any {
	t.Helper()
	text, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	var schema any
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	return schema
}

// strictWithSchema is "opa check --strict --schema rego/schema/input.json".
func strictWithSchema(t *testing.T, modules map[string]*ast.Module) error {
	t.Helper()
	schemas := ast.NewSchemaSet()
	schemas.Put(ast.SchemaRootRef, inputSchema(t))
	c := ast.NewCompiler().WithStrict(true).WithSchemas(schemas).WithUseTypeCheckAnnotations(true)
	c.Compile(modules)
	if c.Failed() {
		return c.Errors
	}
	return nil
}

func TestLibraryReadsOnlyWhatTheSchemaHas(t *testing.T) {
	modules := libraryModules(t)
	for file := range modules {
		if strings.HasSuffix(file, "_test.rego") {
			delete(modules, file) // their inputs are parts of the document
		}
	}
	if err := strictWithSchema(t, modules); err != nil {
		t.Fatal(err)
	}
}

func TestTheSchemaFindsAMisspeltField(t *testing.T) {
	for _, rule := range []string{
		`deny contains "no" if input.effects.complete`,
		`deny contains "no" if input.effect.added[_].from.rol == "data"`,
		`deny contains "no" if input.effect.lint.deadPeers[_].polcy == ""`,
	} {
		m := ast.MustParseModule("package tierwall.guardrails.own\n\n" + rule)
		if err := strictWithSchema(t, map[string]*ast.Module{"own.rego": m}); err == nil || !strings.Contains(err.Error(), "undefined ref") {
			t.Errorf("%s: %v", rule, err)
		}
	}
}

// fits reports whether a document is as the schema says, and why not.
func fits(t *testing.T, in Input) (bool, any) {
	t.Helper()
	document, err := in.toDocument()
	if err != nil {
		t.Fatal(err)
	}
	results, err := oparego.New(
		oparego.Query(`[ok, why] := json.match_schema(input.document, input.schema)`),
		oparego.ParsedInput(ast.NewObject(
			ast.Item(ast.StringTerm("document"), ast.NewTerm(withParameters(document, ast.ObjectTerm()))),
			ast.Item(ast.StringTerm("schema"), ast.NewTerm(ast.MustInterfaceToValue(inputSchema(t)))))),
	).Eval(t.Context())
	if err != nil || len(results) != 1 {
		t.Fatal(err, results)
	}
	ok, _ := results[0].Bindings["ok"].(bool)
	return ok, results[0].Bindings["why"]
}

func TestInputsOfTheExamplesAreAsTheSchemaSays(t *testing.T) {
	for _, entry := range Library() {
		if ok, why := fits(t, applied(t, docs+"examples/"+entry.Name+".yaml")); !ok {
			t.Errorf("%s: %v", entry.Name, why)
		}
	}
}

func TestInputsAreAsTheSchemaSays(t *testing.T) {
	withNetwork := example
	withNetwork.Effect.Added = []effect.Row{exampleRow(effect.Peer{Kind: effect.CIDR, Name: "0.0.0.0/0", Except: []string{"10.0.0.0/8"},
		NamespaceLabels: map[string]string{}, Labels: map[string]string{}})}
	bare := example
	bare.Namespace, bare.Request = Namespace{}, Request{}
	tied := example
	tied.Effect.Lint.PriorityTies = []effect.Ref{{Policy: "ClusterNetworkPolicy a", Rule: "/spec/priority", By: "ClusterNetworkPolicy b"}}
	wrong := example
	wrong.Source = "elsewhere"
	for name, c := range map[string]struct {
		in   Input
		fits bool
	}{"example": {example, true}, "nothing opened": {harmless(), true}, "network": {withNetwork, true}, "audit": {bare, true}, "priorities": {tied, true}, "wrong source": {wrong, false}} {
		if ok, why := fits(t, c.in); ok != c.fits {
			t.Errorf("%s: fits: %v: %v", name, ok, why)
		}
	}
}
