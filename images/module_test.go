package images

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A module that nothing has downloaded yet has no folder that "go list -m" knows.
func TestModuleDirWithAnEmptyModuleCache(t *testing.T) {
	useDownloadedModules(t)
	cache := t.TempDir()
	t.Cleanup(func() { makeWritable(t, cache) })
	t.Setenv("GOMODCACHE", cache)
	t.Setenv("GOFLAGS", "-x") // more output on standard error
	for _, module := range []string{"github.com/spf13/pflag", "github.com/go-logr/logr"} {
		dir, err := ModuleDir(t.Context(), "", module)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(dir, cache) {
			t.Errorf("%s is in %s, outside of the empty cache %s", module, dir, cache)
		}
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err != nil {
			t.Error(err)
		}
	}
}

// useDownloadedModules has modules fetched from the module cache that is in use, before any other proxy.
func useDownloadedModules(t *testing.T) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "env", "GOMODCACHE", "GOPROXY").Output()
	if err != nil {
		t.Fatal(err)
	}
	cache, proxies, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	t.Setenv("GOPROXY", "file://"+cache+"/cache/download,"+proxies)
}

func TestModuleDirOfAModuleThatIsNotRequired(t *testing.T) {
	for _, module := range []string{"example.invalid/none", "github.com/tierwall/none"} {
		if dir, err := ModuleDir(t.Context(), "", module); err == nil || !strings.Contains(err.Error(), module) {
			t.Errorf("%s: folder %q, error %v", module, dir, err)
		}
	}
}

// makeWritable lets the test's temporary folder be removed: a module cache is read-only.
func makeWritable(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			return os.Chmod(path, 0o755)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
