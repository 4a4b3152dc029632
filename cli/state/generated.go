package state

import (
	"maps"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
)

// Labels that controllers set and for which the API has no constant.
const (
	oldJobName       = "job-name"
	oldControllerUID = "controller-uid"
	templateVersion  = "pod-template-generation"
)

// OpenLabel is a label of a pod whose value, or whether the pod has it, does not follow from the manifests.
type OpenLabel struct {
	Key string
	// Always is true if the pod has the label, and only the value is not known.
	Always bool
	// Prefix is how the value begins, and Values are the only ones that it can have; empty is any.
	Prefix string
	Values []string
	// Asked are the values that selectors ask for, of a label that something may add.
	Asked []string
	// Setter is who sets the label, such as "the Job controller".
	Setter string
}

// Accepts reports whether the label can have the value.
func (l OpenLabel) Accepts(value string) bool {
	if len(l.Values) > 0 {
		for _, v := range l.Values {
			if v == value {
				return true
			}
		}
		return false
	}
	rest, ok := strings.CutPrefix(value, l.Prefix)
	return ok && (l.Prefix == "" || scheduled.MatchString("x-"+rest))
}

// generatedLabels are the labels that the workload's controller gives its pod of the ordinal
// beside those of the template, and those of them whose values it alone knows.
func (s State) generatedLabels(k Key, ordinal int) (known map[string]string, open []OpenLabel) {
	known = map[string]string{}
	always := func(setter string, keys ...string) {
		for _, key := range keys {
			open = append(open, OpenLabel{Key: key, Always: true, Setter: setter})
		}
	}
	switch o := s.objects[k].(type) {
	case *appsv1.Deployment:
		always("the Deployment controller", appsv1.DefaultDeploymentUniqueLabelKey)
	case *appsv1.StatefulSet:
		if o.Spec.Ordinals != nil {
			ordinal += int(o.Spec.Ordinals.Start)
		}
		known[appsv1.StatefulSetPodNameLabel] = k.Name + "-" + strconv.Itoa(ordinal)
		known[appsv1.PodIndexLabel] = strconv.Itoa(ordinal)
		always("the StatefulSet controller", appsv1.ControllerRevisionHashLabelKey)
	case *appsv1.DaemonSet:
		always("the DaemonSet controller", appsv1.ControllerRevisionHashLabelKey, templateVersion)
	case *batchv1.Job:
		if o.Spec.ManualSelector != nil && *o.Spec.ManualSelector {
			break
		}
		known[batchv1.JobNameLabel], known[oldJobName] = k.Name, k.Name
		if mode := o.Spec.CompletionMode; mode != nil && *mode == batchv1.IndexedCompletion {
			known[batchv1.JobCompletionIndexAnnotation] = strconv.Itoa(ordinal)
		}
		always("the Job controller", batchv1.ControllerUidLabel, oldControllerUID)
	case *batchv1.CronJob:
		for _, key := range []string{batchv1.JobNameLabel, oldJobName} {
			open = append(open, OpenLabel{Key: key, Always: true, Prefix: k.Name + "-", Setter: "the CronJob controller"})
		}
		always("the Job controller", batchv1.ControllerUidLabel, oldControllerUID)
		if mode := o.Spec.JobTemplate.Spec.CompletionMode; mode != nil && *mode == batchv1.IndexedCompletion {
			known[batchv1.JobCompletionIndexAnnotation] = strconv.Itoa(ordinal)
		}
	}
	return known, open
}

// isGenerated reports whether a controller sets the label, whatever the template says.
func isGenerated(key string) bool {
	switch key {
	case appsv1.DefaultDeploymentUniqueLabelKey, appsv1.ControllerRevisionHashLabelKey, appsv1.StatefulSetPodNameLabel, appsv1.PodIndexLabel,
		batchv1.JobNameLabel, batchv1.ControllerUidLabel, batchv1.JobCompletionIndexAnnotation, oldJobName, oldControllerUID, templateVersion:
		return true
	}
	return false
}

// runningLabels are the labels that a pod has when the template that it was made from is replaced: those
// of the new template, and those that something else than the old template gave it. What of these
// was given by hand or by an operator may not be given to the pod that follows.
func runningLabels(p *corev1.Pod, was, is *corev1.PodTemplateSpec) (map[string]string, []OpenLabel) {
	if was != nil && maps.Equal(was.Labels, is.Labels) {
		return p.Labels, nil
	}
	out := maps.Clone(is.Labels)
	if out == nil {
		out = map[string]string{}
	}
	var open []OpenLabel
	for key, value := range p.Labels {
		if _, ok := is.Labels[key]; ok {
			continue
		}
		if was != nil {
			if _, ok := was.Labels[key]; ok {
				continue
			}
		}
		out[key] = value
		if !isGenerated(key) {
			open = append(open, OpenLabel{Key: key, Values: []string{value}, Setter: "what set it on the pod that runs"})
		}
	}
	return out, open
}
