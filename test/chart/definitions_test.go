package chart

import (
	"os"
	"path/filepath"
	"testing"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	runtimeschema "k8s.io/apimachinery/pkg/runtime/schema"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"

	"github.com/tierwall/tierwall/enforcer/uninstall"
	"github.com/tierwall/tierwall/images"
)

// A definition judges objects of one kind as the API server would.
type definition struct {
	structural *schema.Structural
	validator  validation.SchemaValidator
}

// readDefinitions reads CustomResourceDefinitions from files, by the kind and
// version that each of their versions defines.
func readDefinitions(t *testing.T, files ...string) map[runtimeschema.GroupVersionKind]definition {
	t.Helper()
	all := map[runtimeschema.GroupVersionKind]definition{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var crd apiextensionsv1.CustomResourceDefinition
		if err := yaml.UnmarshalStrict(text, &crd); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, version := range crd.Spec.Versions {
			kind := runtimeschema.GroupVersionKind{Group: crd.Spec.Group, Version: version.Name, Kind: crd.Spec.Names.Kind}
			all[kind] = newDefinition(t, version.Schema.OpenAPIV3Schema)
		}
	}
	return all
}

func newDefinition(t *testing.T, external *apiextensionsv1.JSONSchemaProps) definition {
	t.Helper()
	var internal apiextensions.JSONSchemaProps
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(external, &internal, nil); err != nil {
		t.Fatal(err)
	}
	structural, err := schema.NewStructural(&internal)
	if err != nil {
		t.Fatal(err)
	}
	validator, _, err := validation.NewSchemaValidator(&internal)
	if err != nil {
		t.Fatal(err)
	}
	return definition{structural: structural, validator: validator}
}

// judge fails the test where the API server would refuse an object, or warn of
// a field that it does not know.
func (d definition) judge(t *testing.T, name string, content map[string]any) {
	t.Helper()
	options := schema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true}
	for _, path := range pruning.PruneWithOptions(content, d.structural, true, options) {
		t.Errorf("%s: unknown field %s", name, path)
	}
	defaulting.Default(content, d.structural)
	for _, err := range validation.ValidateCustomResource(nil, content, d.validator) {
		t.Errorf("%s: %v", name, err)
	}
	if rules := cel.NewValidator(d.structural, true, celconfig.PerCallLimit); rules != nil {
		errs, _ := rules.Validate(t.Context(), nil, d.structural, content, nil, celconfig.RuntimeCELCostBudget)
		for _, err := range errs {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// certManagerDefinitions are the files of cert-manager's own
// CustomResourceDefinitions, from its Go module.
func certManagerDefinitions(t *testing.T) []string {
	t.Helper()
	module, err := images.ModuleDir(t.Context(), "", "github.com/cert-manager/cert-manager")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(module, "deploy/crds")
	return []string{filepath.Join(dir, "cert-manager.io_certificates.yaml"), filepath.Join(dir, "cert-manager.io_issuers.yaml")}
}

// TestCustomResourcesAreValid holds every custom resource that the chart
// renders against its definition: the chart's own, the standard's, cert-manager's.
func TestCustomResourcesAreValid(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(chartDir, "crds/*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	definitions := readDefinitions(t, append(files, certManagerDefinitions(t)...)...)
	judged := map[string]bool{}
	forEveryVariant(t, func(t *testing.T, all []object) {
		for _, o := range all {
			var content map[string]any
			if err := yaml.Unmarshal(o.yaml, &content); err != nil {
				t.Fatal(err)
			}
			version, _ := content["apiVersion"].(string)
			d, ok := definitions[runtimeschema.FromAPIVersionAndKind(version, o.kind)]
			if !ok {
				continue
			}
			d.judge(t, o.String(), content)
			judged[o.kind] = true
		}
	})
	for _, kind := range []string{"Guardrail", "ClusterNetworkPolicy", "Certificate", "Issuer"} {
		if !judged[kind] {
			t.Errorf("no %s was held against its definition", kind)
		}
	}
}

// TestOnlyTheSharedDefinitionIsMarked: what an uninstallation may delete.
func TestOnlyTheSharedDefinitionIsMarked(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(chartDir, "crds/*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		var crd apiextensionsv1.CustomResourceDefinition
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := yaml.UnmarshalStrict(text, &crd); err != nil {
			t.Fatal(err)
		}
		foreign := crd.Spec.Group != "tierwall.io"
		marked := crd.Annotations[uninstall.InstalledByAnnotation] == uninstall.InstalledByChart
		if foreign != marked {
			t.Errorf("%s: marked as the chart's: %t, want %t", crd.Name, marked, foreign)
		}
	}
}
