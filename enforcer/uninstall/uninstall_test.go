package uninstall

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"
)

const namespace = "tierwall-system"

func labelled(name, component string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Labels: map[string]string{
		"app.kubernetes.io/name": "tierwall", "app.kubernetes.io/instance": "tierwall",
		"app.kubernetes.io/component": component,
	}}
}

func inNamespace(m metav1.ObjectMeta) metav1.ObjectMeta {
	m.Namespace = namespace
	return m
}

// agents is the DaemonSet of the node agents, on a number of nodes.
func agents(nodes int32) *appsv1.DaemonSet {
	meta := inNamespace(labelled("tierwall-enforcer", "enforcer"))
	meta.Generation = 1
	return &appsv1.DaemonSet{
		ObjectMeta: meta,
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: meta.Labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: meta.Labels}, Spec: podSpec("")},
		},
		Status: appsv1.DaemonSetStatus{ObservedGeneration: 1, DesiredNumberScheduled: nodes},
	}
}

func podSpec(node string, args ...string) corev1.PodSpec {
	if args == nil {
		args = []string{"--node-name=$(NODE_NAME)", "--health-probe-bind-address=127.0.0.1:9467", "--log-level=info"}
	}
	return corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: agentContainer, Args: args}}}
}

// agent is the pod of a node agent that enforces.
func agent(node string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: inNamespace(labelled("agent-"+node, "enforcer")),
		Spec:       podSpec(node),
		Status:     corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}},
	}
}

// cleaner is the pod of a node agent that cleans, and has done so or not.
func cleaner(node string, clean bool) *corev1.Pod {
	pod := agent(node)
	pod.Spec = podSpec(node, "cleanup", "--stay")
	if !clean {
		pod.Status.Conditions = nil
	}
	return pod
}

// world is a cluster in memory.
type world struct {
	client.Client
	deleted []string
	// ran are the commands of the agents' containers that were rolled out, one line for each rollout.
	ran []string
}

// newWorld makes a cluster whose DaemonSet controller replaces the pods of the
// node agents at once; a cleaner on a node named broken never becomes ready.
func newWorld(t *testing.T, broken string, objects ...client.Object) *world {
	t.Helper()
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{scheme.AddToScheme, apiextensionsv1.AddToScheme, policyv1alpha2.Install} {
		if err := add(s); err != nil {
			t.Fatal(err)
		}
	}
	w := &world{}
	w.Client = fake.NewClientBuilder().WithScheme(s).WithObjects(objects...).WithInterceptorFuncs(interceptor.Funcs{
		Delete: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
			w.deleted = append(w.deleted, o.GetName())
			return c.Delete(ctx, o, opts...)
		},
		Update: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
			if err := c.Update(ctx, o, opts...); err != nil {
				return err
			}
			w.ran = append(w.ran, commandsOf(o.(*appsv1.DaemonSet)))
			return rollOut(ctx, c, o.(*appsv1.DaemonSet), broken)
		},
	}).Build()
	return w
}

// commandsOf are the first arguments of the containers.
func commandsOf(ds *appsv1.DaemonSet) string {
	var out []string
	for _, c := range ds.Spec.Template.Spec.Containers {
		out = append(out, c.Name+" "+c.Args[0])
	}
	return strings.Join(out, ", ")
}

// chained are node agents, one on node a, that have put the CNI plugin into the node's network.
func chained(removed bool) []client.Object {
	keeper := corev1.Container{Name: cniContainer, Command: []string{"/tierwall-cni"}, Args: []string{"install", "--exempt-namespaces=x"},
		ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"/tierwall-cni", "check-installed"}}}}}
	ds, pod := agents(1), agent("a")
	ds.Spec.Template.Spec.Containers = append(ds.Spec.Template.Spec.Containers, keeper)
	pod.Spec.Containers = append(pod.Spec.Containers, keeper)
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: cniContainer, Ready: removed}}
	return []client.Object{ds, pod}
}

// A plugin that waits for an agent that is gone would keep new pods from starting.
func TestThePluginIsRemovedWhileTheAgentsAreStillThere(t *testing.T) {
	w := newWorld(t, "", chained(true)...)
	if err := w.uninstaller().Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := "enforcer --node-name=$(NODE_NAME), cni remove; enforcer cleanup, cni remove"
	if got := strings.Join(w.ran, "; "); got != want {
		t.Errorf("rolled out %q, want %q", got, want)
	}
	_, pods, err := w.uninstaller().readAgents(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if probe := pods[0].Spec.Containers[1].ReadinessProbe.Exec.Command; strings.Join(probe, " ") != "/tierwall-cni check-removed" {
		t.Errorf("it is ready when %q passes", probe)
	}
}

func TestAgentsStayUntilThePluginIsRemoved(t *testing.T) {
	w := newWorld(t, "", chained(false)...)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := w.uninstaller().Prepare(ctx)
	if err == nil || !strings.Contains(err.Error(), "0 of 1 nodes are without the CNI plugin, not a") || len(w.ran) != 1 {
		t.Errorf("error %v, rolled out %q", err, w.ran)
	}
}

// rollOut gives every agent's pod the arguments of the DaemonSet.
func rollOut(ctx context.Context, c client.Client, ds *appsv1.DaemonSet, broken string) error {
	var pods corev1.PodList
	if err := c.List(ctx, &pods, client.InNamespace(namespace), client.MatchingLabels(ds.Spec.Selector.MatchLabels)); err != nil {
		return err
	}
	for _, pod := range pods.Items {
		pod.Spec.Containers = ds.Spec.Template.Spec.Containers
		if err := c.Update(ctx, &pod); err != nil {
			return err
		}
		if pod.Spec.NodeName != broken {
			continue
		}
		pod.Status.Conditions = nil
		if err := c.Status().Update(ctx, &pod); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) has(t *testing.T, o client.Object) bool {
	t.Helper()
	err := w.Get(context.Background(), client.ObjectKeyFromObject(o), o)
	if client.IgnoreNotFound(err) != nil {
		t.Fatal(err)
	}
	return !apierrors.IsNotFound(err)
}

func (w *world) uninstaller() *Uninstaller {
	return &Uninstaller{
		Client: w, Release: "tierwall", Namespace: namespace, DaemonSet: "tierwall-enforcer",
		Secrets: []string{"tierwall-webhook-tls"}, Leases: []string{"tierwall-webhook"},
		Poll: time.Millisecond, Log: slog.New(slog.DiscardHandler),
	}
}

func TestPrepareDeletesWebhooksBeforeItTouchesANode(t *testing.T) {
	validating := &admissionv1.ValidatingWebhookConfiguration{ObjectMeta: labelled("tierwall-v", "webhook")}
	mutating := &admissionv1.MutatingWebhookConfiguration{ObjectMeta: labelled("tierwall-m", "webhook")}
	binding := &admissionv1.ValidatingAdmissionPolicyBinding{ObjectMeta: labelled("tierwall-b", "webhook")}
	policy := &admissionv1.ValidatingAdmissionPolicy{ObjectMeta: labelled("tierwall-p", "webhook")}
	foreign := &admissionv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "cert-manager-webhook"}}
	w := newWorld(t, "b", validating, mutating, binding, policy, foreign, agents(2), agent("a"), agent("b"))

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := w.uninstaller().Prepare(ctx); err == nil {
		t.Fatal("node b is not clean, and Prepare says nothing")
	}
	want := "tierwall-v tierwall-m tierwall-b tierwall-p"
	if got := strings.Join(w.deleted, " "); got != want {
		t.Errorf("deleted %q, want %q", got, want)
	}
	if !w.has(t, foreign) {
		t.Error("the webhook configuration of somebody else is gone")
	}
}

func TestPrepareWaitsForEveryNode(t *testing.T) {
	w := newWorld(t, "", agents(2), agent("a"), agent("b"))
	if err := w.uninstaller().Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, pods, err := w.uninstaller().readAgents(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, pod := range pods {
		want := "cleanup --stay --health-probe-bind-address=127.0.0.1:9467 --log-level=info"
		if got := strings.Join(pod.Spec.Containers[0].Args, " "); got != want {
			t.Errorf("agent on node %s runs %q, want %q", pod.Spec.NodeName, got, want)
		}
	}
}

func TestPrepareNamesTheNodesThatAreNotClean(t *testing.T) {
	w := newWorld(t, "b", agents(2), agent("a"), agent("b"))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := w.uninstaller().Prepare(ctx)
	if err == nil || !strings.Contains(err.Error(), "1 of 2 nodes are clean, not b (cleanup is under way)") {
		t.Errorf("got %v, want it to name node b alone", err)
	}
}

// TestPrepareWithoutNodeAgents: rules outlive the agents, so an uninstallation
// that cleans no node does not go on as if all were clean.
func TestPrepareWithoutNodeAgents(t *testing.T) {
	validating := &admissionv1.ValidatingWebhookConfiguration{ObjectMeta: labelled("tierwall-v", "webhook")}
	w := newWorld(t, "", validating)
	err := w.uninstaller().Prepare(t.Context())
	if err == nil {
		t.Fatal("no node was cleaned, and Prepare says nothing")
	}
	for _, want := range []string{"DaemonSet tierwall-system/tierwall-enforcer", "enforcer cleanup", "helm rollback tierwall", "--no-hooks"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
	if w.has(t, validating) {
		t.Error("the webhook configuration, which would fail closed in what is done by hand next, is still there")
	}
}

func TestFinishDeletesWhatTheReleaseLeft(t *testing.T) {
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "tierwall-webhook-tls"}}
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "tierwall-webhook"}}
	other := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "registry"}}
	w := newWorld(t, "", secret, lease, other)
	if err := w.uninstaller().Finish(t.Context()); err != nil {
		t.Fatal(err)
	}
	if w.has(t, secret) || w.has(t, lease) {
		t.Error("the certificate's secret or the lease is still there")
	}
	if !w.has(t, other) {
		t.Error("a secret that is not the release's is gone")
	}
}

func TestFinishWaitsForThePodsOfTheRelease(t *testing.T) {
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "tierwall-webhook-tls"}}
	pod := &corev1.Pod{ObjectMeta: inNamespace(labelled("webhook-1", "webhook"))}
	w := newWorld(t, "", secret, pod)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := w.uninstaller().Finish(ctx); err == nil {
		t.Error("Finish is done while a pod that makes secrets is running")
	}
	if !w.has(t, secret) {
		t.Error("the secret was deleted under a running pod")
	}
}

func definition(name, installedBy string) *apiextensionsv1.CustomResourceDefinition {
	crd := &apiextensionsv1.CustomResourceDefinition{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if installedBy != "" {
		crd.Annotations = map[string]string{InstalledByAnnotation: installedBy}
	}
	return crd
}

func TestFinishAndTheCustomResourceDefinitions(t *testing.T) {
	policy := &policyv1alpha2.ClusterNetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: "of-somebody-else"}}
	tests := []struct {
		name      string
		keep      bool
		shared    *apiextensionsv1.CustomResourceDefinition
		also      []client.Object
		ownStays  bool
		cnpsStays bool
	}{
		{name: "all from the chart", shared: definition(sharedDefinition, "chart")},
		{name: "all from the chart, to be kept", keep: true, shared: definition(sharedDefinition, "chart"), ownStays: true, cnpsStays: true},
		{name: "the standard's from elsewhere", shared: definition(sharedDefinition, ""), cnpsStays: true},
		{name: "the standard's in use", shared: definition(sharedDefinition, "chart"), also: []client.Object{policy}, cnpsStays: true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			roles, guardrails := definition("tierroles.tierwall.io", ""), definition("guardrails.tierwall.io", "")
			w := newWorld(t, "", append(test.also, roles, guardrails, test.shared)...)
			u := w.uninstaller()
			u.KeepCRDs = test.keep
			if err := u.Finish(t.Context()); err != nil {
				t.Fatal(err)
			}
			for _, own := range []*apiextensionsv1.CustomResourceDefinition{roles, guardrails} {
				if got := w.has(t, own); got != test.ownStays {
					t.Errorf("%s there: %t, want %t", own.Name, got, test.ownStays)
				}
			}
			if got := w.has(t, test.shared); got != test.cnpsStays {
				t.Errorf("%s there: %t, want %t", test.shared.Name, got, test.cnpsStays)
			}
		})
	}
}
