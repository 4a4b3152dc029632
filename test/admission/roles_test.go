//go:build admission

package admission

import (
	"context"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/test/apiserver"
)

// pod is a pod of the service account with labels given as "key=value".
func pod(namespace, name, account string, labels ...string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: labelsOf(labels)},
		Spec: corev1.PodSpec{
			ServiceAccountName: account,
			Containers:         []corev1.Container{{Name: "main", Image: "example.invalid/none"}},
		},
	}
}

func labelsOf(pairs []string) map[string]string {
	out := map[string]string{}
	for _, p := range pairs {
		k, v, _ := strings.Cut(p, "=")
		out[k] = v
	}
	return out
}

// shop makes a namespace of its own for a test, whose pods of the service
// account "postgres" are data, "web" frontend, and those labelled app=db data
// too.
func shop(t *testing.T, name string) {
	t.Helper()
	ctx := t.Context()
	if err := makeNamespace(ctx, name, "postgres", "web"); err != nil {
		t.Fatal(err)
	}
	for _, tr := range []*v1alpha1.TierRole{
		{ObjectMeta: metav1.ObjectMeta{Name: name + "-data"}, Spec: v1alpha1.TierRoleSpec{
			Role: "data", Namespaces: []string{name}, ServiceAccounts: []string{"postgres"}}},
		{ObjectMeta: metav1.ObjectMeta{Name: name + "-frontend"}, Spec: v1alpha1.TierRoleSpec{
			Role: "frontend", Namespaces: []string{name}, ServiceAccounts: []string{"web"}}},
		{ObjectMeta: metav1.ObjectMeta{Name: name + "-db"}, Spec: v1alpha1.TierRoleSpec{
			Role: "data", Namespaces: []string{name}, PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "db"}}}},
	} {
		create(t, tr)
	}
	// Until the webhook knows the TierRoles.
	err := eventually(ctx, func() error {
		p := pod(name, "probe", "postgres")
		if err := world.admin.Create(ctx, p, client.DryRunAll); err != nil {
			return err
		}
		if p.Labels[v1alpha1.RoleLabel] != "data" {
			return fmt.Errorf("the webhook does not know the TierRoles of %s", name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	world.warnings.take()
}

// create makes an object and removes it after the test.
func create(t *testing.T, o client.Object) {
	t.Helper()
	if err := world.admin.Create(t.Context(), o); err != nil {
		t.Fatalf("create %T %s: %v", o, o.GetName(), err)
	}
	t.Cleanup(func() { remove(t, o) })
}

func remove(t *testing.T, o client.Object) {
	now := client.GracePeriodSeconds(0)
	if err := world.admin.Delete(context.Background(), o, now); err != nil && !apierrors.IsNotFound(err) {
		t.Errorf("delete %T %s: %v", o, o.GetName(), err)
	}
}

// role is the role label of a pod as the API server has it.
func role(t *testing.T, p *corev1.Pod) string {
	t.Helper()
	now := &corev1.Pod{}
	if err := world.admin.Get(t.Context(), client.ObjectKeyFromObject(p), now); err != nil {
		t.Fatal(err)
	}
	value, has := now.Labels[v1alpha1.RoleLabel]
	if !has {
		return "none"
	}
	return value
}

func TestNewPodsShowTheirRoleWhateverTheyComeWith(t *testing.T) {
	shop(t, "new-pods")
	for _, c := range []struct {
		name, account string
		labels        []string
		want, warning string
	}{
		{"by-account", "postgres", nil, "data", ""},
		{"by-label", "default", []string{"app=db"}, "data", ""},
		{"forged", "web", []string{v1alpha1.RoleLabel + "=data"}, "frontend", "was replaced by frontend"},
		{"forged-without-role", "default", []string{v1alpha1.RoleLabel + "=data"}, "none", "was removed"},
		{"forged-empty", "default", []string{v1alpha1.RoleLabel + "="}, "none", "was removed"},
		{"right-already", "postgres", []string{v1alpha1.RoleLabel + "=data"}, "data", ""},
		{"other-labels", "web", []string{"a=b"}, "frontend", ""},
		{"no-account", "", nil, "none", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := pod("new-pods", c.name, c.account, c.labels...)
			create(t, p)
			if got := role(t, p); got != c.want {
				t.Errorf("role label %q, want %q", got, c.want)
			}
			got := world.warnings.take()
			if c.warning == "" && got != "" || !strings.Contains(got, c.warning) {
				t.Errorf("warning %q, want %q", got, c.warning)
			}
		})
	}
}

func TestPodsWithAGeneratedNameShowTheirRole(t *testing.T) {
	shop(t, "generated")
	p := pod("generated", "", "web", v1alpha1.RoleLabel+"=data")
	p.GenerateName = "shop-"
	create(t, p)
	if got := role(t, p); got != "frontend" {
		t.Errorf("role label %q, want frontend", got)
	}
}

func TestServerSideApplyOfANewPodShowsItsRole(t *testing.T) {
	shop(t, "applied")
	p := pod("applied", "web", "web", v1alpha1.RoleLabel+"=data")
	p.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}
	//nolint:staticcheck // typed objects are what the test is about
	if err := world.admin.Patch(t.Context(), p, client.Apply, client.FieldOwner("attacker"), client.ForceOwnership); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { remove(t, p) })
	if got := role(t, p); got != "frontend" {
		t.Errorf("role label %q, want frontend", got)
	}
}

// A way in which somebody might move a running pod to another role.
type move struct {
	name string
	try  func(ctx context.Context, p *corev1.Pod) error
	// refusal is part of the message; empty where the API server drops the labels by itself.
	refusal string
}

func patch(labels string, subresource ...string) func(context.Context, *corev1.Pod) error {
	return func(ctx context.Context, p *corev1.Pod) error {
		_, err := world.clients.CoreV1().Pods(p.Namespace).Patch(ctx, p.Name, types.StrategicMergePatchType,
			[]byte(`{"metadata":{"labels":{`+labels+`}}}`), metav1.PatchOptions{}, subresource...)
		return err
	}
}

func apply(labels string, subresource ...string) func(context.Context, *corev1.Pod) error {
	return func(ctx context.Context, p *corev1.Pod) error {
		force := true
		_, err := world.clients.CoreV1().Pods(p.Namespace).Patch(ctx, p.Name, types.ApplyPatchType,
			[]byte(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"`+p.Name+`","labels":{`+labels+`}}}`),
			metav1.PatchOptions{FieldManager: "attacker", Force: &force}, subresource...)
		return err
	}
}

func update(change func(*corev1.Pod)) func(context.Context, *corev1.Pod) error {
	return func(ctx context.Context, p *corev1.Pod) error {
		now := &corev1.Pod{}
		if err := world.admin.Get(ctx, client.ObjectKeyFromObject(p), now); err != nil {
			return err
		}
		change(now)
		return world.admin.Update(ctx, now)
	}
}

func bind(labels map[string]string) func(context.Context, *corev1.Pod) error {
	return func(ctx context.Context, p *corev1.Pod) error {
		return world.clients.CoreV1().Pods(p.Namespace).Bind(ctx, &corev1.Binding{
			ObjectMeta: metav1.ObjectMeta{Name: p.Name, Labels: labels},
			Target:     corev1.ObjectReference{Kind: "Node", Name: "node-1"},
		}, metav1.CreateOptions{})
	}
}

// bindOld uses the older resource, bindings.
func bindOld(labels map[string]string) func(context.Context, *corev1.Pod) error {
	return func(ctx context.Context, p *corev1.Pod) error {
		return world.clients.CoreV1().RESTClient().Post().Namespace(p.Namespace).Resource("bindings").Body(&corev1.Binding{
			ObjectMeta: metav1.ObjectMeta{Name: p.Name, Labels: labels},
			Target:     corev1.ObjectReference{Kind: "Node", Name: "node-1"},
		}).Do(ctx).Error()
	}
}

const (
	toData    = `"tierwall.io/tier-role":"data"`
	noRole    = `"tierwall.io/tier-role":null`
	toDB      = `"app":"db"`
	frozen    = "tierwall.io/tier-role cannot change"
	wouldMove = "it would move the pod from no role to role data"
)

// forgeries change the role label itself; the API server alone refuses them.
var forgeries = []move{
	{"label", patch(toData), frozen},
	{"label removed", patch(noRole), frozen},
	{"label through status", patch(toData, "status"), frozen},
	{"label removed through status", patch(noRole, "status"), frozen},
	{"label through ephemeralcontainers", patch(toData, "ephemeralcontainers"), ""},
	{"label through resize", patch(toData, "resize"), ""},
	{"server-side apply", apply(toData), frozen},
	{"server-side apply through status", apply(toData, "status"), frozen},
	{"update", update(func(p *corev1.Pod) { p.Labels[v1alpha1.RoleLabel] = "data" }), frozen},
	{"update without labels", update(func(p *corev1.Pod) { p.Labels = nil }), frozen},
	{"binding", bind(map[string]string{v1alpha1.RoleLabel: "data"}), frozen},
	{"older binding", bindOld(map[string]string{v1alpha1.RoleLabel: "data"}), frozen},
}

// detours change the labels that the role follows from; the webhook refuses them.
var detours = []move{
	{"bound label", patch(toDB), wouldMove},
	{"bound label through status", patch(toDB, "status"), wouldMove},
	{"bound label through ephemeralcontainers", patch(toDB, "ephemeralcontainers"), ""},
	{"bound label through resize", patch(toDB, "resize"), ""},
	{"bound label by server-side apply", apply(toDB), wouldMove},
	{"bound and role label together", patch(toDB + "," + toData), "tierwall.io/tier-role"},
	{"bound label through a binding", bind(map[string]string{"app": "db"}), wouldMove},
	{"bound label through an older binding", bindOld(map[string]string{"app": "db"}), wouldMove},
}

// podsFor makes a pod for each move.
func podsFor(t *testing.T, namespace, account string, moves []move) []*corev1.Pod {
	t.Helper()
	var out []*corev1.Pod
	for i := range moves {
		p := pod(namespace, fmt.Sprintf("%s-%d", account, i), account, "a=b")
		create(t, p)
		out = append(out, p)
	}
	return out
}

// tryMoves tries each move on the pod made for it, which is to keep its role.
func tryMoves(t *testing.T, pods []*corev1.Pod, want string, moves []move) {
	for i, m := range moves {
		t.Run(m.name, func(t *testing.T) {
			p := pods[i]
			before := role(t, p)
			err := m.try(t.Context(), p)
			if m.refusal != "" && (err == nil || !strings.Contains(err.Error(), m.refusal)) {
				t.Errorf("got error %v, want %q", err, m.refusal)
			}
			if got := role(t, p); got != before || got != want {
				t.Errorf("role label %q, was %q, want %q", got, before, want)
			}
			now := &corev1.Pod{}
			if err := world.admin.Get(t.Context(), client.ObjectKeyFromObject(p), now); err != nil {
				t.Fatal(err)
			}
			if now.Labels["app"] == "db" {
				t.Errorf("the pod got the label app=db")
			}
		})
	}
}

func TestARunningPodKeepsItsRoleLabel(t *testing.T) {
	shop(t, "forgeries")
	tryMoves(t, podsFor(t, "forgeries", "web", forgeries), "frontend", forgeries)
}

func TestARunningPodKeepsTheLabelsThatItsRoleFollowsFrom(t *testing.T) {
	shop(t, "detours")
	tryMoves(t, podsFor(t, "detours", "default", detours), "none", detours)
}

func TestABoundLabelNamesTheTierRole(t *testing.T) {
	shop(t, "named")
	p := pod("named", "plain", "default")
	create(t, p)
	err := patch(toDB)(t.Context(), p)
	for _, want := range []string{"label app of a running pod cannot change", "TierRole named-db"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got error %v, want %q", err, want)
		}
	}
}

func TestLabelsThatMeanNothingToRolesChangeFreely(t *testing.T) {
	shop(t, "free")
	p := pod("free", "web", "web")
	create(t, p)
	for _, labels := range []string{`"version":"2"`, `"version":null`, `"app":"shop"`} {
		if err := patch(labels)(t.Context(), p); err != nil {
			t.Errorf("labels %s: %v", labels, err)
		}
	}
	// A service account is more specific than a label: app=db changes nothing here.
	if err := patch(toDB)(t.Context(), p); err != nil {
		t.Errorf("label app=db on a pod whose role follows from its service account: %v", err)
	}
	bound := pod("free", "bound", "web")
	create(t, bound)
	if err := bind(map[string]string{"topology.kubernetes.io/zone": "a", "x": "y"})(t.Context(), bound); err != nil {
		t.Errorf("binding with labels that mean nothing: %v", err)
	}
}

func TestRolesAreRepairedWhenTierRolesChange(t *testing.T) {
	shop(t, "repaired")
	p := pod("repaired", "web", "web")
	create(t, p)
	tr := &v1alpha1.TierRole{ObjectMeta: metav1.ObjectMeta{Name: "repaired-frontend"}}
	for _, c := range [][2]string{{`{"role":"edge"}`, "edge"}, {`{"serviceAccounts":["somebody-else"]}`, "none"}} {
		spec, want := c[0], c[1]
		if err := world.admin.Patch(t.Context(), tr, client.RawPatch(types.MergePatchType, []byte(`{"spec":`+spec+`}`))); err != nil {
			t.Fatal(err)
		}
		err := eventually(t.Context(), func() error {
			if got := role(t, p); got != want {
				return fmt.Errorf("role label %q, want %q", got, want)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

func TestExemptNamespacesAreLeftAlone(t *testing.T) {
	if err := makeNamespace(t.Context(), "kube-system"); err != nil {
		t.Fatal(err)
	}
	p := pod("kube-system", "anything", "default", "a=b")
	create(t, p)
	if err := patch(`"a":"c"`)(t.Context(), p); err != nil {
		t.Errorf("label a pod in kube-system: %v", err)
	}
}

func TestTheWebhookItselfChangesNothingButTheRoleLabel(t *testing.T) {
	shop(t, "limited")
	p := pod("limited", "web", "web", "a=b")
	create(t, p)
	c, err := client.New(world.api.Config(apiserver.Webhook), client.Options{Scheme: scheme()})
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range []string{
		`{"spec":{"containers":[{"name":"main","image":"example.invalid/evil"}]}}`,
		`{"metadata":{"labels":{"a":"c"}}}`, `{"metadata":{"labels":{"x":"y"}}}`, `{"metadata":{"labels":{"a":null}}}`,
		`{"metadata":{"annotations":{"x":"y"}}}`,
	} {
		err := c.Patch(t.Context(), p.DeepCopy(), client.RawPatch(types.StrategicMergePatchType, []byte(change)))
		if err == nil || !strings.Contains(err.Error(), "tierwall changes no pod's") {
			t.Errorf("the webhook's account patches a pod with %s: got error %v", change, err)
		}
	}
	// Even its own account cannot lie.
	err = c.Patch(t.Context(), p.DeepCopy(), client.RawPatch(types.StrategicMergePatchType, []byte(`{"metadata":{"labels":{`+toData+`}}}`)))
	if err == nil || !strings.Contains(err.Error(), "is computed: the pod has role frontend") {
		t.Errorf("the webhook's account forges a role: got error %v", err)
	}
}
