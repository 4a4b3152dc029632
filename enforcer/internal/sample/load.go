package sample

import (
	"fmt"
	"net/netip"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
)

// Load is a cluster with pods on the node that is measured, others elsewhere, and policies of
// which each local pod has about two, and the first one a tenth of all.
type Load struct {
	Local, Remote, Policies int
	// Dense has each policy select all pods of its namespace, so that each pod has a tenth of all,
	// and admit all pods of another namespace.
	Dense bool
}

func (l Load) String() string {
	if l.Dense {
		return fmt.Sprintf("%d pods, %d elsewhere, %d policies, %d on each pod", l.Local, l.Remote, l.Policies, l.Policies/namespaces)
	}
	return fmt.Sprintf("%d pods, %d elsewhere, %d policies", l.Local, l.Remote, l.Policies)
}

// Loads are those that are measured.
var Loads = []Load{{Local: 54, Remote: 450, Policies: 10}, {Local: 54, Remote: 450, Policies: 1000}, {Local: 250, Remote: 250, Policies: 1000},
	{Local: 54, Remote: 10_000, Policies: 1000}, {Local: 54, Remote: 450, Policies: 1000, Dense: true}}

const namespaces, apps = 10, 50

// Snapshot is the cluster.
func (l Load) Snapshot() *compile.Snapshot {
	s := &compile.Snapshot{Defaults: policy.Defaults{Action: policy.Deny}}
	s.Nodes = []*compile.Node{
		{Name: "node", Addrs: []netip.Addr{netip.MustParseAddr("192.168.0.1")}, PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/23")}},
		{Name: "other", Addrs: []netip.Addr{netip.MustParseAddr("192.168.0.2")}, PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.64.0.0/10")}},
	}
	for i := range namespaces {
		s.Namespaces = append(s.Namespaces, &compile.Namespace{Name: fmt.Sprint("ns-", i), Labels: map[string]string{"kubernetes.io/metadata.name": fmt.Sprint("ns-", i)}})
	}
	for i := range l.Local + l.Remote {
		p := &compile.Pod{Namespace: fmt.Sprint("ns-", i%namespaces), Name: fmt.Sprint("pod-", i), UID: types.UID(fmt.Sprint(i)), Node: "node",
			Labels: map[string]string{"app": fmt.Sprint("app-", i/namespaces%apps)},
			Addrs:  []netip.Addr{netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i + 2)})}}
		if i >= l.Local {
			p.Node, p.Addrs = "other", []netip.Addr{netip.AddrFrom4([4]byte{10, 64, byte(i >> 8), byte(i)})}
		}
		s.Pods = append(s.Pods, p)
	}
	for i := range l.Policies {
		s.NetworkPolicies = append(s.NetworkPolicies, l.policyOf(i))
	}
	return s
}

// policyOf admits one application to a port of another; every tenth is about the first pod.
func (l Load) policyOf(i int) *networkingv1.NetworkPolicy {
	namespace, app := i%namespaces, i/namespaces%apps
	if i%10 == 0 && !l.Dense {
		namespace, app = 0, 0
	}
	port := intstr.FromInt32(int32(5000 + i%97))
	np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: fmt.Sprint("ns-", namespace), Name: fmt.Sprint("np-", i)}}
	np.Spec.PodSelector.MatchLabels = map[string]string{"app": fmt.Sprint("app-", app)}
	np.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{
		From: []networkingv1.NetworkPolicyPeer{{NamespaceSelector: &metav1.LabelSelector{}, PodSelector: &metav1.LabelSelector{
			MatchLabels: map[string]string{"app": fmt.Sprint("app-", (i*7+1)%apps)}}}},
		Ports: []networkingv1.NetworkPolicyPort{{Port: &port}}}}
	if l.Dense {
		np.Spec.PodSelector = metav1.LabelSelector{}
		np.Spec.Ingress[0].From[0] = networkingv1.NetworkPolicyPeer{NamespaceSelector: &metav1.LabelSelector{
			MatchLabels: map[string]string{"kubernetes.io/metadata.name": fmt.Sprint("ns-", (i/namespaces*7+1)%namespaces)}}}
	}
	return np
}

// Changes are snapshots that differ in one thing.
func (l Load) Changes() map[string]*compile.Snapshot {
	member, policies, pod, label := l.Snapshot(), l.Snapshot(), l.Snapshot(), l.Snapshot()
	member.Pods = member.Pods[:len(member.Pods)-1]
	policies.NetworkPolicies = append(policies.NetworkPolicies, l.policyOf(l.Policies+11))
	pod.Pods = append(pod.Pods[:l.Local/2:l.Local/2], pod.Pods[l.Local/2+1:]...)
	other := *label.Pods[len(label.Pods)-1]
	other.Labels = map[string]string{"app": "app-3"}
	label.Pods[len(label.Pods)-1] = &other
	mine := l.Snapshot()
	mine.NetworkPolicies = append(mine.NetworkPolicies, l.policyOf((l.Policies/10+1)*10))
	return map[string]*compile.Snapshot{"a pod elsewhere": member, "a label elsewhere": label, "a policy": policies,
		"a policy of the pod that has many": mine, "a local pod": pod}
}
