package manifest_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tierwall/tierwall/cli/manifest"
)

// mixed is a folder as people have them: policies beside what other programs read.
var mixed = map[string]string{
	"policy.yaml": fmt.Sprintf(policy, "a"), "kustomization.yaml": "resources: [policy.yaml]\n", "values.yaml": "replicas: 3\n",
	"Chart.yaml": "apiVersion: v2\nname: shop\nversion: 1.0.0\n", "empty.yaml": "", "comments.yaml": "# Source: off\n---\n# none\n",
	"dashboard.json": `{"panels": []}`, "patch.yaml": "- {op: add, path: /spec, value: 1}\n", "broken.json": "{\"a\": ", "number.yaml": "3\n",
}

func TestFilesWithoutObjectsAreSkippedInFoldersAndNamed(t *testing.T) {
	folder := written(t, mixed)
	reading := manifest.Reader{Namespace: "shop"}.ReadAll([]string{folder}, nil)
	if got := ids(reading.Objects); len(reading.Errors) > 0 || !slices.Equal(got, []string{"NetworkPolicy shop/a"}) {
		t.Fatalf("%q, errors %v", got, reading.Errors)
	}
	var skipped []string
	for _, s := range reading.Skipped {
		skipped = append(skipped, filepath.Base(s.File))
	}
	slices.Sort(skipped)
	if want := []string{"Chart.yaml", "broken.json", "comments.yaml", "dashboard.json", "empty.yaml", "kustomization.yaml", "number.yaml", "patch.yaml", "values.yaml"}; !slices.Equal(skipped, want) {
		t.Errorf("skipped %q, want %q", skipped, want)
	}
}

// By name they are errors, but for those that hold nothing beside others that do.
func TestFilesWithoutObjectsAreErrorsByName(t *testing.T) {
	folder := written(t, mixed)
	good := filepath.Join(folder, "policy.yaml")
	for name := range mixed {
		file := filepath.Join(folder, name)
		reading := manifest.Reader{}.ReadAll([]string{good, file}, nil)
		holdsNothing := name == "empty.yaml" || name == "comments.yaml"
		if sound := len(reading.Errors) == 0; name != "policy.yaml" && sound != holdsNothing {
			t.Errorf("%s beside a good one: errors %v", name, reading.Errors)
		}
		if alone := (manifest.Reader{}).ReadAll([]string{file}, nil); name != "policy.yaml" && len(alone.Errors) == 0 {
			t.Errorf("%s alone is read", name)
		}
	}
}

// What is nearly an object, or could be one were it mended, is an error in a folder too.
func TestMistakesAreErrorsInFolders(t *testing.T) {
	for name, text := range map[string]string{
		"no API version":        "kind: NetworkPolicy\nmetadata: {name: x}\n",
		"no kind":               "apiVersion: networking.k8s.io/v1\nmetadata: {name: x}\n",
		"another case":          "Kind: NetworkPolicy\nApiVersion: networking.k8s.io/v1\n",
		"broken YAML":           "kind: NetworkPolicy\nspec: {\n",
		"broken JSON":           `{"apiVersion": "v1", "kind": "Namespace", `,
		"beside a good one":     fmt.Sprintf(policy, "b") + "---\nreplicas: 3\n",
		"a template of a chart": "kind: NetworkPolicy\n{{ if .x }}\n",
	} {
		reading := manifest.Reader{}.ReadAll([]string{written(t, map[string]string{"x.yaml": text, "y.yaml": fmt.Sprintf(policy, "a")})}, nil)
		if len(reading.Errors) != 1 {
			t.Errorf("%s: errors %v, skipped %v", name, reading.Errors, reading.Skipped)
		}
	}
}

func TestExcludedFiles(t *testing.T) {
	files := map[string]string{".tierwallignore": "# comment\n\n/root.yaml\n*.tmp.yaml\ncharts/\n!keep.tmp.yaml\n", "sub/.tierwallignore": "only-here.yaml\n"}
	for _, name := range []string{"root.yaml", "sub/root.yaml", "a.tmp.yaml", "sub/keep.tmp.yaml", "charts/x.yaml", "sub/charts/y.yaml", "only-here.yaml", "sub/only-here.yaml", "sub/deep/z.yaml", "w.yaml"} {
		files[name] = fmt.Sprintf(policy, strings.NewReplacer("/", "-", ".yaml", "").Replace(name))
	}
	reading := manifest.Reader{Namespace: "n", Exclude: []string{"w.yaml", "sub/deep/**"}}.ReadAll([]string{written(t, files)}, nil)
	want := []string{"NetworkPolicy n/only-here", "NetworkPolicy n/sub-keep.tmp", "NetworkPolicy n/sub-root"}
	if got := ids(reading.Objects); len(reading.Errors) > 0 || !slices.Equal(got, want) {
		t.Errorf("%q, want %q; errors %v", got, want, reading.Errors)
	}
	if reading.Excluded != 7 {
		t.Errorf("%d files excluded", reading.Excluded)
	}
	for _, bad := range []string{"[", "a/[b-"} {
		if r := (manifest.Reader{Exclude: []string{bad}}).ReadAll([]string{written(t, files)}, nil); len(r.Errors) == 0 {
			t.Errorf("--exclude %q is no pattern", bad)
		}
	}
}
