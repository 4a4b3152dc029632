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
	"github.com/tierwall/tierwall/policy/effect"
)

// Prepared is a Guardrail object made ready to be asked.
type Prepared struct {
	name       string
	spec       v1alpha1.GuardrailSpec
	about      about
	parameters *ast.Term
	query      oparego.PreparedEvalQuery
	// skippable is true of one that need not be asked about a change without effect in the parts that it looks at.
	skippable bool
	parts     []effect.Part
}

// Prepare compiles a Guardrail object, from the bundle if it names one of its; the
// bundle may be nil. Guardrails are compiled each on its own, so that none can
// reach, break or outlast another.
func Prepare(ctx context.Context, g *v1alpha1.Guardrail, from *Bundle) (*Prepared, error) {
	p, err := prepareObject(ctx, g, from)
	if err != nil {
		return nil, singleLineError(err)
	}
	return p, nil
}

func prepareObject(ctx context.Context, g *v1alpha1.Guardrail, from *Bundle) (*Prepared, error) {
	src, err := sourceOf(g, from)
	if err != nil {
		return nil, err
	}
	parameters, err := parametersOf(g)
	if err != nil {
		return nil, err
	}
	if err := checkParameters(parameters, src.about.parameters); err != nil {
		return nil, err
	}
	value, err := ast.InterfaceToValue(parameters)
	if err != nil {
		return nil, fmt.Errorf("spec.parameters: %w", err)
	}
	query, err := compileQuery(ctx, src)
	if err != nil {
		return nil, err
	}
	p := &Prepared{name: g.Name, spec: g.Spec, about: src.about, parameters: ast.NewTerm(value), query: query}
	p.parts, p.skippable = src.relevantParts()
	return p, nil
}

// Concerns reports whether a guardrail of this spec is about a change. What exists
// is asked about whatever it was that made it so, so long as that was judged. An
// input without a kind is of several objects at once, and every guardrail's.
func Concerns(spec v1alpha1.GuardrailSpec, in Input) bool {
	kind, operation := v1alpha1.Kind(in.Request.Kind.Kind), v1alpha1.Operation(in.Request.Operation)
	if kind == "Binding" {
		kind, operation = "Pod", "UPDATE" // its labels become the pod's
	}
	if kind == "" {
		return true
	}
	asked := len(spec.Operations) == 0 || slices.Contains(spec.Operations, operation) ||
		in.Source == Audit && slices.Contains(spec.Operations, "UPDATE")
	return asked &&
		(len(spec.Namespaces) == 0 || slices.Contains(spec.Namespaces, in.Namespace.Name)) &&
		(len(spec.Kinds) == 0 || slices.Contains(spec.Kinds, kind))
}

// EnforcementOf is what a violation does. Of a new pod it only warns, unless the guardrail names the kind Pod:
// whoever scales an application or drains a node must not be stopped by what somebody else's policy offers.
func EnforcementOf(spec v1alpha1.GuardrailSpec, in Input) v1alpha1.Enforcement {
	newPod := in.Source == Admission && in.Request.Kind.Kind == "Pod" && in.Request.Operation == "CREATE"
	if newPod && spec.Enforcement != v1alpha1.EnforceAudit && !slices.Contains(spec.Kinds, "Pod") {
		return v1alpha1.EnforceWarn
	}
	return spec.Enforcement
}

func sourceOf(g *v1alpha1.Guardrail, from *Bundle) (*source, error) {
	named := 0
	for _, name := range []string{g.Spec.Library, g.Spec.Bundle, g.Spec.Rego} {
		if name != "" {
			named++
		}
	}
	switch {
	case named != 1:
		return nil, errors.New("spec: exactly one of library, bundle and rego must be set")
	case g.Spec.Library != "":
		if src := inLibrary(g.Spec.Library); src != nil {
			return src, nil
		}
		return nil, fmt.Errorf("spec.library: there is no %q; there are %s", g.Spec.Library, strings.Join(libraryNames(), ", "))
	case g.Spec.Bundle != "":
		return from.sourceNamed(g.Spec.Bundle)
	case inLibrary(g.Name) != nil:
		return nil, fmt.Errorf("metadata.name: %s is the name of a guardrail of the library; choose another for your own", g.Name)
	default:
		return parseGuardrail(g.Name, g.Name+".rego", g.Spec.Rego)
	}
}

// compileQuery compiles a source with the shared package, and a query for its rules.
func compileQuery(ctx context.Context, src *source) (oparego.PreparedEvalQuery, error) {
	shared, err := parseModule(sharedFile, embeddedFile(sharedFile))
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
