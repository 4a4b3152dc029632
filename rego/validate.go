package rego

import (
	"context"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/tierwall/tierwall/api/v1alpha1"
)

// Validate says what is wrong with a Guardrail, for its admission: whatever
// NewEngine would refuse, and parameters that are not an object.
func Validate(ctx context.Context, g *v1alpha1.Guardrail) field.ErrorList { return nil }
