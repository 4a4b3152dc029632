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
		return field.ErrorList{field.Invalid(spec.Child("parameters"), string(object.Spec.Parameters.Raw), singleLineError(err).Error())}
	}
	p, err := Prepare(ctx, object, from)
	if err != nil {
		return field.ErrorList{field.Invalid(at, shortenValue(value), err.Error())}
	}
	if err := p.evaluateExample(ctx); err != nil {
		return field.ErrorList{field.Invalid(at, shortenValue(value), "judging an example: "+err.Error())}
	}
	if object.Spec.Tests == "" {
		return nil
	}
	if err := runTests(ctx, object); err != nil {
		return field.ErrorList{field.Invalid(spec.Child("tests"), shortenValue(object.Spec.Tests), singleLineError(err).Error())}
	}
	return nil
}

// evaluateExample asks the guardrail about an example, to find out before it is in force
// that it cannot answer.
func (p *Prepared) evaluateExample(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, trialTime)
	defer cancel()
	document, err := example.toDocument()
	if err != nil {
		return err
	}
	w, end := startLimiter(ctx)
	defer end()
	return p.evaluate(w, document, 1).failure
}

// shortenValue keeps a whole source out of an error message.
func shortenValue(value string) string {
	const most = 60
	if len(value) > most {
		return strings.ToValidUTF8(value[:most], "") + "…"
	}
	return value
}
