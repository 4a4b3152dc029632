package rego

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/tierwall/tierwall/api/v1alpha1"
)

// trialTime is how long a guardrail may think about an example.
const trialTime = time.Second

// Validate says what is wrong with a Guardrail, for its admission: what
// NewEngine would refuse it for, and a failure to judge an example.
func Validate(ctx context.Context, object *v1alpha1.Guardrail) field.ErrorList {
	spec := field.NewPath("spec")
	at, value := spec.Child("rego"), object.Spec.Rego
	if object.Spec.Library != "" {
		at, value = spec.Child("library"), object.Spec.Library
	}
	if _, err := parametersOf(object); err != nil {
		return field.ErrorList{field.Invalid(spec.Child("parameters"), string(object.Spec.Parameters.Raw), why(err).Error())}
	}
	g, err := newGuardrail(ctx, object)
	if err != nil {
		return field.ErrorList{field.Invalid(at, abridged(value), why(err).Error())}
	}
	if err := g.try(ctx); err != nil {
		return field.ErrorList{field.Invalid(at, abridged(value), "judging an example: "+err.Error())}
	}
	return nil
}

// try asks the guardrail about an example, to find out before it is in force
// that it cannot answer.
func (g *guardrail) try(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, trialTime)
	defer cancel()
	document, err := example.document()
	if err != nil {
		return err
	}
	return g.ask(ctx, document, 1).failure
}

// abridged keeps a whole source out of an error message.
func abridged(value string) string {
	const most = 60
	if len(value) > most {
		return value[:most] + "…"
	}
	return value
}
