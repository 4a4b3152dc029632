// Package trial runs the tests of guardrails, as "opa test" does, with what
// guardrails may use and nothing else, and says what the tests cover.
package regotest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/cover"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/tester"

	"github.com/tierwall/tierwall/rego"
)

// Result is what came of the tests.
type Result struct {
	Tests    []Test     `json:"tests"`
	Coverage []Coverage `json:"coverage"`
	// Percent is how much of the lines of all files the tests cover, but for those of tests.
	Percent float64 `json:"percent"`
	Passed  int     `json:"passed"`
	Failed  int     `json:"failed"`
	Skipped int     `json:"skipped"`
}

// Test is one test.
type Test struct {
	Name     string        `json:"name"`
	File     string        `json:"file"`
	Line     int           `json:"line"`
	Outcome  string        `json:"outcome"` // pass, fail, error or skip
	Message  string        `json:"message,omitempty"`
	Output   string        `json:"output,omitempty"`
	Duration time.Duration `json:"nanoseconds"`
}

// Coverage is what the tests cover of a file.
type Coverage struct {
	File    string  `json:"file"`
	Percent float64 `json:"percent"`
	// NotCovered are such as "12" and "20-22".
	NotCovered []string `json:"notCovered"`
}

// sharedFile is what package tierwall.lib is called where the paths do not have it.
const sharedFile = "tierwall/lib.rego"

// Run runs the tests of the files and folders. The error is for what does not compile.
func Run(ctx context.Context, paths ...string) (Result, error) {
	modules, err := load(paths)
	if err != nil {
		return Result{}, err
	}
	compiler := ast.NewCompiler().WithCapabilities(rego.Capabilities()).WithStrict(true).WithEnablePrintStatements(true)
	coverage := cover.New()
	runner := tester.NewRunner().SetCompiler(compiler).SetStore(inmem.New()).SetModules(modules).
		CapturePrintOutput(true).SetCoverageQueryTracer(coverage).SetTimeout(30 * time.Second)
	results, err := runner.RunTests(ctx, nil)
	if err != nil {
		return Result{}, fmt.Errorf("compile the tests: %w", err)
	}
	out := Result{Tests: []Test{}, Coverage: []Coverage{}}
	for r := range results {
		out.add(r)
	}
	if err := ctx.Err(); err != nil {
		return Result{}, fmt.Errorf("run the tests: %w", err)
	}
	if len(out.Tests) == 0 {
		return Result{}, fmt.Errorf("%s: there is no test in it; a test is a rule whose name begins with test_", strings.Join(paths, ", "))
	}
	out.cover(coverage.Report(modules))
	return out, nil
}

// load parses the files of Rego, with the shared package.
func load(paths []string) (map[string]*ast.Module, error) {
	modules := map[string]*ast.Module{}
	var errs []error
	for _, path := range paths {
		err := filepath.WalkDir(path, func(file string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !strings.HasSuffix(file, ".rego") {
				return err
			}
			text, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			module, err := parse(file, string(text))
			if err != nil {
				errs = append(errs, err)
				return nil
			}
			modules[file] = module
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if len(modules) == 0 {
		return nil, fmt.Errorf("%s: there is no .rego file in it", strings.Join(paths, ", "))
	}
	for _, m := range modules {
		if m.Package.Path.String() == "data.tierwall.lib" {
			return modules, nil
		}
	}
	shared, err := parse(sharedFile, rego.Shared())
	modules[sharedFile] = shared
	return modules, err
}

func parse(file, text string) (*ast.Module, error) {
	m, err := ast.ParseModuleWithOpts(file, text, ast.ParserOptions{ProcessAnnotation: true, RegoVersion: ast.RegoV1, Capabilities: rego.Capabilities()})
	if err == nil && m == nil {
		err = fmt.Errorf("%s: there is no Rego in it", file)
	}
	return m, err
}

func (r *Result) add(t *tester.Result) {
	test := Test{Name: strings.TrimPrefix(t.Package, "data.") + "." + t.Name, Outcome: "pass", Output: string(t.Output), Duration: t.Duration}
	if t.Location != nil {
		test.File, test.Line = t.Location.File, t.Location.Row
	}
	switch {
	case t.Skip:
		test.Outcome = "skip"
		r.Skipped++
	case t.Error != nil:
		test.Outcome, test.Message = "error", t.Error.Error()
		r.Failed++
	case t.Fail:
		test.Outcome = "fail"
		if t.FailedAt != nil && t.FailedAt.Location != nil {
			test.Message = fmt.Sprintf("%s:%d: %s", t.FailedAt.Location.File, t.FailedAt.Location.Row, t.FailedAt.Location.Text)
		}
		r.Failed++
	default:
		r.Passed++
	}
	r.Tests = append(r.Tests, test)
}

// cover takes in the coverage of all files but tests and the shared package that nobody gave.
func (r *Result) cover(report cover.Report) {
	covered, all := 0, 0
	for file, f := range report.Files {
		if strings.HasSuffix(file, "_test.rego") || file == sharedFile {
			continue
		}
		c := Coverage{File: file, Percent: f.Coverage, NotCovered: []string{}}
		for _, n := range f.NotCovered {
			text := fmt.Sprint(n.Start.Row)
			if n.End.Row != n.Start.Row {
				text = fmt.Sprintf("%d-%d", n.Start.Row, n.End.Row)
			}
			c.NotCovered = append(c.NotCovered, text)
		}
		c.NotCovered = slices.Compact(c.NotCovered)
		r.Coverage = append(r.Coverage, c)
		covered, all = covered+f.CoveredLines, all+f.CoveredLines+f.NotCoveredLines
	}
	slices.SortFunc(r.Coverage, func(a, b Coverage) int { return strings.Compare(a.File, b.File) })
	if all > 0 {
		r.Percent = float64(covered) / float64(all) * 100
	}
}
