package rego

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/tester"

	"github.com/tierwall/tierwall/api/v1alpha1"
)

// testTime is how long the tests of a guardrail may take together.
const testTime = 2 * time.Second

// runTests runs the tests of a Guardrail's own Rego.
func runTests(ctx context.Context, g *v1alpha1.Guardrail) error {
	src, err := parseGuardrail(g.Name, g.Name+".rego", g.Spec.Rego)
	if err != nil {
		return err
	}
	tests, err := parseTests(src, g.Name+"_test.rego", g.Spec.Tests)
	if err != nil {
		return err
	}
	return runTestModule(ctx, src, tests)
}

// parseTests reads tests of a source: a package of their own, which may read the
// guardrail's and nothing else.
func parseTests(src *source, file, text string) (*ast.Module, error) {
	module, err := parseModule(file, text)
	if err != nil {
		return nil, err
	}
	own, want := packageOf(src.name), packageOf(src.name+"_test")
	var errs ast.Errors
	if !module.Package.Path.Equal(want) {
		errs = append(errs, sourceError(module.Package.Location, "package is %s; want %s", dottedPath(module.Package.Path), dottedPath(want)))
	}
	errs = append(errs, findForeignReferences(module, own, want)...)
	if len(errs) > 0 {
		return nil, errs
	}
	return module, nil
}

// runTestModule runs tests of a source with nothing but the built-ins that guardrails
// have. It returns the first failures, each with its place.
func runTestModule(ctx context.Context, src *source, tests *ast.Module) (err error) {
	defer func() {
		if problem := recover(); problem != nil {
			err = fmt.Errorf("the tests made the evaluator fail: %v", problem)
		}
	}()
	shared, err := parseModule(sharedFile, embeddedFile(sharedFile))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, testTime)
	defer cancel()
	ctx, end := guardMemory(ctx)
	defer end()
	results, err := tester.NewRunner().SetStore(inmem.New()).SetTimeout(testTime).SetParallel(1).
		SetCompiler(ast.NewCompiler().WithCapabilities(capabilities()).WithDefaultRegoVersion(ast.RegoV1)).
		SetModules(map[string]*ast.Module{src.file: src.module.Copy(), sharedFile: shared, tests.Package.Location.File: tests}).
		RunTests(ctx, nil)
	if err != nil {
		return err
	}
	count := 0
	var failures []error
	for r := range results { // to the end, or the runner would wait for ever
		count++
		if len(failures) < MaxMessages && !r.Pass() {
			failures = append(failures, testFailure(r))
		}
	}
	switch {
	case errors.Is(context.Cause(ctx), errTooMuchMemory):
		return errTooMuchMemory
	case ctx.Err() != nil:
		return fmt.Errorf("the tests took longer than %v", testTime)
	case count == 0:
		return errors.New(`there are no tests; their names begin with "test_"`)
	}
	return errors.Join(failures...)
}

func testFailure(r *tester.Result) error {
	place := fmt.Sprintf("%s:%d:%d: %s", r.Location.File, r.Location.Row, r.Location.Col, r.Name)
	switch {
	case r.Error != nil:
		return fmt.Errorf("%s: %w", place, r.Error)
	case r.Skip:
		return fmt.Errorf("%s was skipped", place)
	default:
		return fmt.Errorf("%s failed", place)
	}
}
