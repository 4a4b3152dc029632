package compile

import (
	"fmt"
	"net/netip"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/policy"
)

// town is a cluster of namespaces that each hold an application of three tiers, spread
// over the nodes, with policies between the tiers.
func town(pods, policies, nodes int) *Snapshot {
	const perNamespace = 50
	s := &Snapshot{Defaults: policy.Defaults{Action: policy.Deny}}
	for i := range nodes {
		s.Nodes = append(s.Nodes, &Node{
			Name:     fmt.Sprint("node-", i),
			Addrs:    []netip.Addr{netip.AddrFrom4([4]byte{192, 168, byte(i >> 8), byte(i)})},
			PodCIDRs: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24)},
		})
	}
	namespaces := (pods + perNamespace - 1) / perNamespace
	for i := range namespaces {
		s.Namespaces = append(s.Namespaces, &Namespace{Name: fmt.Sprint("ns-", i), Labels: map[string]string{
			nameLabel: fmt.Sprint("ns-", i), "team": fmt.Sprint(i % 10)}})
		tr := &v1alpha1.TierRole{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("data-", i)}}
		tr.Spec = v1alpha1.TierRoleSpec{Role: "data", Namespaces: []string{fmt.Sprint("ns-", i)}, ServiceAccounts: []string{"db"}}
		s.TierRoles = append(s.TierRoles, tr)
	}
	for i := range pods {
		s.Pods = append(s.Pods, resident(i, namespaces, nodes))
	}
	for i := range policies {
		s.NetworkPolicies = append(s.NetworkPolicies, ordinance(i, namespaces))
	}
	return s
}

func resident(i, namespaces, nodes int) *Pod {
	app := []string{"web", "api", "db"}[i%3]
	v6 := [16]byte{0xfd, 12: byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)}
	return &Pod{
		Namespace: fmt.Sprint("ns-", i%namespaces), Name: fmt.Sprint("pod-", i), UID: types.UID(fmt.Sprint(i)),
		Node: fmt.Sprint("node-", i/7%nodes), ServiceAccount: app,
		Labels: map[string]string{"app": app, "pod-template-hash": fmt.Sprint(i % 1000), "version": fmt.Sprint(i % 4), "part-of": "town"},
		Addrs:  []netip.Addr{netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), netip.AddrFrom16(v6)},
		Ports:  []NamedPort{{Name: "http", Protocol: policy.TCP, Port: uint16(8080 + i%3)}},
	}
}

func ordinance(i, namespaces int) *networkingv1.NetworkPolicy {
	app := []string{"web", "api", "db"}[i%3]
	from := []string{"web", "api", "db"}[(i+2)%3]
	number, name := intstr.FromInt32(int32(5000+i%50)), intstr.FromString("http")
	np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: fmt.Sprint("ns-", i%namespaces), Name: fmt.Sprint("np-", i)}}
	np.Spec = networkingv1.NetworkPolicySpec{
		PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{"app": app}},
		Ingress: []networkingv1.NetworkPolicyIngressRule{
			{From: []networkingv1.NetworkPolicyPeer{{PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": from}}}},
				Ports: []networkingv1.NetworkPolicyPort{{Port: &number}, {Port: &name}}},
			{From: []networkingv1.NetworkPolicyPeer{{
				NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"team": fmt.Sprint(i % 10)}},
				PodSelector:       &metav1.LabelSelector{MatchLabels: map[string]string{"app": from, "version": fmt.Sprint(i % 4)}}}}},
		},
		Egress: []networkingv1.NetworkPolicyEgressRule{
			{To: []networkingv1.NetworkPolicyPeer{{IPBlock: &networkingv1.IPBlock{CIDR: "0.0.0.0/0", Except: []string{"10.0.0.0/8", "192.168.0.0/16"}}}}},
			{To: []networkingv1.NetworkPolicyPeer{{NamespaceSelector: &metav1.LabelSelector{}}}, Ports: []networkingv1.NetworkPolicyPort{{Port: &name}}},
		},
	}
	return np
}

func BenchmarkCompile(b *testing.B) {
	for _, size := range []struct{ pods, policies, nodes int }{{500, 100, 5}, {1000, 100, 10}, {10000, 1000, 100}} {
		s := town(size.pods, size.policies, size.nodes)
		for _, node := range []string{"node-1", ""} {
			name := fmt.Sprintf("%d pods, %d policies, one node", size.pods, size.policies)
			if node == "" {
				name = fmt.Sprintf("%d pods, %d policies, all nodes", size.pods, size.policies)
			}
			b.Run(name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					Compile(s, node)
				}
			})
		}
	}
}
