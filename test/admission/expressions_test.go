//go:build admission

package admission

import (
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apiserver/pkg/admission/plugin/policy/validating"
	"k8s.io/apiserver/pkg/cel/openapi/resolver"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// The API server's own type checker knows every field that the expressions of
// the chart's admission policies mention.
func TestTheExpressionsOfAdmissionPoliciesAreWellTyped(t *testing.T) {
	list := &admissionv1.ValidatingAdmissionPolicyList{}
	if err := world.admin.List(t.Context(), list, client.MatchingLabels{"app.kubernetes.io/name": "tierwall"}); err != nil {
		t.Fatal(err)
	}
	if want := world.chart.count("ValidatingAdmissionPolicy"); want == 0 || len(list.Items) != want {
		t.Errorf("%d admission policies, want %d", len(list.Items), want)
	}
	checker := &validating.TypeChecker{
		SchemaResolver: &resolver.ClientDiscoveryResolver{Discovery: world.clients.Discovery()},
		RestMapper:     world.admin.RESTMapper(),
	}
	for i := range list.Items {
		p := &list.Items[i]
		for _, w := range checker.Check(p) {
			t.Errorf("%s %s: %s", p.Name, w.FieldRef, w.Warning)
		}
		p.Spec.Validations[0].Expression = "object.metadata.noSuchField == 1"
		if len(checker.Check(p)) == 0 {
			t.Errorf("%s: the type checker finds no fault with a field that does not exist", p.Name)
		}
	}
}
