//go:build admission

package admission

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/tierwall/tierwall/api/v1alpha1"
)

// reportDefinition is as much of wgpolicyk8s.io/v1alpha2 as a report of ours has.
const reportDefinition = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: %[2]ss.wgpolicyk8s.io, annotations: {api-approved.kubernetes.io: unapproved}}
spec:
  group: wgpolicyk8s.io
  names: {kind: %[1]s, listKind: %[1]sList, plural: %[2]ss, singular: %[2]s}
  scope: %[3]s
  versions:
    - name: v1alpha2
      served: true
      storage: true
      schema:
        openAPIV3Schema:
          type: object
          properties:
            summary:
              type: object
              properties: {pass: {type: integer}, fail: {type: integer}, warn: {type: integer}, error: {type: integer}, skip: {type: integer}}
            results:
              type: array
              items:
                type: object
                required: [policy]
                properties:
                  source: {type: string}
                  policy: {type: string}
                  category: {type: string}
                  message: {type: string}
                  severity: {type: string, enum: [critical, high, low, medium, info]}
                  result: {type: string, enum: [pass, fail, warn, error, skip]}
                  scored: {type: boolean}
                  properties: {type: object, additionalProperties: {type: string}}
                  timestamp: {type: object, required: [seconds, nanos], properties: {seconds: {type: integer, format: int64}, nanos: {type: integer, format: int32}}}
                  resources:
                    type: array
                    items:
                      type: object
                      properties: {apiVersion: {type: string}, kind: {type: string}, namespace: {type: string}, name: {type: string}, uid: {type: string}}
`

// serveReports has the API server serve PolicyReports.
func serveReports(t *testing.T) {
	t.Helper()
	for _, d := range [][3]string{{"PolicyReport", "policyreport", "Namespaced"}, {"ClusterPolicyReport", "clusterpolicyreport", "Cluster"}} {
		definition := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(fmt.Appendf(nil, reportDefinition, d[0], d[1], d[2]), &definition.Object); err != nil {
			t.Fatal(err)
		}
		create(t, definition)
	}
}

func report(namespace string) *unstructured.Unstructured {
	r := &unstructured.Unstructured{}
	r.SetGroupVersionKind(schema.GroupVersionKind{Group: "wgpolicyk8s.io", Version: "v1alpha2", Kind: "PolicyReport"})
	r.SetNamespace(namespace)
	r.SetName("tierwall")
	return r
}

// audited checks how many violations the status of a Guardrail has.
func audited(t *testing.T, name string, violations int32) error {
	t.Helper()
	g := &v1alpha1.Guardrail{}
	if err := world.admin.Get(t.Context(), types.NamespacedName{Name: name}, g); err != nil {
		return err
	}
	if g.Status.Audit == nil || g.Status.Audit.Violations != violations || g.Status.Audit.Generation != g.Generation {
		return fmt.Errorf("audit %+v of generation %d, want %d violations", g.Status.Audit, g.Generation, violations)
	}
	return nil
}

func TestWhatExistsIsAudited(t *testing.T) {
	shop(t, "audited")
	serveReports(t)
	g := forbids("quiet", "secret", "audited")
	g.Spec.Enforcement = v1alpha1.EnforceAudit
	create(t, g)
	becomes(t, "in force", func() error { return condition(t, g, "Active", metav1.ConditionTrue, "InForce") })
	world.warnings.take()
	policy := toTier("audited", "secret", "backend", fromTier("frontend"))
	create(t, policy)
	if told := world.warnings.take(); strings.Contains(told, "quiet") {
		t.Errorf("the user is told: %s", told)
	}
	becomes(t, "in the status", func() error { return audited(t, "quiet", 1) })
	becomes(t, "in a report", func() error {
		r := report("audited")
		if err := world.admin.Get(t.Context(), client.ObjectKeyFromObject(r), r); err != nil {
			return err
		}
		if n, _, _ := unstructured.NestedInt64(r.Object, "summary", "fail"); n != 1 {
			return fmt.Errorf("report %v", r.Object)
		}
		return nil
	})
	becomes(t, "an Event", func() error {
		list := &eventsv1.EventList{}
		if err := world.admin.List(t.Context(), list, client.InNamespace("audited")); err != nil {
			return err
		}
		for _, e := range list.Items {
			if e.Reason == "GuardrailViolated" && e.Type == corev1.EventTypeWarning && e.Regarding.Name == "secret" && e.Regarding.UID == policy.UID {
				return nil
			}
		}
		return errors.New("no Event")
	})
	remove(t, policy)
	becomes(t, "mended", func() error { return audited(t, "quiet", 0) })
	becomes(t, "without a report", func() error {
		r := report("audited")
		err := world.admin.Get(t.Context(), client.ObjectKeyFromObject(r), r)
		if err == nil {
			return fmt.Errorf("report %v", r.Object)
		}
		return client.IgnoreNotFound(err)
	})
}

func TestWhatAGuardrailWouldDenyIsToldBeforeItIsInForce(t *testing.T) {
	shop(t, "before")
	for _, name := range []string{"one", "two"} {
		create(t, toTier("before", name, "backend", fromTier("frontend")))
	}
	g := forbids("late", "two", "before")
	becomes(t, "told", func() error {
		world.warnings.take()
		if err := world.admin.Create(t.Context(), g.DeepCopy(), client.DryRunAll); err != nil {
			return err
		}
		told := world.warnings.take()
		if !strings.Contains(told, "Guardrail late would deny 1 that exist: NetworkPolicy before/two; they stay as they are") {
			return fmt.Errorf("told %q", told)
		}
		return nil
	})
}
