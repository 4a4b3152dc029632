package state

import (
	"cmp"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tierwall/tierwall/cluster"
	"github.com/tierwall/tierwall/policy/compile"
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
	default:
		return nil
	}
}

// TemplateField is where a workload's template is, as a JSON pointer.
func TemplateField(kind string) string {
	if kind == "CronJob" {
		return "/spec/jobTemplate/spec/template"
	}
	return "/spec/template"
}

// standIn is the pod that stands for those of a workload.
func standIn(k Key, t *corev1.PodTemplateSpec) *compile.Pod {
	p := &corev1.Pod{ObjectMeta: t.ObjectMeta, Spec: t.Spec}
	p.Namespace, p.Name = k.Namespace, standInName(k)
	p.Spec.ServiceAccountName = account(t)
	return cluster.Pod(p)
}

// standInName is such as deployment/web, which no pod can be called.
func standInName(k Key) string { return strings.ToLower(k.Kind) + "/" + k.Name }

// account is the service account, which has two names in the API.
func account(t *corev1.PodTemplateSpec) string {
	return cmp.Or(t.Spec.ServiceAccountName, t.Spec.DeprecatedServiceAccount)
}
