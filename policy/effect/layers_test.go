package effect_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// layerLine is a line of the package comment that lists the files of a layer.
var layerLine = regexp.MustCompile(`(?m)^//\t[a-z]+ +([a-z, ]+):? ?.*$`)

// TestFilesReferToTheirOwnLayerOrThoseAbove holds the files to the layers that the package comment lists, and to an
// order without circles.
func TestFilesReferToTheirOwnLayerOrThoseAbove(t *testing.T) {
	layers := layersOfFiles(t)
	references := referencesBetweenFiles(t)
	for from, targets := range references {
		layer, known := layers[from]
		if !known {
			t.Errorf("%s.go is in no layer of the package comment", from)
			continue
		}
		for to, name := range targets {
			if layers[to] > layer {
				t.Errorf("%s.go refers to %s of %s.go, which is in a layer below", from, name, to)
			}
		}
	}
	done := map[string]bool{}
	for file := range references {
		if path := findCircle(references, file, nil, done); path != nil {
			t.Fatalf("files refer to each other in a circle: %s", strings.Join(path, " -> "))
		}
	}
}

func layersOfFiles(t *testing.T) map[string]int {
	t.Helper()
	text, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]int{}
	for i, line := range layerLine.FindAllStringSubmatch(string(text), -1) {
		for file := range strings.SplitSeq(line[1], ", ") {
			out[strings.TrimSpace(file)] = i
		}
	}
	return out
}

// referencesBetweenFiles maps files to those that they refer to, each with a name that is referred to.
func referencesBetweenFiles(t *testing.T) map[string]map[string]string {
	t.Helper()
	fset := token.NewFileSet()
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var files []*ast.File
	out := map[string]map[string]string{}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") || name == "doc.go" {
			continue
		}
		f, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
		out[strings.TrimSuffix(name, ".go")] = map[string]string{}
	}
	info := &types.Info{Uses: map[*ast.Ident]types.Object{}}
	// The types of other packages are not needed, and errors for want of them are ignored.
	config := types.Config{Importer: noImports{}, Error: func(error) {}}
	checked, _ := config.Check("effect", fset, files, info)
	for id, object := range info.Uses {
		if object.Pkg() != checked || object.Parent() == types.Universe || !object.Pos().IsValid() {
			continue
		}
		from, to := fileOf(fset, id.Pos()), fileOf(fset, object.Pos())
		if from != to {
			out[from][to] = object.Name()
		}
	}
	return out
}

func fileOf(fset *token.FileSet, pos token.Pos) string {
	return strings.TrimSuffix(filepath.Base(fset.Position(pos).Filename), ".go")
}

// noImports fails every import, so that the type checker goes on without it.
type noImports struct{ types.Importer }

func (noImports) Import(path string) (*types.Package, error) {
	return nil, &os.PathError{Op: "import", Path: path, Err: os.ErrNotExist}
}

// findCircle returns a path of references from a file back to one on the path. Files that are done are in no circle.
func findCircle(references map[string]map[string]string, file string, path []string, done map[string]bool) []string {
	if done[file] {
		return nil
	}
	at := slices.Index(path, file)
	if path = append(path, file); at >= 0 {
		return path[at:]
	}
	for to := range references[file] {
		if found := findCircle(references, to, path, done); found != nil {
			return found
		}
	}
	done[file] = true
	return nil
}
