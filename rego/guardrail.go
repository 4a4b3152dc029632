package rego

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	oparego "github.com/open-policy-agent/opa/v1/rego"

	"github.com/tierwall/tierwall/api/v1alpha1"
)

// guardrail is a Guardrail object made ready to be asked.
type guardrail struct {
	name       string
	about      about
	warnOnly   bool
	namespaces []string
	parameters *ast.Term
	query      oparego.PreparedEvalQuery
}

// newGuardrail compiles a Guardrail object. Guardrails are compiled each on its
// own, so that none can reach, break or outlast another.
func newGuardrail(ctx context.Context, g *v1alpha1.Guardrail) (*guardrail, error) {
	src, err := sourceOf(g)
	if err != nil {
		return nil, err
	}
	parameters, err := parametersOf(g)
	if err != nil {
		return nil, err
	}
	if err := check(parameters, src.about.parameters); err != nil {
		return nil, err
	}
	value, err := ast.InterfaceToValue(parameters)
	if err != nil {
		return nil, fmt.Errorf("spec.parameters: %w", err)
	}
	query, err := prepare(ctx, src)
	if err != nil {
		return nil, err
	}
	return &guardrail{
		name: g.Name, about: src.about, warnOnly: g.Spec.Enforcement == v1alpha1.EnforceWarn,
		namespaces: g.Spec.Namespaces, parameters: ast.NewTerm(value), query: query,
	}, nil
}

// concerns says whether the guardrail is about objects of a namespace.
func (g *guardrail) concerns(namespace string) bool {
	return len(g.namespaces) == 0 || slices.Contains(g.namespaces, namespace)
}

func sourceOf(g *v1alpha1.Guardrail) (*source, error) {
	switch {
	case (g.Spec.Library == "") == (g.Spec.Rego == ""):
		return nil, errors.New("spec: exactly one of library and rego must be set")
	case g.Spec.Library != "":
		if src := inLibrary(g.Spec.Library); src != nil {
			return src, nil
		}
		return nil, fmt.Errorf("spec.library: there is no %q; there are %s", g.Spec.Library, strings.Join(libraryNames(), ", "))
	case inLibrary(g.Name) != nil:
		return nil, fmt.Errorf("metadata.name: %s is the name of a guardrail of the library; choose another for your own", g.Name)
	default:
		return parse(g.Name, g.Name+".rego", g.Spec.Rego)
	}
}

// prepare compiles a source with the shared package, and a query for its rules.
func prepare(ctx context.Context, src *source) (oparego.PreparedEvalQuery, error) {
	shared, err := parseModule(sharedFile, embedded(sharedFile))
	if err != nil {
		return oparego.PreparedEvalQuery{}, err
	}
	compiler := ast.NewCompiler().WithCapabilities(capabilities()).WithStrict(true)
	compiler.Compile(map[string]*ast.Module{src.file: src.module.Copy(), sharedFile: shared})
	if compiler.Failed() {
		return oparego.PreparedEvalQuery{}, compiler.Errors
	}
	own := packageOf(src.name)
	var query ast.Body
	for _, rule := range src.rules {
		query.Append(ast.Equality.Expr(ast.VarTerm(rule), ast.NewTerm(own.Append(ast.StringTerm(rule)))))
	}
	return oparego.New(oparego.Compiler(compiler), oparego.ParsedQuery(query),
		oparego.StrictBuiltinErrors(true)).PrepareForEval(ctx)
}
