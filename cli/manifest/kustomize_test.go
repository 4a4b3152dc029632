package manifest_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tierwall/tierwall/cli/manifest"
)

func TestKustomizationsAreRendered(t *testing.T) {
	folder := written(t, map[string]string{
		"base/kustomization.yaml":         "resources: [policy.yaml, config.yaml]\n",
		"base/policy.yaml":                fmt.Sprintf(policy, "a"),
		"base/config.yaml":                "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, annotations: {see: https://example.com}}\ndata: {a: https://example.com}\n",
		"overlays/prod/kustomization.yml": "resources: [../../base]\nnamespace: prod\nnamePrefix: p-\ncommonAnnotations: {see: https://example.com}\npatches:\n- target: {kind: NetworkPolicy}\n  patch: |-\n    - {op: add, path: /spec/ingress, value: [{}]}\n",
	})
	reading := manifest.Reader{Namespace: "default"}.ReadAll(nil, []string{filepath.Join(folder, "overlays/prod")})
	if got := ids(reading.Objects); len(reading.Errors) > 0 || !slices.Equal(got, []string{"NetworkPolicy prod/p-a", "ConfigMap prod/p-c"}) {
		t.Fatalf("%q, %v", got, reading.Errors)
	}
	if o := reading.Objects[0]; o.Line("/spec") != 0 || !strings.HasSuffix(o.File, "kustomization.yml") {
		t.Errorf("%s:%d", o.File, o.Line("/spec"))
	}
}

// Nothing is fetched, nothing outside is read, and nothing is run, however it is asked for.
func TestKustomizationsStayAtHome(t *testing.T) {
	const remote = "https://127.0.0.1:1/x.yaml"
	for name, files := range map[string]map[string]string{
		"a remote resource":           {"k/kustomization.yaml": "resources: [" + remote + "]\n"},
		"a repository":                {"k/kustomization.yaml": "resources: [github.com/example/repo//deploy?ref=v1]\n"},
		"a repository by SSH":         {"k/kustomization.yaml": "resources: ['git@example.com:org/repo']\n"},
		"a folder named like one":     {"k/kustomization.yaml": "resources: [github.com/org/repo]\n", "k/github.com/org/repo/kustomization.yaml": "resources: []\n"},
		"a component":                 {"k/kustomization.yaml": "components: ['ssh://git@example.com/org/repo']\n"},
		"a remote patch":              {"k/kustomization.yaml": "resources: [p.yaml]\npatches: [{path: " + remote + "}]\n", "k/p.yaml": fmt.Sprintf(policy, "a")},
		"a remote file of a map":      {"k/kustomization.yaml": "configMapGenerator: [{name: c, files: [x=" + remote + "]}]\n"},
		"a remote schema":             {"k/kustomization.yaml": "openapi: {path: '" + remote + "'}\n"},
		"in a base":                   {"k/kustomization.yaml": "resources: [../b]\n", "b/kustomization.yaml": "resources: [" + remote + "]\n"},
		"in a transformer":            {"k/kustomization.yaml": "resources: [p.yaml]\ntransformers: [t.yaml]\n", "k/p.yaml": fmt.Sprintf(policy, "a"), "k/t.yaml": "apiVersion: builtin\nkind: PatchTransformer\nmetadata: {name: t}\npath: " + remote + "\n"},
		"in an inline transformer":    {"k/kustomization.yaml": "resources: [p.yaml]\ntransformers:\n- |-\n  apiVersion: builtin\n  kind: PatchTransformer\n  metadata: {name: t}\n  path: " + remote + "\n", "k/p.yaml": fmt.Sprintf(policy, "a")},
		"a file outside":              {"k/kustomization.yaml": "resources: [../p.yaml]\n", "p.yaml": fmt.Sprintf(policy, "a")},
		"a chart":                     {"k/kustomization.yaml": "helmCharts: [{name: c, repo: '" + remote + "', version: 1.0.0}]\n"},
		"a plugin":                    {"k/kustomization.yaml": "generators: [g.yaml]\n", "k/g.yaml": "apiVersion: example.com/v1\nkind: Own\nmetadata: {name: g, annotations: {config.kubernetes.io/function: 'exec: {path: ./run.sh}'}}\n"},
		"a circle":                    {"k/kustomization.yaml": "resources: [../b]\n", "b/kustomization.yaml": "resources: [../k]\n"},
		"no kustomization":            {"k/p.yaml": fmt.Sprintf(policy, "a")},
		"a resource that is no where": {"k/kustomization.yaml": "resources: [nowhere.yaml]\n"},
	} {
		reading := manifest.Reader{}.ReadAll(nil, []string{filepath.Join(written(t, files), "k")})
		if len(reading.Errors) != 1 || len(reading.Objects) > 0 {
			t.Errorf("%s: %q, errors %v", name, ids(reading.Objects), reading.Errors)
		}
		if strings.Contains(fmt.Sprint(reading.Errors), "dial") || strings.Contains(fmt.Sprint(reading.Errors), "git fetch") {
			t.Errorf("%s: was fetched: %v", name, reading.Errors)
		}
	}
}

// A few files can refer to each other so that they are many.
func TestKustomizationsAreBounded(t *testing.T) {
	files := map[string]string{"0/kustomization.yaml": "resources: [p.yaml]\n", "0/p.yaml": fmt.Sprintf(policy, "a")}
	for i := 1; i < 30; i++ {
		files[fmt.Sprintf("%d/kustomization.yaml", i)] = fmt.Sprintf("resources: [../l%d, ../r%d]\n", i, i)
		files[fmt.Sprintf("l%d/kustomization.yaml", i)] = fmt.Sprintf("namePrefix: l\nresources: [../%d]\n", i-1)
		files[fmt.Sprintf("r%d/kustomization.yaml", i)] = fmt.Sprintf("namePrefix: r\nresources: [../%d]\n", i-1)
	}
	reading := manifest.Reader{}.ReadAll(nil, []string{filepath.Join(written(t, files), "29")})
	if len(reading.Errors) != 1 || !strings.Contains(reading.Errors[0].Error(), "reads more than") {
		t.Errorf("%d objects, errors %v", len(reading.Objects), reading.Errors)
	}
}
