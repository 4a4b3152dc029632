package manifest_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tierwall/tierwall/cli/manifest"
)

func TestPodTemplatesOfOtherKinds(t *testing.T) {
	const object = "apiVersion: %s\nkind: %s\nmetadata: {name: a, namespace: shop}\nspec:\n  unknown: {field: 1}\n  template: {metadata: {labels: {app: web}}, spec: {serviceAccountName: web, containers: [{name: c, ports: [{name: http, containerPort: 80}]}]}}\n"
	own, err := manifest.ParseTemplateKind("Game.example.com=spec.template")
	if err != nil {
		t.Fatal(err)
	}
	any, err := manifest.ParseTemplateKind("Batch=/spec/template")
	if err != nil {
		t.Fatal(err)
	}
	for kind, want := range map[string]string{
		"argoproj.io/v1alpha1 Rollout": "Rollout shop/a", "apps.openshift.io/v1 DeploymentConfig": "DeploymentConfig shop/a",
		"serving.knative.dev/v1 Service": "Service.serving.knative.dev shop/a", "apps.kruise.io/v1beta1 StatefulSet": "StatefulSet.apps.kruise.io shop/a",
		"example.com/v3 Game": "Game shop/a", "other.example/v1 Batch": "Batch shop/a",
	} {
		version, name, _ := strings.Cut(kind, " ")
		file := filepath.Join(written(t, map[string]string{"x.yaml": fmt.Sprintf(object, version, name)}), "x.yaml")
		objects, errs := manifest.Reader{Templates: []manifest.TemplateKind{own, any}}.Read(file)
		if len(errs) > 0 || len(objects) != 1 || objects[0].ID() != want {
			t.Errorf("%s: %q, %v", kind, ids(objects), errs)
			continue
		}
		w, ok := objects[0].Value.(*manifest.TemplateWorkload)
		if !ok || w.Template.Labels["app"] != "web" || w.Template.Spec.ServiceAccountName != "web" || len(w.Template.Spec.Containers[0].Ports) != 1 {
			t.Errorf("%s: %+v", kind, objects[0].Value)
		}
	}
	for _, text := range []string{"Rollout", "rollout=spec", "Rollout=", "Deployment=spec.template", "Deployment.apps=spec.template", "X=spec..template", "X=a b"} {
		if got, err := manifest.ParseTemplateKind(text); err == nil {
			t.Errorf("--template %q is %+v", text, got)
		}
	}
}

// One without a template is no workload, which is said.
func TestTemplatesThatAreNotThere(t *testing.T) {
	for _, spec := range []string{"{workloadRef: {kind: Deployment, name: a}}", "{template: null}", "3"} {
		text := "apiVersion: argoproj.io/v1alpha1\nkind: Rollout\nmetadata: {name: a, namespace: shop}\nspec: " + spec + "\n"
		reading := manifest.Reader{}.ReadAll([]string{filepath.Join(written(t, map[string]string{"x.yaml": text}), "x.yaml")}, nil)
		if len(reading.Objects)+len(reading.Errors) != 1 || len(reading.Warnings)+len(reading.Errors) != 1 {
			t.Errorf("%s: %q, errors %v, warnings %v", spec, ids(reading.Objects), reading.Errors, reading.Warnings)
		}
	}
}
