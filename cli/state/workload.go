package state

import (
	"cmp"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tierwall/tierwall/cli/manifest"
)

// Template is what a workload makes pods of; nil where the object makes none.
func Template(o client.Object) *corev1.PodTemplateSpec {
	switch o := o.(type) {
	case *appsv1.Deployment:
		return &o.Spec.Template
	case *appsv1.ReplicaSet:
		return &o.Spec.Template
	case *appsv1.StatefulSet:
		return &o.Spec.Template
	case *appsv1.DaemonSet:
		return &o.Spec.Template
	case *batchv1.Job:
		return &o.Spec.Template
	case *batchv1.CronJob:
		return &o.Spec.JobTemplate.Spec.Template
	case *corev1.ReplicationController:
		return o.Spec.Template
	case *manifest.TemplateWorkload:
		return &o.Template
	default:
		return nil
	}
}

// TemplateField is where a workload's template is, as a JSON pointer.
func TemplateField(o client.Object) string {
	switch o := o.(type) {
	case *batchv1.CronJob:
		return "/spec/jobTemplate/spec/template"
	case *manifest.TemplateWorkload:
		return o.Field
	default:
		return "/spec/template"
	}
}

// Account is the service account of a pod's spec, which has two names in the API.
func Account(spec *corev1.PodSpec) string {
	return cmp.Or(spec.ServiceAccountName, spec.DeprecatedServiceAccount)
}
