package check

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/charts"
	"github.com/tierwall/tierwall/cli/manifest"
	"github.com/tierwall/tierwall/rego"
)

// chartValues are the parts of the chart's values that make Guardrails.
type chartValues struct {
	Guardrails map[string]struct {
		Enabled     *bool                `json:"enabled"`
		Enforcement v1alpha1.Enforcement `json:"enforcement"`
		Namespaces  []string             `json:"namespaces"`
		Parameters  map[string]any       `json:"parameters"`
	} `json:"guardrails"`
	DNS struct {
		Namespace string            `json:"namespace"`
		PodLabels map[string]string `json:"podLabels"`
		Ports     []int             `json:"ports"`
	} `json:"dns"`
}

// ChartGuardrails are the Guardrails that the chart installs with its default values.
func ChartGuardrails() ([]*v1alpha1.Guardrail, error) {
	var values chartValues
	if err := yaml.Unmarshal(charts.Values, &values); err != nil {
		return nil, fmt.Errorf("read the chart's values: %w", err)
	}
	var out []*v1alpha1.Guardrail
	for _, name := range slices.Sorted(maps.Keys(values.Guardrails)) {
		v := values.Guardrails[name]
		if v.Enabled != nil && !*v.Enabled {
			continue
		}
		g := &v1alpha1.Guardrail{ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec: v1alpha1.GuardrailSpec{Library: name, Enforcement: cmp.Or(v.Enforcement, v1alpha1.EnforceDeny), Namespaces: v.Namespaces}}
		defaults := values.parameters(name)
		maps.Copy(defaults, v.Parameters)
		v.Parameters = defaults
		if len(v.Parameters) > 0 {
			raw, err := json.Marshal(v.Parameters)
			if err != nil {
				return nil, fmt.Errorf("read the chart's values: parameters of %s: %w", name, err)
			}
			g.Spec.Parameters = &apiextensionsv1.JSON{Raw: raw}
		}
		out = append(out, g)
	}
	return out, nil
}

// parameters are those that templates/policy/guardrails.yaml gives a guardrail of the
// library, with the release's own namespace as the manual names it.
func (v chartValues) parameters(name string) map[string]any {
	switch name {
	case "dns-stays":
		return map[string]any{"namespace": v.DNS.Namespace, "labels": v.DNS.PodLabels, "ports": v.DNS.Ports}
	case "system-stays":
		return map[string]any{"namespaces": []string{"kube-system", "tierwall-system"}}
	default:
		return map[string]any{}
	}
}

// ReadGuardrails reads Guardrails from files and folders: objects, and Rego, which
// becomes a Guardrail that denies, named after its package.
func ReadGuardrails(stdin io.Reader, paths ...string) ([]*v1alpha1.Guardrail, []manifest.Error) {
	var out []*v1alpha1.Guardrail
	var errs []manifest.Error
	for _, path := range paths {
		sources, err := regoFiles(path)
		if err != nil {
			errs = append(errs, manifest.Error{File: path, Message: err.Error()})
			continue
		}
		for _, file := range sources {
			g, err := regoGuardrail(file)
			if err != nil {
				errs = append(errs, manifest.Error{File: file, Message: err.Error()})
			} else if g != nil {
				out = append(out, g)
			}
		}
		if strings.HasSuffix(path, ".rego") {
			continue
		}
		objects, wrong := manifest.Reader{Stdin: stdin}.Read(path)
		if len(sources) > 0 { // a folder of Rego need not have objects too
			wrong = slices.DeleteFunc(wrong, func(e manifest.Error) bool { return e.File == path })
		}
		errs = append(errs, wrong...)
		for _, o := range objects {
			if g, ok := o.Value.(*v1alpha1.Guardrail); ok {
				out = append(out, g)
			}
		}
	}
	if len(out) == 0 && len(errs) == 0 {
		errs = append(errs, manifest.Error{File: strings.Join(paths, ", "), Message: "there is no guardrail in it"})
	}
	return out, errs
}

// regoFiles are the files of Rego at a path, but for tests.
func regoFiles(path string) ([]string, error) {
	if path == "-" {
		return nil, nil
	}
	var out []string
	err := filepath.WalkDir(path, func(file string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && strings.HasSuffix(file, ".rego") && !strings.HasSuffix(file, "_test.rego") {
			out = append(out, file)
		}
		return err
	})
	return out, err
}

// regoGuardrail is the Guardrail of a file, nil of one that is shared by guardrails.
func regoGuardrail(file string) (*v1alpha1.Guardrail, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	module, err := ast.ParseModuleWithOpts(file, string(text), ast.ParserOptions{RegoVersion: ast.RegoV1})
	if err != nil {
		return nil, err
	}
	pkg := strings.TrimPrefix(module.Package.Path.String(), "data.")
	if pkg == "tierwall.lib" {
		return nil, nil
	}
	name, ok := strings.CutPrefix(pkg, "tierwall.guardrails.")
	if !ok {
		return nil, fmt.Errorf("is package %s; that of a guardrail is tierwall.guardrails and its name", pkg)
	}
	g := &v1alpha1.Guardrail{ObjectMeta: metav1.ObjectMeta{Name: strings.ReplaceAll(name, "_", "-")},
		Spec: v1alpha1.GuardrailSpec{Rego: string(text), Enforcement: v1alpha1.EnforceDeny}}
	for _, entry := range rego.Library() {
		if entry.Name == g.Name && entry.Source == g.Spec.Rego {
			g.Spec.Library, g.Spec.Rego = entry.Name, ""
		}
	}
	return g, nil
}
