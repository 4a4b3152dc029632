package cluster

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
)

// web is a pod as the API server shows it.
func web() *corev1.Pod {
	always := corev1.ContainerRestartPolicyAlways
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: "web", UID: "u", Labels: map[string]string{"app": "web"},
			CreationTimestamp: metav1.Unix(7, 0), Annotations: map[string]string{"a": "b"},
			ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "kubectl"}}},
		Spec: corev1.PodSpec{
			NodeName: "n1", ServiceAccountName: "front", HostNetwork: true,
			InitContainers: []corev1.Container{
				{Name: "sidecar", RestartPolicy: &always, Ports: []corev1.ContainerPort{{Name: "proxy", ContainerPort: 15001}}},
				{Name: "migrate", Ports: []corev1.ContainerPort{{Name: "gone", ContainerPort: 1}}},
			},
			Containers: []corev1.Container{{Name: "web", Image: "web", Env: []corev1.EnvVar{{Name: "A"}}, Ports: []corev1.ContainerPort{
				{Name: "dns", ContainerPort: 53, Protocol: corev1.ProtocolUDP}, {ContainerPort: 8080}}}, {Name: "quiet"}},
		},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIPs: []corev1.PodIP{{IP: "10.0.0.1"}, {IP: "fd00::1"}, {IP: ""}}},
	}
}

var sameAddr = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

func TestPodKeepsWhatPolicyDependsOn(t *testing.T) {
	want := &compile.Pod{
		Namespace: "prod", Name: "web", UID: "u", Node: "n1", ServiceAccount: "front",
		Labels: map[string]string{"app": "web"}, HostNetwork: true, Created: 7,
		Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")},
		Ports: []compile.NamedPort{{Name: "proxy", Protocol: policy.TCP, Port: 15001}, {Name: "dns", Protocol: policy.UDP, Port: 53}},
	}
	slimmed, err := slim(web())
	if err != nil {
		t.Fatal(err)
	}
	for name, pod := range map[string]*corev1.Pod{"whole": web(), "slim": slimmed.(*corev1.Pod)} {
		if diff := cmp.Diff(want, Pod(pod), sameAddr); diff != "" {
			t.Errorf("%s pod (-want +got):\n%s", name, diff)
		}
	}
}

func TestSlimDropsTheRest(t *testing.T) {
	slimmed, err := slim(web())
	if err != nil {
		t.Fatal(err)
	}
	p := slimmed.(*corev1.Pod)
	if p.ManagedFields != nil || p.Annotations != nil || len(p.Spec.Containers) != 1 || p.Spec.Containers[0].Image != "" {
		t.Errorf("kept too much: %+v", p)
	}
}

func TestEndedAndTerminatingPods(t *testing.T) {
	for phase, ended := range map[corev1.PodPhase]bool{
		corev1.PodPending: false, corev1.PodRunning: false, corev1.PodUnknown: false, corev1.PodSucceeded: true, corev1.PodFailed: true,
	} {
		p := web()
		p.Status.Phase = phase
		if got := Pod(p); got.Ended != ended || got.Terminating {
			t.Errorf("phase %s: ended %v, terminating %v", phase, got.Ended, got.Terminating)
		}
	}
	p := web()
	p.DeletionTimestamp = &metav1.Time{}
	if !Pod(p).Terminating {
		t.Error("a pod that is being deleted is not Terminating")
	}
}

func TestNodeAddressesAndPodCIDRs(t *testing.T) {
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "n1"},
		Spec:       corev1.NodeSpec{PodCIDRs: []string{"10.1.0.7/24", "fd00:1::/64", "rubbish"}},
		Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{
			{Type: corev1.NodeHostName, Address: "n1"}, {Type: corev1.NodeInternalIP, Address: "192.0.2.1"},
			{Type: corev1.NodeExternalIP, Address: "192.0.2.1"}, {Type: corev1.NodeInternalIP, Address: "::ffff:192.0.2.2"}}},
	}
	got := Node(n)
	wantAddrs := []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")}
	if diff := cmp.Diff(wantAddrs, got.Addrs, sameAddr); diff != "" {
		t.Errorf("addresses (-want +got):\n%s", diff)
	}
	if len(got.PodCIDRs) != 2 || got.PodCIDRs[0].String() != "10.1.0.0/24" {
		t.Errorf("pod CIDRs: %v", got.PodCIDRs)
	}
}

// A change that policy does not depend on must not wake the compiler.
func TestTableTellsChangesApart(t *testing.T) {
	key := types.NamespacedName{Namespace: "prod", Name: "web"}
	pods := table[compile.Pod]{}
	relabelled, heartbeat := web(), web()
	relabelled.Labels = map[string]string{"app": "db"}
	heartbeat.ResourceVersion = "9"
	for _, step := range []struct {
		what    string
		pod     *corev1.Pod
		changes bool
	}{{"first seen", web(), true}, {"seen again", web(), false}, {"heartbeat", heartbeat, false}, {"relabelled", relabelled, true}} {
		if got := pods.set(key, Pod(step.pod)); got != step.changes {
			t.Errorf("%s: changed is %v, want %v", step.what, got, step.changes)
		}
	}
	policies := table[networkingv1.NetworkPolicy]{}
	np := &networkingv1.NetworkPolicy{}
	annotated := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{"a": "b"}}}
	other := &networkingv1.NetworkPolicy{Spec: networkingv1.NetworkPolicySpec{PolicyTypes: []networkingv1.PolicyType{"Egress"}}}
	if !policies.set(key, np) || policies.set(key, annotated) || !policies.set(key, other) || !policies.remove(key) || policies.remove(key) {
		t.Error("a policy's spec, and only that, is what changes it")
	}
}
