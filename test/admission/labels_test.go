//go:build admission

package admission

import (
	"context"
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tierwall/tierwall/api/v1alpha1"
)

// A way to label the namespace stranger.
type namespaceMove struct {
	name string
	try  func(context.Context) error
}

const isPartner = `{"metadata":{"labels":{"partner":"yes"}}}`

// namespaceMoves are all ways to label a namespace. All are refused, with the webhook and without.
var namespaceMoves = []namespaceMove{
	{"label", labelNamespace(types.MergePatchType, isPartner)},
	{"strategic patch", labelNamespace(types.StrategicMergePatchType, isPartner)},
	{"server-side apply", labelNamespace(types.ApplyPatchType, `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"stranger","labels":{"partner":"yes"}}}`)},
	{"label through status", labelNamespace(types.MergePatchType, isPartner, "status")},
	{"server-side apply through status", labelNamespace(types.ApplyPatchType,
		`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"stranger","labels":{"partner":"yes"}}}`, "status")},
	{"update", func(ctx context.Context) error {
		return updateNamespace(ctx, func(n *corev1.Namespace) error { return world.admin.Update(ctx, n) })
	}},
	{"update of status", func(ctx context.Context) error {
		return updateNamespace(ctx, func(n *corev1.Namespace) error { return world.admin.Status().Update(ctx, n) })
	}},
	{"update of finalize", func(ctx context.Context) error {
		return updateNamespace(ctx, func(n *corev1.Namespace) error {
			_, err := world.clients.CoreV1().Namespaces().Finalize(ctx, n, metav1.UpdateOptions{})
			return err
		})
	}},
}

func labelNamespace(kind types.PatchType, patch string, subresource ...string) func(context.Context) error {
	return func(ctx context.Context) error {
		o := metav1.PatchOptions{}
		if kind == types.ApplyPatchType {
			force := true
			o.FieldManager, o.Force = "attacker", &force
		}
		_, err := world.clients.CoreV1().Namespaces().Patch(ctx, "stranger", kind, []byte(patch), o, subresource...)
		return err
	}
}

func updateNamespace(ctx context.Context, update func(*corev1.Namespace) error) error {
	n, err := world.clients.CoreV1().Namespaces().Get(ctx, "stranger", metav1.GetOptions{})
	if err != nil {
		return err
	}
	n.Labels["partner"] = "yes"
	return update(n)
}

// stays checks that the namespace stranger was not labelled.
func stays(t *testing.T) {
	t.Helper()
	n, err := world.clients.CoreV1().Namespaces().Get(t.Context(), "stranger", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if n.Labels["partner"] != "" || n.Labels["kubernetes.io/metadata.name"] != "stranger" {
		t.Errorf("namespace stranger has labels %v", n.Labels)
	}
}

func TestALabelOfANamespaceIsJudgedByWhatItOpens(t *testing.T) {
	for _, m := range namespaceMoves {
		t.Run(m.name, func(t *testing.T) {
			refusedWith(t, m.try(t.Context()), "Guardrail data-tier-closed", "namespace stranger reach tier data in namespace legacy on TCP/5432")
			stays(t)
		})
	}
	t.Run("a label that no selector mentions", func(t *testing.T) {
		for _, value := range []string{`"yes"`, "null"} {
			if err := labelNamespace(types.MergePatchType, `{"metadata":{"labels":{"nobody-asks":`+value+`}}}`)(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
	t.Run("the label that closes", func(t *testing.T) {
		if err := world.admin.Patch(t.Context(), namespaceObject("friend"),
			client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"labels":{"partner":null}}}`)), client.DryRunAll); err != nil {
			t.Error(err)
		}
	})
	t.Run("an exempt namespace", func(t *testing.T) {
		if err := world.admin.Patch(t.Context(), namespaceObject("kube-system"), client.RawPatch(types.MergePatchType, []byte(isPartner)), client.DryRunAll); err != nil {
			t.Error(err)
		}
	})
}

func TestALabelOfAPodIsJudgedByWhatItOpens(t *testing.T) {
	const partner = `"partner":"yes"`
	for _, m := range []move{
		{"label", patch(partner), ""}, {"label through status", patch(partner, "status"), ""},
		{"server-side apply", apply(partner), ""}, {"server-side apply through status", apply(partner, "status"), ""},
		{"update", update(func(p *corev1.Pod) { p.Labels["partner"] = "yes" }), ""},
		{"binding", bind(map[string]string{"partner": "yes"}), ""},
		{"older binding", bindOld(map[string]string{"partner": "yes"}), ""},
	} {
		t.Run(m.name, func(t *testing.T) {
			p := pod("stranger", "someone", "default", "a=b")
			create(t, p)
			becomes(t, "refused", func() error { // a binding is of a pod that is known
				err := m.try(t.Context(), p)
				if err == nil {
					t.Fatal("admitted")
				}
				if !contains(err, "Guardrail data-tier-closed", "reach tier data in namespace legacy") {
					return err
				}
				return nil
			})
			remove(t, p)
		})
	}
}

// A new pod that reaches what a policy from before a guardrail offers is told of, and refused where the guardrail
// says that it is about pods.
func TestANewPodIsJudgedByWhatItOpens(t *testing.T) {
	opens, harmless := pod("stranger", "newcomer", "default", "partner=yes"), pod("stranger", "newcomer", "default", "a=b")
	try := func(p *corev1.Pod) (string, error) {
		world.warnings.take()
		err := world.admin.Create(t.Context(), p.DeepCopy(), client.DryRunAll)
		return world.warnings.take(), err
	}
	if told, err := try(opens); err != nil || !strings.Contains(told, "Guardrail data-tier-closed") || !strings.Contains(told, "Pod stranger/newcomer would") {
		t.Errorf("told %q, error %v; want a warning", told, err)
	}
	if told, err := try(harmless); err != nil || told != "" {
		t.Errorf("told %q, error %v, of a pod that opens nothing", told, err)
	}
	create(t, &v1alpha1.Guardrail{ObjectMeta: metav1.ObjectMeta{Name: "pods-stay-out"}, Spec: v1alpha1.GuardrailSpec{
		Kinds: []v1alpha1.Kind{"Pod"}, Operations: []v1alpha1.Operation{"CREATE"}, Rego: `package tierwall.guardrails.pods_stay_out

deny contains "stay out" if {
	some row in input.effect.added
	row.to.role == "data"
}
`}})
	becomes(t, "refused", func() error {
		if _, err := try(opens); !contains(err, "stay out (Guardrail pods-stay-out") {
			return errors.Join(errors.New("want a refusal"), err)
		}
		return nil
	})
	if _, err := try(harmless); err != nil {
		t.Errorf("a pod that opens nothing: %v", err)
	}
}

func TestATierRoleIsJudgedByWhatItOpens(t *testing.T) {
	more := &v1alpha1.TierRole{ObjectMeta: metav1.ObjectMeta{Name: "legacy-more"}, Spec: v1alpha1.TierRoleSpec{
		Role: "data", Namespaces: []string{"legacy"}, ServiceAccounts: []string{"default"}}}
	refusedWith(t, world.admin.Create(t.Context(), more), "Guardrail data-tier-closed", "TierRole legacy-more would let", "namespace legacy")
	more.Spec.ServiceAccounts = []string{"postgres"} // it has the role already
	create(t, more)
	becomes(t, "known", func() error {
		more.Spec.ServiceAccounts = []string{"default"}
		err := world.admin.Update(t.Context(), more, client.DryRunAll)
		if !contains(err, "Guardrail data-tier-closed") {
			return errors.Join(errors.New("want a refusal"), err)
		}
		return nil
	})
}

// Where the default action is Allow, the role is what isolates a pod: to take it is to open.
func TestATierRoleThatIsolatesStays(t *testing.T) {
	const namespace = "open-roles"
	if err := makeNamespace(t.Context(), namespace); err != nil {
		t.Fatal(err)
	}
	tr := &v1alpha1.TierRole{ObjectMeta: metav1.ObjectMeta{Name: namespace}, Spec: v1alpha1.TierRoleSpec{
		Role: "data", Namespaces: []string{namespace}, ServiceAccounts: []string{"default"}}}
	if err := world.admin.Create(t.Context(), tr); err != nil {
		t.Fatal(err)
	}
	isolating := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "data"}, Spec: networkingv1.NetworkPolicySpec{
		PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{v1alpha1.RoleLabel: "data"}}, PolicyTypes: []networkingv1.PolicyType{"Ingress"}}}
	create(t, pod(namespace, "db", "default"))
	if err := world.admin.Create(t.Context(), isolating); err != nil {
		t.Fatal(err)
	}
	becomes(t, "refused", func() error {
		err := world.admin.Delete(t.Context(), tr, client.DryRunAll)
		if !contains(err, "Guardrail default-deny-stays", "Deleting TierRole open-roles would let") {
			return errors.Join(errors.New("want a refusal"), err)
		}
		return nil
	})
}
