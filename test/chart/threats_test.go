package chart

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	testName     = regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z0-9_]+)`")
	testFunction = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)[A-Za-z0-9_]+)\(`)
)

// testFunctions returns the names of all tests in the tree.
func testFunctions(t *testing.T) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	if err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range testFunction.FindAllSubmatch(text, -1) {
			out[string(m[1])] = true
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

// threatRows returns the rows of the tables of threats, as cells.
func threatRows(t *testing.T) (rows [][]string) {
	t.Helper()
	inTable := false
	for _, line := range strings.Split(file(t, "../../docs/design/threats.md"), "\n") {
		cells := strings.Split(strings.Trim(line, "| "), " | ")
		switch {
		case !strings.HasPrefix(line, "|"):
			inTable = false
		case strings.HasPrefix(line, "| threat |"):
			inTable = true
		case inTable && !strings.HasPrefix(line, "|---"):
			rows = append(rows, cells)
		}
	}
	return rows
}

// Every threat names the tests that would fail, and they exist.
func TestEveryThreatNamesTestsThatExist(t *testing.T) {
	there, rows := testFunctions(t), threatRows(t)
	if len(there) < 500 || len(rows) < 30 {
		t.Fatalf("%d tests and %d threats were found", len(there), len(rows))
	}
	for _, cells := range rows {
		if len(cells) < 3 {
			t.Errorf("%q has no tests", cells[0])
			continue
		}
		names := testName.FindAllStringSubmatch(cells[2], -1)
		if len(names) == 0 {
			t.Errorf("%q names no test", cells[0])
		}
		for _, m := range names {
			if !there[m[1]] {
				t.Errorf("%q names %s, which does not exist", cells[0], m[1])
			}
		}
	}
}
