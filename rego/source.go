package rego

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// source is a guardrail's Rego, parsed and checked for its form.
type source struct {
	// name is the guardrail's; with underscores for hyphens, it is its package's last part.
	name, file, text string
	module           *ast.Module
	about            about
	// rules are those of "deny" and "warn" that it has.
	rules []string
}

// about is what a guardrail's METADATA says of it.
type about struct {
	title, description, severity string
	parameters                   map[string]Parameter
}

var (
	guardrailsPackage = ast.MustParseRef("data.tierwall.guardrails")
	// sharedPackage is the only other package that a guardrail may read.
	sharedPackage = ast.MustParseRef("data.tierwall.lib")
)

// packageOf is the package that the guardrail of a name must be.
func packageOf(name string) ast.Ref {
	return guardrailsPackage.Append(ast.StringTerm(strings.ReplaceAll(name, "-", "_")))
}

// parseGuardrail reads the Rego of a guardrail and checks its form: one package, named
// after the guardrail, with rules that the engine can ask. Errors name file,
// line and column.
func parseGuardrail(name, file, text string) (*source, error) {
	module, err := parseModule(file, text)
	if err != nil {
		return nil, err
	}
	about, err := readMetadata(module)
	if err != nil {
		return nil, err
	}
	s := &source{name: name, file: file, text: text, module: module, about: about}
	var errs ast.Errors
	if own := packageOf(name); !module.Package.Path.Equal(own) {
		errs = append(errs, sourceError(module.Package.Location, "package is %s; want %s, after the guardrail's name",
			dottedPath(module.Package.Path), dottedPath(own)))
	}
	errs = append(errs, findForeignReferences(module, packageOf(name))...)
	for _, rule := range []string{"deny", "warn"} {
		found, wrong := ruleNamed(module, rule)
		if found {
			s.rules = append(s.rules, rule)
		}
		errs = append(errs, wrong...)
	}
	if len(s.rules) == 0 && len(errs) == 0 {
		errs = append(errs, sourceError(module.Package.Location, `there is no rule "deny contains msg" or "warn contains msg"`))
	}
	if len(errs) > 0 {
		return nil, errs
	}
	return s, nil
}

func parseModule(file, text string) (*ast.Module, error) {
	module, err := ast.ParseModuleWithOpts(file, text, ast.ParserOptions{
		ProcessAnnotation: true, RegoVersion: ast.RegoV1, Capabilities: capabilities(),
	})
	if err != nil {
		return nil, err
	}
	if module == nil {
		return nil, ast.Errors{sourceError(ast.NewLocation(nil, file, 1, 1), "there is no Rego in it")}
	}
	return module, nil
}

// ruleNamed reports whether there is a rule of a name, and what is wrong with it:
// it must be a set, as one of another form would be asked for messages and have none.
func ruleNamed(module *ast.Module, name string) (found bool, errs ast.Errors) {
	for _, r := range module.Rules {
		ref := r.Head.Ref()
		if !ref[0].Equal(ast.VarTerm(name)) {
			continue
		}
		found = true
		if len(ref) != 1 || r.Head.RuleKind() != ast.MultiValue {
			errs = append(errs, sourceError(r.Location, `rule %s is not a set of messages; write "%s contains msg if { ... }"`, name, name))
		}
	}
	return found, errs
}

// findForeignReferences finds what a module reads of packages that are neither own nor shared.
func findForeignReferences(module *ast.Module, own ...ast.Ref) ast.Errors {
	var errs ast.Errors
	report := func(ref ast.Ref) bool {
		mine := slices.ContainsFunc(append(own, sharedPackage), func(p ast.Ref) bool { return ref.HasPrefix(p) })
		if ref[0].Equal(ast.DefaultRootDocument) && !mine {
			errs = append(errs, sourceError(ref[0].Location, "%s is not for this guardrail; it may read its own package and %s",
				ref, dottedPath(sharedPackage)))
		}
		return false
	}
	for _, i := range module.Imports {
		ast.WalkRefs(i, report)
	}
	for _, r := range module.Rules {
		ast.WalkRefs(r, report)
	}
	return errs
}

// readMetadata reads the METADATA of a module's package.
func readMetadata(module *ast.Module) (about, error) {
	for _, a := range module.Annotations {
		if a.Scope != "package" {
			continue
		}
		severity, _ := a.Custom["severity"].(string)
		out := about{title: a.Title, description: strings.TrimSpace(a.Description), severity: severity}
		if custom, ok := a.Custom["parameters"]; ok {
			declared, err := readDeclarations(custom, a.Location)
			if err != nil {
				return about{}, ast.Errors{err}
			}
			out.parameters = declared
		}
		return out, nil
	}
	return about{}, nil
}

func sourceError(at *ast.Location, format string, args ...any) *ast.Error {
	return ast.NewError(ast.CompileErr, at, format, args...)
}

func dottedPath(path ast.Ref) string { return strings.TrimPrefix(path.String(), "data.") }

// singleLineError is an error of the parser or the compiler in one line, with each place.
func singleLineError(err error) error {
	var errs ast.Errors
	if !errors.As(err, &errs) {
		return err
	}
	lines := make([]string, 0, len(errs))
	for _, e := range errs {
		place := ""
		if e.Location != nil {
			place = fmt.Sprintf("%s:%d:%d: ", e.Location.File, e.Location.Row, e.Location.Col)
		}
		lines = append(lines, place+e.Message)
	}
	return fmt.Errorf("%s", strings.Join(lines, "; "))
}
