package rego

import (
	"io/fs"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/cover"
	"github.com/open-policy-agent/opa/v1/format"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/tester"
)

func libraryFiles(t *testing.T) []string {
	t.Helper()
	names, err := fs.Glob(files, "library/*.rego")
	if err != nil || len(names) == 0 {
		t.Fatalf("no library: %v", err)
	}
	return names
}

// libraryModules parses the whole library with stock OPA: no capabilities of ours.
func libraryModules(t *testing.T) map[string]*ast.Module {
	t.Helper()
	modules := map[string]*ast.Module{}
	for _, file := range libraryFiles(t) {
		m, err := ast.ParseModuleWithOpts(file, embeddedFile(file), ast.ParserOptions{ProcessAnnotation: true})
		if err != nil {
			t.Fatal(err)
		}
		modules[file] = m
	}
	return modules
}

func TestLibraryIsFormatted(t *testing.T) {
	for _, file := range libraryFiles(t) {
		formatted, err := format.Source(file, []byte(embeddedFile(file)))
		if err != nil {
			t.Fatal(err)
		}
		if string(formatted) != embeddedFile(file) {
			t.Errorf("%s: opa fmt would change it to:\n%s", file, formatted)
		}
	}
}

func TestLibraryPassesStrictCheckOfStockOPA(t *testing.T) {
	c := ast.NewCompiler().WithStrict(true)
	c.Compile(libraryModules(t))
	if c.Failed() {
		t.Fatal(c.Errors)
	}
}

func TestLibraryHasMetadata(t *testing.T) {
	for _, e := range Library() {
		if e.Title == "" || e.Description == "" || e.Severity == "" {
			t.Errorf("%s: title %q, description %q, severity %q; want all of them", e.Name, e.Title, e.Description, e.Severity)
		}
	}
}

func TestLibraryPassesItsTestsWithFullCoverage(t *testing.T) {
	modules, covered := libraryModules(t), cover.New()
	results, err := tester.NewRunner().SetStore(inmem.New()).SetModules(modules).
		SetCoverageQueryTracer(covered).RunTests(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	passed := map[string]int{}
	for r := range results {
		if !r.Pass() {
			t.Errorf("%s: %s.%s failed: %v", r.Location, r.Package, r.Name, r.Error)
			continue
		}
		passed[r.Location.File]++
	}
	for file, report := range covered.Report(modules).Files {
		if strings.HasSuffix(file, "_test.rego") {
			continue
		}
		if passed[strings.TrimSuffix(file, ".rego")+"_test.rego"] == 0 {
			t.Errorf("%s has no tests", file)
		}
		for _, r := range report.NotCovered {
			if len(r.Kinds) == 0 { // ranges with kinds ran once early exit or indexing was off
				t.Errorf("%s:%d: lines %d to %d are not covered", file, r.Start.Row, r.Start.Row, r.End.Row)
			}
		}
	}
}
