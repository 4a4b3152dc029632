package state

import (
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tierwall/tierwall/cli/manifest"
)

// maxOrdinals is how many replicas of a StatefulSet are told apart.
const maxOrdinals = 64

// several is how many stand-ins a workload has whose number of pods is not fixed: one and another.
const several = 2

// replicas is how many pods a workload has, as far as it says; 0 is none, and several stands
// for a number that an autoscaler, the nodes or a schedule decide.
func (s State) replicas(k Key) int {
	written := func(n *int32) int {
		if n == nil || s.isScaled(k) {
			return several
		}
		return int(*n)
	}
	switch o := s.objects[k].(type) {
	case *appsv1.Deployment:
		return written(o.Spec.Replicas)
	case *appsv1.ReplicaSet:
		return written(o.Spec.Replicas)
	case *appsv1.StatefulSet:
		return written(o.Spec.Replicas)
	case *corev1.ReplicationController:
		return written(o.Spec.Replicas)
	case *manifest.TemplateWorkload:
		return written(o.Replicas)
	case *batchv1.Job:
		return parallelism(&o.Spec)
	case *batchv1.CronJob:
		if o.Spec.ConcurrencyPolicy == batchv1.ForbidConcurrent || o.Spec.ConcurrencyPolicy == batchv1.ReplaceConcurrent {
			return parallelism(&o.Spec.JobTemplate.Spec)
		}
	}
	return several
}

func parallelism(spec *batchv1.JobSpec) int {
	if spec.Parallelism == nil {
		return 1
	}
	return int(*spec.Parallelism)
}

// isScaled reports whether an autoscaler among the objects decides how many pods the workload has.
func (s State) isScaled(k Key) bool {
	for _, o := range s.objects {
		h, ok := o.(*autoscalingv2.HorizontalPodAutoscaler)
		if ok && h.Namespace == k.Namespace && h.Spec.ScaleTargetRef.Kind == k.Kind && h.Spec.ScaleTargetRef.Name == k.Name {
			return true
		}
	}
	return false
}

// hasEnded reports whether the workload makes no pods any more, or has been scaled to none: a
// ReplicaSet of an earlier revision, a Job that is done. A manifest with zero replicas is one to be scaled.
func (s State) hasEnded(k Key) bool {
	o := s.objects[k]
	switch o := o.(type) {
	case *appsv1.ReplicaSet:
		return s.replicas(k) == 0
	case *batchv1.Job:
		for _, c := range o.Status.Conditions {
			if (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == corev1.ConditionTrue {
				return true
			}
		}
		return false
	case *batchv1.CronJob:
		return false
	}
	return isLive(o) && s.replicas(k) == 0
}

// isLive reports whether the object comes from a cluster, and not from a manifest.
func isLive(o client.Object) bool { return o.GetUID() != "" }
