//go:build netns

package change

import (
	"context"
	"fmt"
	"net/netip"
	"testing"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// size is how large a cluster is. The policies that allow are besides.
type size struct{ elsewhere, policies int }

// sizes are measured one after the other, each made from the one before.
var sizes = []size{{450, 0}, {450, 100}, {450, 300}, {450, 1000}, {10_000, 1000}}

const (
	local      = "node"
	here       = 54
	namespaces = 10
	apps       = 50
	// standing is a port that the server admits the client to throughout, changing the one that comes and goes.
	standing, changing = 9000, 9001
)

var nodeAddr = netip.MustParseAddr("192.168.0.1")

// podAddr is the address of a pod by its number, the local ones first.
func podAddr(i int) netip.Addr {
	if i < here {
		return netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 2)})
	}
	return netip.AddrFrom4([4]byte{10, byte(64 + i>>16), byte(i >> 8), byte(i)})
}

// town is what of a cluster has been made.
type town struct {
	n              *node
	pods, policies int
}

func newTown(b *testing.B, n *node) *town {
	t := &town{n: n}
	for name, cidr := range map[string]string{local: "10.0.0.0/24", "other": "10.64.0.0/10"} {
		made := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.NodeSpec{PodCIDR: cidr, PodCIDRs: []string{cidr}}}
		made.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: nodeAddr.String()}}
		if _, err := n.api.CoreV1().Nodes().Create(b.Context(), made, metav1.CreateOptions{}); err != nil {
			b.Fatal(err)
		}
	}
	for i := range namespaces {
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace(i)}}
		if _, err := n.api.CoreV1().Namespaces().Create(b.Context(), ns, metav1.CreateOptions{}); err != nil {
			b.Fatal(err)
		}
	}
	t.create(b, admit("out", namespace(0), "client", "", 0))
	t.create(b, admit("standing", namespace(1), "server", "client", standing))
	return t
}

func namespace(i int) string { return fmt.Sprint("ns-", i%namespaces) }
func app(i int) string       { return fmt.Sprint("app-", i/namespaces%apps) }

// grow makes what the size has more.
func (t *town) grow(b *testing.B, to size) {
	group, ctx := errgroup.WithContext(b.Context())
	group.SetLimit(8)
	for ; t.pods < here+to.elsewhere; t.pods++ {
		i := t.pods
		group.Go(func() error { return t.n.makePod(ctx, i) })
	}
	for ; t.policies < to.policies; t.policies++ {
		np := admit(fmt.Sprint("np-", t.policies), namespace(t.policies), app(t.policies), app(7*t.policies+10), 6000+t.policies%97)
		group.Go(func() error { return t.n.create(ctx, np) })
	}
	if err := group.Wait(); err != nil {
		b.Fatal(err)
	}
}

func (t *town) create(b *testing.B, np *networkingv1.NetworkPolicy) {
	if err := t.n.create(b.Context(), np); err != nil {
		b.Fatal(err)
	}
}

func (n *node) create(ctx context.Context, np *networkingv1.NetworkPolicy) error {
	_, err := n.api.NetworkingV1().NetworkPolicies(np.Namespace).Create(ctx, np, metav1.CreateOptions{})
	return err
}

func (n *node) makePod(ctx context.Context, i int) error {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace(i), Name: fmt.Sprint("pod-", i), Labels: map[string]string{"app": app(i)}}}
	p.Spec.NodeName, p.Spec.Containers = local, []corev1.Container{{Name: "c", Image: "none"}}
	switch {
	case i == 0:
		p.Labels["app"] = "client"
	case i == 1:
		p.Labels["app"] = "server"
	case i >= here:
		p.Spec.NodeName = "other"
	}
	pods := n.api.CoreV1().Pods(p.Namespace)
	made, err := pods.Create(ctx, p, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	made.Status.Phase, made.Status.PodIP = corev1.PodRunning, podAddr(i).String()
	made.Status.PodIPs = []corev1.PodIP{{IP: made.Status.PodIP}}
	_, err = pods.UpdateStatus(ctx, made, metav1.UpdateOptions{})
	return err
}

// admit is a policy that lets the pods of an application be reached from those of another on a UDP and
// TCP port. With no other it lets them send anything anywhere.
func admit(name, namespace, app, from string, port int) *networkingv1.NetworkPolicy {
	np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	np.Spec.PodSelector.MatchLabels = map[string]string{"app": app}
	if from == "" {
		np.Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeEgress}
		np.Spec.Egress = []networkingv1.NetworkPolicyEgressRule{{}}
		return np
	}
	number, udp := intstr.FromInt(port), corev1.ProtocolUDP
	np.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{
		From: []networkingv1.NetworkPolicyPeer{{NamespaceSelector: &metav1.LabelSelector{},
			PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": from}}}},
		Ports: []networkingv1.NetworkPolicyPort{{Port: &number}, {Port: &number, Protocol: &udp}}}}
	return np
}
