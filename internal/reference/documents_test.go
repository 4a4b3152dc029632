package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

// documents returns the Markdown files of the tree by their paths, without fenced code.
func documents(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "out" || d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".") && path != root):
			return fs.SkipDir
		case filepath.Ext(path) == ".md":
			text, err := os.ReadFile(path)
			out[path] = fencedCode.ReplaceAllString(string(text), "")
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) < 20 {
		t.Fatalf("found %d documents", len(out))
	}
	return out
}

var (
	fencedCode = regexp.MustCompile("(?ms)^\\s*```.*?^\\s*```")
	link       = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading    = regexp.MustCompile(`(?m)^#+ +(.+)$`)
	namedPlace = regexp.MustCompile(`<a (?:name|id)="([^"]+)"`)
	makeTarget = regexp.MustCompile("`make ((?:[a-z][a-z-]*(?: |\\b))+)`")
	codeSpan   = regexp.MustCompile("`([^`]+)`")
	folderName = regexp.MustCompile(`^[a-z][a-z0-9]*(/[a-z][a-z0-9]*)*$`)
	goName     = regexp.MustCompile(`^([a-z]+)\.([A-Z]\w+)$`)
)

// anchors returns the fragments that links to a document may have, as GitHub makes them of headings.
func anchors(text string) map[string]bool {
	out := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(text, -1) {
		out[strings.Map(func(r rune) rune {
			switch {
			case r == ' ' || r == '-':
				return '-'
			case unicode.IsLetter(r) || unicode.IsDigit(r) || r == '_':
				return unicode.ToLower(r)
			}
			return -1
		}, link.ReplaceAllString(m[1], ""))] = true
	}
	for _, m := range namedPlace.FindAllStringSubmatch(text, -1) {
		out[m[1]] = true
	}
	return out
}

func TestLinksBetweenDocumentsResolve(t *testing.T) {
	all := documents(t)
	found := 0
	for path, text := range all {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			target, err := url.Parse(m[1])
			if err != nil {
				t.Errorf("%s: link %q: %v", path, m[1], err)
				continue
			}
			if target.Scheme != "" {
				continue
			}
			found++
			file := path
			if target.Path != "" {
				file = filepath.Join(filepath.Dir(path), target.Path)
			}
			if _, err := os.Stat(file); err != nil {
				t.Errorf("%s: link %q: %v", path, m[1], err)
			} else if text, isDocument := all[file]; isDocument && target.Fragment != "" && !anchors(text)[target.Fragment] {
				t.Errorf("%s: link %q: no such heading", path, m[1])
			}
		}
	}
	if found < 100 {
		t.Errorf("found %d links", found)
	}
}

func TestMakeTargetsInDocumentsExist(t *testing.T) {
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for path, text := range documents(t) {
		for _, m := range makeTarget.FindAllStringSubmatch(text, -1) {
			for _, target := range strings.Fields(m[1]) {
				found++
				if !strings.Contains(string(makefile), "\n"+target+":") {
					t.Errorf("%s: `make %s`: no such target", path, target)
				}
			}
		}
	}
	if found < 10 {
		t.Errorf("found %d targets", found)
	}
}

// exportedNames returns the exported declarations of the tree's packages, as package.Name.
func exportedNames(t *testing.T) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") || strings.Contains(path, "/testdata/") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, name := range declaredNames(file) {
			out[file.Name.Name+"."+name] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func declaredNames(file *ast.File) (out []string) {
	for _, d := range file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			out = append(out, d.Name.Name)
		case *ast.GenDecl:
			for _, s := range d.Specs {
				switch s := s.(type) {
				case *ast.TypeSpec:
					out = append(out, s.Name.Name)
				case *ast.ValueSpec:
					for _, n := range s.Names {
						out = append(out, n.Name)
					}
				}
			}
		}
	}
	return out
}

// TestPagesNameWhatExists reads the pages that say where things are.
func TestPagesNameWhatExists(t *testing.T) {
	names := exportedNames(t)
	for _, page := range []string{"docs/architecture.md", "docs/glossary.md", "docs/design/README.md", "docs/design/compiler.md",
		"docs/design/effect.md", "docs/design/revocation.md", "CONTRIBUTING.md", "test/README.md"} {
		text := documents(t)[filepath.Join(root, page)]
		found := 0
		for _, m := range codeSpan.FindAllStringSubmatch(text, -1) {
			switch span := strings.TrimSuffix(m[1], "/"); {
			case folderName.MatchString(span) && strings.Contains(span, "/"):
				found++
				if !isFolder(span) && !isFolder(filepath.Join("enforcer", span)) {
					t.Errorf("%s: %s: no such folder", page, span)
				}
			case goName.MatchString(span):
				found++
				if !names[span] {
					t.Errorf("%s: %s: no such declaration", page, span)
				}
			}
		}
		if found == 0 {
			t.Errorf("%s names nothing", page)
		}
	}
}

func isFolder(path string) bool {
	info, err := os.Stat(filepath.Join(root, path))
	return err == nil && info.IsDir()
}

// TestTestFoldersAreDescribed holds test/README.md against the folders that there are.
func TestTestFoldersAreDescribed(t *testing.T) {
	text := documents(t)[filepath.Join(root, "test/README.md")]
	folders, err := os.ReadDir(filepath.Join(root, "test"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range folders {
		if f.IsDir() && !strings.Contains(text, "`"+f.Name()+"`") {
			t.Errorf("test/README.md does not describe the folder %s", f.Name())
		}
	}
}
