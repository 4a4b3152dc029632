//go:build netns

package packets

import (
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
)

// load is a node with pods, and the policies of its cluster, of which some select the server.
type load struct {
	pods, policies int
	// tenth says that a tenth of all policies select the server, else two do.
	tenth bool
}

func (l load) String() string {
	return fmt.Sprintf("pods=%d policies=%d of the server=%s", l.pods, l.policies, l.selecting())
}

// selecting is how many policies select the server.
func (l load) selecting() string {
	if l.tenth {
		return fmt.Sprint(l.policies/10 + 1)
	}
	return fmt.Sprint(min(l.policies, 1) + 1)
}

// loads are what the rules are made for.
var loads = allLoads()

func allLoads() []load {
	var all []load
	for _, pods := range []int{10, 54, 250, 500} {
		for _, policies := range []int{0, 10, 100, 1000} {
			all = append(all, load{pods: pods, policies: policies})
			if policies >= 100 {
				all = append(all, load{pods, policies, true})
			}
		}
	}
	return all
}

const (
	elsewhere  = 450
	namespaces = 10
	apps       = 50
	// port is the one that the server's last policy admits.
	port = 9000
)

var (
	nodeAddr   = netip.MustParseAddr("192.168.0.1")
	clientAddr = netip.MustParseAddr("10.0.2.136")
	serverAddr = netip.MustParseAddr("10.0.2.137")
	// elsewhereAddr is a client's on the other node.
	elsewhereAddr = netip.MustParseAddr("10.64.200.2")
)

// program is the node's program. The client may reach the server; the policy that says so is the last.
func (l load) program() *policy.Program {
	s := &compile.Snapshot{Defaults: policy.Defaults{Action: policy.Allow}, Nodes: []*compile.Node{
		{Name: "node", Addrs: []netip.Addr{nodeAddr}, PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/22")}},
		{Name: "other", Addrs: []netip.Addr{netip.MustParseAddr("192.168.0.2")}, PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.64.0.0/16")}},
	}}
	for i := range namespaces {
		s.Namespaces = append(s.Namespaces, &compile.Namespace{Name: fmt.Sprint("ns-", i)})
	}
	for i := range l.pods + elsewhere {
		p := &compile.Pod{Namespace: fmt.Sprint("ns-", i%namespaces), Name: fmt.Sprint("pod-", i), UID: types.UID(fmt.Sprint(i)), Node: "node",
			Labels: map[string]string{"app": fmt.Sprint("app-", i/namespaces%apps)}, Addrs: []netip.Addr{l.address(i)}}
		switch {
		case i == 0:
			p.Labels["app"] = "client"
		case i == 1:
			p.Labels["app"] = "server"
		case i >= l.pods:
			p.Node, p.Addrs = "other", []netip.Addr{netip.AddrFrom4([4]byte{10, 64, byte(i >> 8), byte(i)})}
		}
		s.Pods = append(s.Pods, p)
	}
	s.Pods = append(s.Pods, &compile.Pod{Namespace: "ns-0", Name: "elsewhere", UID: "elsewhere", Node: "other",
		Labels: map[string]string{"app": "client"}, Addrs: []netip.Addr{elsewhereAddr}})
	for i := range l.policies {
		s.NetworkPolicies = append(s.NetworkPolicies, l.policy(i))
	}
	s.NetworkPolicies = append(s.NetworkPolicies, admit("zz-last", "ns-1", "server", "client", port))
	p, _ := compile.Compile(s, "node")
	return p
}

// address is that of a pod of the node. The client and the server, which are the first, are amid the others:
// where rules are looked through one by one, as with iptables, their place counts.
func (l load) address(i int) netip.Addr {
	if i > 1 && i-1 <= l.pods/2 {
		i = 1 - i
	} else if i > 1 {
		i -= l.pods / 2
	}
	a := clientAddr.As4()
	n := int(a[2])<<8 + int(a[3]) + i
	return netip.AddrFrom4([4]byte{a[0], a[1], byte(n >> 8), byte(n)})
}

func (l load) policy(i int) *networkingv1.NetworkPolicy {
	namespace, app := fmt.Sprint("ns-", i%namespaces), fmt.Sprint("app-", i/namespaces%apps)
	if l.tenth && i%10 == 0 || !l.tenth && i == 0 {
		namespace, app = "ns-1", "server"
	}
	return admit(fmt.Sprint("np-", i), namespace, app, fmt.Sprint("app-", (i*7+1)%apps), 6000+i%97)
}

// admit is a policy that lets the pods of one application reach a port of those of another.
func admit(name, namespace, app, from string, port int) *networkingv1.NetworkPolicy {
	number, udp := intstr.FromInt32(int32(port)), corev1.ProtocolUDP
	np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	np.Spec.PodSelector.MatchLabels = map[string]string{"app": app}
	np.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{
		From: []networkingv1.NetworkPolicyPeer{{NamespaceSelector: &metav1.LabelSelector{},
			PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": from}}}},
		Ports: []networkingv1.NetworkPolicyPort{{Port: &number}, {Port: &number, Protocol: &udp}}}}
	return np
}
