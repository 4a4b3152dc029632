package manifest

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	kjson "sigs.k8s.io/json"
)

// TemplateKind is a kind whose objects make pods of a template, as a Deployment does.
type TemplateKind struct {
	// Group is its API group; "*" is any.
	Group, Kind string
	// Path leads to the pod template, field by field.
	Path []string
}

// templateKinds are those of widely used operators.
var templateKinds = []TemplateKind{
	{"argoproj.io", "Rollout", []string{"spec", "template"}},
	{"apps.openshift.io", "DeploymentConfig", []string{"spec", "template"}},
	{"serving.knative.dev", "Service", []string{"spec", "template"}},
	{"serving.knative.dev", "Configuration", []string{"spec", "template"}},
	{"apps.kruise.io", "CloneSet", []string{"spec", "template"}},
	{"apps.kruise.io", "StatefulSet", []string{"spec", "template"}},
	{"apps.kruise.io", "DaemonSet", []string{"spec", "template"}},
}

var templateFlag = regexp.MustCompile(`^([A-Z][A-Za-z0-9]*)(?:\.([a-z0-9][a-z0-9.-]*))?=[/.]?([A-Za-z0-9_-]+(?:[/.][A-Za-z0-9_-]+)*)$`)

// ParseTemplateKind reads KIND=PATH or KIND.GROUP=PATH, such as
// "Rollout.argoproj.io=spec.template".
func ParseTemplateKind(text string) (TemplateKind, error) {
	m := templateFlag.FindStringSubmatch(text)
	if m == nil {
		return TemplateKind{}, fmt.Errorf("%q: want KIND=PATH or KIND.GROUP=PATH, such as Rollout.argoproj.io=spec.template", text)
	}
	t := TemplateKind{Kind: m[1], Group: m[2], Path: strings.FieldsFunc(m[3], func(r rune) bool { return r == '.' || r == '/' })}
	if t.Group == "" {
		t.Group = "*"
	}
	if k, known := kinds[t.Kind]; known && (t.Group == "*" || t.Group == groupOf(k.apiVersion)) {
		return TemplateKind{}, fmt.Errorf("%q: %s is read without it; give the group of another kind of that name", text, t.Kind)
	}
	return t, nil
}

// templateKind returns how a kind's pod template is found; those of the caller come first.
func (r Reader) templateKind(group, kindName string) (TemplateKind, bool) {
	for _, t := range slices.Concat(r.Templates, templateKinds) {
		if t.Kind == kindName && (t.Group == group || t.Group == "*") {
			return t, true
		}
	}
	return TemplateKind{}, false
}

// TemplateWorkload is an object of a kind that tierwall knows by its pod template alone.
type TemplateWorkload struct {
	metav1.TypeMeta
	metav1.ObjectMeta
	Template corev1.PodTemplateSpec
	// Field is where the template is, as a JSON pointer.
	Field string
	// Replicas is spec.replicas, if it is there.
	Replicas *int32

	raw json.RawMessage
}

// DeepCopyObject returns a copy.
func (w *TemplateWorkload) DeepCopyObject() runtime.Object {
	out := *w
	w.DeepCopyInto(&out.ObjectMeta)
	w.Template.DeepCopyInto(&out.Template)
	return &out
}

// GetObjectKind returns the object's kind.
func (w *TemplateWorkload) GetObjectKind() schema.ObjectKind { return &w.TypeMeta }

// MarshalJSON writes the object as it was read.
func (w *TemplateWorkload) MarshalJSON() ([]byte, error) { return w.raw, nil }

// templated decodes an object by its pod template. One without is of no interest, such as a
// Rollout that refers to a Deployment.
func (d *decoder) templated(o *Object, t TemplateKind, text []byte) client.Object {
	w := &TemplateWorkload{Field: "/" + strings.Join(t.Path, "/"), raw: text}
	var outer struct {
		metav1.TypeMeta `json:",inline"`
		Metadata        metav1.ObjectMeta `json:"metadata"`
		Spec            struct {
			Replicas *int32 `json:"replicas"`
		} `json:"spec"`
	}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(text, &outer); err != nil {
		d.wrong(o, typeField(err), typeError(err))
		return nil
	}
	w.TypeMeta, w.ObjectMeta, w.Replicas = outer.TypeMeta, outer.Metadata, outer.Spec.Replicas
	at := json.RawMessage(text)
	for _, field := range t.Path {
		var fields map[string]json.RawMessage
		if err := kjson.UnmarshalCaseSensitivePreserveInts(at, &fields); err != nil || len(fields[field]) == 0 || string(fields[field]) == "null" {
			d.warn(Error{File: o.File, Line: o.Line(w.Field), Object: o.ID(), Field: w.Field, Message: "has no pod template there, and is not looked at"})
			d.objects = append(d.objects, o)
			return nil
		}
		at = fields[field]
	}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(at, &w.Template); err != nil {
		d.wrong(o, w.Field+typeField(err), typeError(err))
		return nil
	}
	if _, clash := kinds[o.Kind]; clash || o.Kind == "Service" {
		o.Kind += "." + groupOf(o.APIVersion)
	}
	return w
}
