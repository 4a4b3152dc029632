package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

// renderCRDs lists the fields of tierwall's own kinds. ClusterNetworkPolicy is documented where it comes from.
func renderCRDs(root string) (string, error) {
	files, err := filepath.Glob(filepath.Join(root, "charts", "tierwall", "crds", "tierwall.io_*.yaml"))
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString("# Custom resources\n\nThe fields of the kinds of `tierwall.io`. `kubectl explain` shows the same.\n")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		var crd apiextensions.CustomResourceDefinition
		if err := yaml.UnmarshalStrict(text, &crd); err != nil {
			return "", fmt.Errorf("read %s: %w", filepath.Base(file), err)
		}
		for _, version := range crd.Spec.Versions {
			schema := version.Schema.OpenAPIV3Schema
			fmt.Fprintf(&b, "\n## %s\n\n`%s/%s`, scope %s. %s\n\n| field | type | |\n|---|---|---|\n", crd.Spec.Names.Kind, crd.Spec.Group, version.Name,
				crd.Spec.Scope, strings.Join(strings.Fields(schema.Description), " "))
			for _, part := range []string{"spec", "status"} {
				if s, ok := schema.Properties[part]; ok {
					listFields(&b, part, &s, slices.Contains(schema.Required, part))
				}
			}
		}
	}
	return b.String(), nil
}

// listFields writes a row for a field and for all below it.
func listFields(b *strings.Builder, path string, s *apiextensions.JSONSchemaProps, required bool) {
	fmt.Fprintf(b, "| `%s` | %s | %s |\n", path, typeOf(s), cell(describeField(s, required)))
	inner := s
	if s.Items != nil && s.Items.Schema != nil {
		inner, path = s.Items.Schema, path+"[]"
	}
	for _, name := range slices.Sorted(maps.Keys(inner.Properties)) {
		field := inner.Properties[name]
		listFields(b, path+"."+name, &field, slices.Contains(inner.Required, name))
	}
}

// typeOf returns the type of a field, of lists and maps with that of their elements.
func typeOf(s *apiextensions.JSONSchemaProps) string {
	switch {
	case s.Items != nil && s.Items.Schema != nil:
		return "list of " + typeOf(s.Items.Schema)
	case s.AdditionalProperties != nil && s.AdditionalProperties.Schema != nil:
		return "map of " + typeOf(s.AdditionalProperties.Schema)
	case s.XPreserveUnknownFields != nil && *s.XPreserveUnknownFields:
		return "any"
	}
	return s.Type
}

// describeField returns what a field's schema says: its description, and the values that it can have.
func describeField(s *apiextensions.JSONSchemaProps, required bool) string {
	out := s.Description
	if required {
		out += " Required."
	}
	if len(s.Enum) > 0 {
		var values []string
		for _, v := range s.Enum {
			values = append(values, "`"+strings.Trim(string(v.Raw), `"`)+"`")
		}
		out += " One of " + strings.Join(values, ", ") + "."
	}
	if s.Default != nil {
		out += " Default `" + strings.Trim(string(s.Default.Raw), `"`) + "`."
	}
	for _, limit := range []struct {
		name string
		n    *int64
	}{{"items", s.MaxItems}, {"characters", s.MaxLength}, {"entries", s.MaxProperties}} {
		if limit.n != nil {
			out += fmt.Sprintf(" At most %d %s.", *limit.n, limit.name)
		}
	}
	return out
}
