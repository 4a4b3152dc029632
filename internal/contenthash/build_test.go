package contenthash

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Only tests are built with short hashes: no program, image or chart knows the tag.
func TestOnlyTestsAreBuiltWithShortHashes(t *testing.T) {
	const tag = "shorthash"
	root, seen := os.DirFS("../.."), 0
	err := fs.WalkDir(root, ".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (path == ".git" || path == "out" || path == "bin" || filepath.Base(path) == "testdata"):
			return fs.SkipDir
		case d.IsDir() || !d.Type().IsRegular() || strings.HasPrefix(path, "internal/contenthash/"),
			strings.HasSuffix(path, "_test.go"), strings.HasSuffix(path, ".md"):
			return nil
		}
		info, err := d.Info()
		if err != nil || info.Size() > 1<<20 {
			return err
		}
		content, err := fs.ReadFile(root, path)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(content)) {
			if !strings.Contains(line, tag) {
				continue
			}
			seen++
			tests := path == "Makefile" && (strings.HasPrefix(line, "\t$(TEST) ") || strings.HasPrefix(line, "test") || strings.HasPrefix(line, ".PHONY"))
			if !tests {
				t.Errorf("%s: %s", path, strings.TrimSpace(line))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen == 0 {
		t.Error("no test is built with short hashes")
	}
}
