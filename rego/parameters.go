package rego

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/tierwall/tierwall/api/v1alpha1"
)

// Parameter is what a guardrail's METADATA declares of one of its parameters, under
// custom.parameters. A guardrail that declares any is given no others, and none of
// another type: a parameter that is misspelt or misunderstood would open what it
// was meant to close.
type Parameter struct {
	// Type is text, texts, flag, number, numbers, networks (in CIDR notation) or labels.
	Type string `json:"type"`
	// Means says what it is for, Default what holds without it; both are for people.
	Means   string `json:"means"`
	Default any    `json:"default"`
}

// types are the types of parameters, and what their values must be.
var types = map[string]func(value any) bool{
	"text":     isOfType[string],
	"texts":    listOf(isOfType[string]),
	"flag":     isOfType[bool],
	"number":   isOfType[float64],
	"numbers":  listOf(isOfType[float64]),
	"networks": listOf(isNetwork),
	"labels":   isLabels,
}

func isOfType[T any](value any) bool {
	_, ok := value.(T)
	return ok
}

func listOf(element func(any) bool) func(any) bool {
	return func(value any) bool {
		list, ok := value.([]any)
		return ok && !slices.ContainsFunc(list, func(v any) bool { return !element(v) })
	}
}

func isNetwork(value any) bool {
	text, _ := value.(string)
	_, err := netip.ParsePrefix(text)
	return err == nil
}

func isLabels(value any) bool {
	labels, ok := value.(map[string]any)
	for _, v := range labels {
		ok = ok && isOfType[string](v)
	}
	return ok
}

// parametersOf reads a Guardrail's parameters, an object.
func parametersOf(g *v1alpha1.Guardrail) (map[string]any, error) {
	if g.Spec.Parameters == nil || len(g.Spec.Parameters.Raw) == 0 {
		return map[string]any{}, nil
	}
	var parameters map[string]any
	if err := json.Unmarshal(g.Spec.Parameters.Raw, &parameters); err != nil {
		return nil, fmt.Errorf("spec.parameters: %w", err)
	}
	if parameters == nil {
		return nil, errors.New("spec.parameters: want an object")
	}
	return parameters, nil
}

// checkParameters compares parameters with those that were declared; nil declares nothing.
func checkParameters(parameters map[string]any, declared map[string]Parameter) error {
	if declared == nil {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(parameters)) {
		p, ok := declared[name]
		if !ok {
			return fmt.Errorf("spec.parameters.%s: there is no such parameter; there are %s",
				name, strings.Join(slices.Sorted(maps.Keys(declared)), ", "))
		}
		if !types[p.Type](parameters[name]) {
			return fmt.Errorf("spec.parameters.%s: want %s: %s", name, p.Type, p.Means)
		}
	}
	return nil
}

// readDeclarations reads custom.parameters of a guardrail's METADATA.
func readDeclarations(custom any, at *ast.Location) (map[string]Parameter, *ast.Error) {
	text, err := json.Marshal(custom)
	if err != nil {
		return nil, sourceError(at, "METADATA custom.parameters: %v", err)
	}
	var declared map[string]Parameter
	if err := json.Unmarshal(text, &declared); err != nil {
		return nil, sourceError(at, "METADATA custom.parameters: %v", err)
	}
	for _, name := range slices.Sorted(maps.Keys(declared)) {
		if types[declared[name].Type] == nil {
			return nil, sourceError(at, "METADATA custom.parameters.%s: there is no type %q; there are %s",
				name, declared[name].Type, strings.Join(slices.Sorted(maps.Keys(types)), ", "))
		}
	}
	return declared, nil
}
