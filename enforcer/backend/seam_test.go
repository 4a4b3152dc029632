package backend

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// driverFiles are the places that know one kind of backend: packages and files of drivers and of their guards, and the list.
var driverFiles = []string{
	"enforcer/nftables/", "enforcer/iptables/", "enforcer/backend/nftables.go", "enforcer/backend/iptables.go", "enforcer/backend/drivers.go",
	"enforcer/spoof/nftables.go", "enforcer/spoof/iptables.go",
}

// foreignTools are files that name iptables as a tool of others, whose rules they read.
var foreignTools = []string{"enforcer/pathcheck/kernel.go"}

// A further driver is added to the list alone, as nothing else in the agent knows a backend by its name, type or package.
func TestNothingButDriversNamesABackend(t *testing.T) {
	root := filepath.Join("..", "..")
	for _, dir := range []string{"cmd", "enforcer"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			name, err := filepath.Rel(root, path)
			if err != nil || slices.ContainsFunc(driverFiles, func(f string) bool { return strings.HasPrefix(name, f) }) {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			for _, mention := range backendMentions(file) {
				if mention == IPTables && slices.Contains(foreignTools, name) {
					continue
				}
				t.Errorf("%s names the backend %s", name, mention)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// backendMentions returns the backends that a file imports, selects from a package or names in a string.
func backendMentions(file *ast.File) (out []string) {
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BasicLit:
			text, err := strconv.Unquote(n.Value)
			if n.Kind == token.STRING && err == nil && slices.Contains(Drivers.Names()[1:], strings.TrimPrefix(text, "github.com/tierwall/tierwall/enforcer/")) {
				out = append(out, filepath.Base(text))
			}
		case *ast.Ident:
			if n.Name == "NFTables" || n.Name == "IPTables" {
				out = append(out, n.Name)
			}
		}
		return true
	})
	return out
}

func TestAMentionOfABackendIsFound(t *testing.T) {
	const source = `package x
import "github.com/tierwall/tierwall/enforcer/nftables"
var a = "iptables-legacy"
var b = spoof.NFTables{}
var c = "nftables are fine in prose"`
	file, err := parser.ParseFile(token.NewFileSet(), "x.go", source, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	if got := backendMentions(file); !slices.Equal(got, []string{"nftables", "iptables-legacy", "NFTables"}) {
		t.Errorf("found %v", got)
	}
}
