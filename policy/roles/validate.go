package roles

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/tierwall/tierwall/api/v1alpha1"
)

// Validate says what of a TierRole cannot be understood, field by field.
func Validate(tr *v1alpha1.TierRole) field.ErrorList {
	spec := field.NewPath("spec")
	var errs field.ErrorList
	for _, msg := range validation.IsDNS1123Label(tr.Spec.Role) {
		errs = append(errs, field.Invalid(spec.Child("role"), tr.Spec.Role, msg))
	}
	if len(tr.Spec.Namespaces) == 0 {
		errs = append(errs, field.Required(spec.Child("namespaces"), "name at least one namespace"))
	}
	for i, ns := range tr.Spec.Namespaces {
		for _, msg := range validation.IsDNS1123Label(ns) {
			errs = append(errs, field.Invalid(spec.Child("namespaces").Index(i), ns, msg))
		}
	}
	if s := tr.Spec.PodSelector; s != nil {
		path := spec.Child("podSelector")
		errs = append(errs, metav1validation.ValidateLabelSelector(s, metav1validation.LabelSelectorValidationOptions{}, path)...)
		if mentions(s, v1alpha1.RoleLabel) {
			errs = append(errs, field.Forbidden(path, "a role cannot follow from the label that shows it, "+v1alpha1.RoleLabel))
		}
	}
	return errs
}

func mentions(s *metav1.LabelSelector, key string) bool {
	if _, ok := s.MatchLabels[key]; ok {
		return true
	}
	for _, r := range s.MatchExpressions {
		if r.Key == key {
			return true
		}
	}
	return false
}
