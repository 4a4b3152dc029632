package rego

import (
	"context"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/tierwall/tierwall/api/v1alpha1"
)

// trialTime is how long a guardrail may think about an example.
const trialTime = time.Second

// Validate says what is wrong with a Guardrail, for its admission: what Prepare
// would refuse it for, a failure to judge an example, and tests that fail.
func Validate(ctx context.Context, object *v1alpha1.Guardrail, from *Bundle) field.ErrorList {
	spec := field.NewPath("spec")
	at, value := spec.Child("rego"), object.Spec.Rego
	switch {
	case object.Spec.Library != "":
		at, value = spec.Child("library"), object.Spec.Library
	case object.Spec.Bundle != "":
		at, value = spec.Child("bundle"), object.Spec.Bundle
	}
	if _, err := parametersOf(object); err != nil {
		return field.ErrorList{field.Invalid(spec.Child("parameters"), string(object.Spec.Parameters.Raw), why(err).Error())}
	}
	p, err := Prepare(ctx, object, from)
	if err != nil {
		return field.ErrorList{field.Invalid(at, abridged(value), err.Error())}
	}
	if err := p.try(ctx); err != nil {
		return field.ErrorList{field.Invalid(at, abridged(value), "judging an example: "+err.Error())}
	}
	if object.Spec.Tests == "" {
		return nil
	}
	if err := test(ctx, object); err != nil {
		return field.ErrorList{field.Invalid(spec.Child("tests"), abridged(object.Spec.Tests), why(err).Error())}
	}
	return nil
}

// try asks the guardrail about an example, to find out before it is in force
// that it cannot answer.
func (p *Prepared) try(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, trialTime)
	defer cancel()
	document, err := example.document()
	if err != nil {
		return err
	}
	w, end := watchOver(ctx)
	defer end()
	return p.ask(w, document, 1).failure
}

// abridged keeps a whole source out of an error message.
func abridged(value string) string {
	const most = 60
	if len(value) > most {
		return strings.ToValidUTF8(value[:most], "") + "…"
	}
	return value
}
