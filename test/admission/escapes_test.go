//go:build admission

package admission

import (
	"context"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tierwall/tierwall/api/v1alpha1"
)

func contains(err error, texts ...string) bool {
	if err == nil {
		return false
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			return false
		}
	}
	return true
}

// birth is a way to make a pod that shows a role which it does not have.
type birth struct {
	name string
	try  func(ctx context.Context, p *corev1.Pod) error
	// up is the role label with the webhook, or the refusal; down is the label without it. A
	// label that is not true gives nothing, and goes when the webhook is back.
	up, down string
}

// births are tried on a pod of the service account web, whose role is frontend, that comes with the label of data.
var births = []birth{
	{"create", createPod(func(*corev1.Pod) {}), "frontend", "data"},
	{"generateName", createPod(func(p *corev1.Pod) { p.GenerateName, p.Name = p.Name+"-", "" }), "frontend", "data"},
	{"server-side apply", func(ctx context.Context, p *corev1.Pod) error {
		p.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}
		//nolint:staticcheck // typed objects are what the test is about
		return world.admin.Patch(ctx, p, client.Apply, client.FieldOwner("attacker"), client.ForceOwnership)
	}, "frontend", "data"},
	{"no label at all", createPod(func(p *corev1.Pod) { p.Labels = nil }), "frontend", "none"},
	{"an empty label", createPod(func(p *corev1.Pod) { p.Labels[v1alpha1.RoleLabel] = "" }), "frontend", ""},
	{"another service account", createPod(func(p *corev1.Pod) { p.Spec.ServiceAccountName = "default" }), "none", "data"},
	{"the service account of the role", createPod(func(p *corev1.Pod) { p.Spec.ServiceAccountName = "postgres" }), "data", "data"},
	{"the older field of the service account", createPod(func(p *corev1.Pod) {
		p.Spec.ServiceAccountName, p.Spec.DeprecatedServiceAccount = "web", "postgres"
	}), "frontend", "data"},
	{"a bound label beside the service account", createPod(func(p *corev1.Pod) { p.Labels["app"] = "db" }), "frontend", "data"},
	{"a controller's template", createPod(func(p *corev1.Pod) { ofReplicaSet(p) }), "refused: ReplicaSet web-1 makes pods with the label", "data"},
	{"a static pod's mirror", createPod(mirror), "none", "data"},
}

func createPod(change func(*corev1.Pod)) func(context.Context, *corev1.Pod) error {
	return func(ctx context.Context, p *corev1.Pod) error {
		change(p)
		return world.admin.Create(ctx, p)
	}
}

// mirror makes it the mirror of a static pod, as a kubelet does. It can name no service account, and so has none's role.
func mirror(p *corev1.Pod) {
	controller, no := true, false
	p.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"}
	p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: "node-1", UID: "1", Controller: &controller}}
	p.Spec.ServiceAccountName, p.Spec.NodeName, p.Spec.AutomountServiceAccountToken = "", "node-1", &no
}

// tryBirths tries each, with the webhook or without, and leaves the pods.
func tryBirths(t *testing.T, namespace string, up bool) {
	for i, b := range births {
		t.Run(b.name, func(t *testing.T) {
			p := pod(namespace, "birth-"+string(rune('a'+i)), "web", v1alpha1.RoleLabel+"=data")
			err := b.try(t.Context(), p)
			want := b.up
			if !up {
				want = b.down
			}
			if refusal, ok := strings.CutPrefix(want, "refused: "); ok {
				refusedWith(t, err, refusal)
				return
			}
			if err != nil {
				t.Fatalf("got error %v, want the pod to start", err)
			}
			if got := role(t, p); got != want {
				t.Errorf("role label %q, want %q", got, want)
			}
		})
	}
}

func TestNoPodIsBornWithARoleThatItDoesNotHave(t *testing.T) {
	shop(t, "births")
	tryBirths(t, "births", true)
	if err := world.admin.DeleteAllOf(t.Context(), &corev1.Pod{}, client.InNamespace("births"), client.GracePeriodSeconds(0)); err != nil {
		t.Error(err)
	}
}

// A pod's service account cannot change later: the API server itself sees to that.
func TestAPodKeepsItsServiceAccount(t *testing.T) {
	shop(t, "accounts")
	p := pod("accounts", "web", "web")
	create(t, p)
	err := update(func(p *corev1.Pod) { p.Spec.ServiceAccountName = "postgres" })(t.Context(), p)
	if !contains(err, "pod updates may not change fields") {
		t.Errorf("got error %v, want one that the field cannot change", err)
	}
}

// Whoever applies a workload is told before its pods are refused, by the API server itself.
func TestARoleLabelInATemplateIsToldEarly(t *testing.T) {
	shop(t, "workloads")
	tellsOfTemplates(t, "workloads")
}

func tellsOfTemplates(t *testing.T, namespace string) {
	t.Helper()
	labels := map[string]string{"app": "x", v1alpha1.RoleLabel: "data"}
	meta := metav1.ObjectMeta{Namespace: namespace, Name: "x"}
	selector := &metav1.LabelSelector{MatchLabels: map[string]string{"app": "x"}}
	template := func(l map[string]string) corev1.PodTemplateSpec {
		return corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: l}, Spec: corev1.PodSpec{RestartPolicy: "Always",
			Containers: []corev1.Container{{Name: "main", Image: "example.invalid/none"}}}}
	}
	job := func(l map[string]string) batchv1.JobSpec {
		s := batchv1.JobSpec{Template: template(l)}
		s.Template.Spec.RestartPolicy = "Never"
		return s
	}
	for name, workload := range map[string]func(l map[string]string) client.Object{
		"Deployment": func(l map[string]string) client.Object {
			return &appsv1.Deployment{ObjectMeta: meta, Spec: appsv1.DeploymentSpec{Selector: selector, Template: template(l)}}
		},
		"ReplicaSet": func(l map[string]string) client.Object {
			return &appsv1.ReplicaSet{ObjectMeta: meta, Spec: appsv1.ReplicaSetSpec{Selector: selector, Template: template(l)}}
		},
		"StatefulSet": func(l map[string]string) client.Object {
			return &appsv1.StatefulSet{ObjectMeta: meta, Spec: appsv1.StatefulSetSpec{Selector: selector, Template: template(l)}}
		},
		"DaemonSet": func(l map[string]string) client.Object {
			return &appsv1.DaemonSet{ObjectMeta: meta, Spec: appsv1.DaemonSetSpec{Selector: selector, Template: template(l)}}
		},
		"Job": func(l map[string]string) client.Object { return &batchv1.Job{ObjectMeta: meta, Spec: job(l)} },
		"CronJob": func(l map[string]string) client.Object {
			return &batchv1.CronJob{ObjectMeta: meta, Spec: batchv1.CronJobSpec{Schedule: "* * * * *", JobTemplate: batchv1.JobTemplateSpec{Spec: job(l)}}}
		},
		"ReplicationController": func(l map[string]string) client.Object {
			t := template(l)
			return &corev1.ReplicationController{ObjectMeta: meta, Spec: corev1.ReplicationControllerSpec{Selector: selector.MatchLabels, Template: &t}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			world.warnings.take()
			if err := world.admin.Create(t.Context(), workload(labels), client.DryRunAll); err != nil {
				t.Fatal(err)
			}
			if got := world.warnings.take(); !strings.Contains(got, "leave the label tierwall.io/tier-role out of the pod template") {
				t.Errorf("warnings %q, want one about the template", got)
			}
			if err := world.admin.Create(t.Context(), workload(selector.MatchLabels), client.DryRunAll); err != nil {
				t.Fatal(err)
			}
			if got := world.warnings.take(); got != "" {
				t.Errorf("warnings %q of a template without the label", got)
			}
		})
	}
}
