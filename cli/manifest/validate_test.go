package manifest_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/tierwall/tierwall/cli/manifest"
)

// What the API server refuses of names, labels and selectors is refused.
func TestWhatTheAPIServerRefuses(t *testing.T) {
	const workload = "apiVersion: apps/v1\nkind: KIND\nmetadata: {name: a, namespace: shop}\nspec:\n  selector: {matchLabels: {app: SELECTED}}\n  template: {metadata: {labels: {app: web}}, spec: {containers: []}}\n"
	of := func(kind, selected string) string {
		return strings.NewReplacer("KIND", kind, "SELECTED", selected).Replace(workload)
	}
	for text, want := range map[string]string{
		of("Deployment", "api"):  "/spec/template/metadata/labels: Invalid value",
		of("StatefulSet", "db"):  "selector does not match template labels",
		of("DaemonSet", "agent"): "selector does not match template labels",
		of("ReplicaSet", "x y"):  "/spec/selector",
		"apiVersion: v1\nkind: ReplicationController\nmetadata: {name: a}\nspec: {selector: {app: one}, template: {metadata: {labels: {app: two}}, spec: {containers: []}}}\n": "selector does not match",
		"apiVersion: v1\nkind: Namespace\nmetadata: {name: Prod}\n":                                                                                                   "/metadata/name",
		"apiVersion: v1\nkind: Namespace\nmetadata: {name: a.b}\n":                                                                                                    "/metadata/name",
		"apiVersion: v1\nkind: Pod\nmetadata: {name: under_score}\nspec: {containers: []}\n":                                                                          "/metadata/name",
		"apiVersion: v1\nkind: Pod\nmetadata: {generateName: Run-}\nspec: {containers: []}\n":                                                                         "/metadata/generateName",
		"apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: B}\nspec: {containers: []}\n":                                                                      "/metadata/namespace",
		"apiVersion: v1\nkind: Pod\nmetadata: {name: a, labels: {app: \"a b\"}}\nspec: {containers: []}\n":                                                            "/metadata/labels",
		"apiVersion: v1\nkind: Namespace\nmetadata: {name: a, labels: {-x: b}}\n":                                                                                     "/metadata/labels",
		"apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: " + strings.Repeat("a", 53) + "}\nspec: {jobTemplate: {spec: {template: {spec: {containers: []}}}}}\n": "/metadata/name",
		"apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: a/b}\nspec: {podSelector: {}}\n":                                                     "/metadata/name",
	} {
		objects, errs := manifest.Reader{Namespace: "shop"}.Read(filepath.Join(written(t, map[string]string{"x.yaml": text}), "x.yaml"))
		if len(objects) > 0 || len(errs) == 0 || !strings.Contains(errs[0].Error(), want) || errs[0].Line == 0 {
			t.Errorf("%s\nerrors %v, want %q", text, errs, want)
		}
	}
	for _, text := range []string{
		of("Deployment", "web"), strings.Replace(of("Deployment", "web"), "  selector: {matchLabels: {app: web}}\n", "", 1),
		strings.Replace(of("DaemonSet", "web"), "{matchLabels: {app: web}}", "{matchExpressions: [{key: app, operator: In, values: [web, api]}]}", 1),
		"apiVersion: v1\nkind: Pod\nmetadata: {name: a.b-c, labels: {a.b/c: \"\"}}\nspec: {containers: []}\n",
	} {
		if _, errs := (manifest.Reader{Namespace: "shop"}).Read(filepath.Join(written(t, map[string]string{"x.yaml": text}), "x.yaml")); len(errs) > 0 {
			t.Errorf("%s\n%v", text, errs)
		}
	}
}
