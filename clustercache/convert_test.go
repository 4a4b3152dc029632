package clustercache

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

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
	if diff := cmp.Diff(want, Pod(web()), sameAddr); diff != "" {
		t.Errorf("pod (-want +got):\n%s", diff)
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
