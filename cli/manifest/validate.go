package manifest

import (
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// validate returns what the API server refuses in an object's metadata, in that of its pod
// template, and between its selector and its template. Package compile validates policies.
func validate(o client.Object, generated bool) field.ErrorList {
	metadata := field.NewPath("metadata")
	errs := validateName(o, generated, metadata)
	if ns := o.GetNamespace(); ns != "" {
		for _, message := range apivalidation.ValidateNamespaceName(ns, false) {
			errs = append(errs, field.Invalid(metadata.Child("namespace"), ns, message))
		}
	}
	errs = append(errs, metavalidation.ValidateLabels(o.GetLabels(), metadata.Child("labels"))...)
	errs = append(errs, apivalidation.ValidateAnnotations(o.GetAnnotations(), metadata.Child("annotations"))...)
	t, at := templateOf(o)
	if t == nil {
		return errs
	}
	errs = append(errs, metavalidation.ValidateLabels(t.Labels, at.Child("metadata", "labels"))...)
	return append(errs, validateSelector(o, t, at)...)
}

// validateName validates the name, or how a generated one begins.
func validateName(o client.Object, generated bool, metadata *field.Path) field.ErrorList {
	name, at := o.GetName(), metadata.Child("name")
	if generated {
		name, at = o.GetGenerateName(), metadata.Child("generateName")
	}
	rule := apivalidation.NameIsDNSSubdomain
	if _, ok := o.(*corev1.Namespace); ok {
		rule = apivalidation.ValidateNamespaceName
	}
	var errs field.ErrorList
	for _, message := range rule(name, generated) {
		errs = append(errs, field.Invalid(at, name, message))
	}
	if _, ok := o.(*batchv1.CronJob); ok && len(name) > maxCronJobName {
		errs = append(errs, field.TooLong(at, name, maxCronJobName))
	}
	return errs
}

// maxCronJobName leaves room for what the names of its Jobs end with.
const maxCronJobName = 52

// templateOf returns the pod template of a workload and where it is.
func templateOf(o client.Object) (*corev1.PodTemplateSpec, *field.Path) {
	at := field.NewPath("spec", "template")
	switch o := o.(type) {
	case *appsv1.Deployment:
		return &o.Spec.Template, at
	case *appsv1.ReplicaSet:
		return &o.Spec.Template, at
	case *appsv1.StatefulSet:
		return &o.Spec.Template, at
	case *appsv1.DaemonSet:
		return &o.Spec.Template, at
	case *batchv1.Job:
		return &o.Spec.Template, at
	case *batchv1.CronJob:
		return &o.Spec.JobTemplate.Spec.Template, field.NewPath("spec", "jobTemplate", "spec", "template")
	case *corev1.ReplicationController:
		return o.Spec.Template, at
	case *TemplateWorkload:
		return &o.Template, field.NewPath(o.Field[1:])
	default:
		return nil, nil
	}
}

// validateSelector refuses a selector that does not select the pods of the template: the
// controller would make pods without end. A missing one is let be, as in a patch.
func validateSelector(o client.Object, t *corev1.PodTemplateSpec, at *field.Path) field.ErrorList {
	selector := selectorOf(o)
	if selector == nil || len(selector.MatchLabels)+len(selector.MatchExpressions) == 0 {
		return nil
	}
	spec := field.NewPath("spec", "selector")
	if errs := metavalidation.ValidateLabelSelector(selector, metavalidation.LabelSelectorValidationOptions{}, spec); len(errs) > 0 {
		return errs
	}
	compiled, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return field.ErrorList{field.Invalid(spec, selector, err.Error())}
	}
	if !compiled.Matches(labels.Set(t.Labels)) {
		return field.ErrorList{field.Invalid(at.Child("metadata", "labels"), t.Labels, "selector does not match template labels")}
	}
	return nil
}

// selectorOf returns the selector by which a workload knows its pods, if it is written.
func selectorOf(o client.Object) *metav1.LabelSelector {
	switch o := o.(type) {
	case *appsv1.Deployment:
		return o.Spec.Selector
	case *appsv1.ReplicaSet:
		return o.Spec.Selector
	case *appsv1.StatefulSet:
		return o.Spec.Selector
	case *appsv1.DaemonSet:
		return o.Spec.Selector
	case *batchv1.Job:
		if o.Spec.ManualSelector != nil && *o.Spec.ManualSelector {
			return o.Spec.Selector
		}
	case *corev1.ReplicationController:
		if len(o.Spec.Selector) > 0 {
			return &metav1.LabelSelector{MatchLabels: o.Spec.Selector}
		}
	}
	return nil
}
