// Package town makes clusters for measurements: Deployments, StatefulSets and Jobs in
// namespaces of teams, spread over nodes of a hundred pods, with the labels that Helm charts and
// controllers give them, and with policies between the parts of each application. Equal
// sizes give equal towns.
package workload

import (
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/tierwall/tierwall/api/v1alpha1"
)

const (
	podsPerNode      = 100
	podsPerNamespace = 50
	policiesPerSpace = 5
	replicas         = 5
	teams            = 40
)

var parts = [...]string{"web", "api", "db"}

// Town is the size of a cluster.
type Town struct{ Pods, Policies int }

// Nodes is how many nodes there are.
func (t Town) Nodes() int { return max(1, t.Pods/podsPerNode) }

// Namespaces is how many namespaces there are: enough for the pods, and for the policies.
func (t Town) Namespaces() int {
	return max(1, t.Pods/podsPerNamespace, t.Policies/policiesPerSpace)
}

// ClusterPolicies is how many ClusterNetworkPolicies there are; a cluster has few.
func (t Town) ClusterPolicies() int { return min(10, t.Policies/10) }

// Node is a node's name.
func Node(i int) string { return fmt.Sprintf("ip-10-%d-%d.region.compute.internal", i/256, i%256) }

func space(i int) string { return fmt.Sprintf("team-%d-project-%d", i%teams, i) }

// NodeObject is a node.
func (t Town) NodeObject(i int) *corev1.Node {
	cidrs := []string{fmt.Sprintf("10.%d.%d.0/24", i/256, i%256), fmt.Sprintf("fd00:10:%x::/64", i)}
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: Node(i), Labels: map[string]string{
			"kubernetes.io/hostname": Node(i), "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
			"topology.kubernetes.io/zone": fmt.Sprint("zone-", i%3), "node.kubernetes.io/instance-type": "large"}},
		Spec: corev1.NodeSpec{PodCIDRs: cidrs, PodCIDR: cidrs[0]},
		Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: fmt.Sprintf("192.168.%d.%d", i/256, i%256)},
			{Type: corev1.NodeHostName, Address: Node(i)}}},
	}
}

// Namespace is a namespace.
func (t Town) Namespace(i int) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: space(i), Labels: map[string]string{
		corev1.LabelMetadataName: space(i), "team": fmt.Sprint("team-", i%teams), "environment": [...]string{"live", "staging"}[i%2],
		"pod-security.kubernetes.io/enforce": "restricted"}}}
}

// TierRole gives the database of a namespace its role.
func (t Town) TierRole(i int) *v1alpha1.TierRole {
	return &v1alpha1.TierRole{ObjectMeta: metav1.ObjectMeta{Name: "data-" + space(i)},
		Spec: v1alpha1.TierRoleSpec{Role: "data", Namespaces: []string{space(i)}, ServiceAccounts: []string{"db"}}}
}

// TierRoles is how many TierRoles there are.
func (t Town) TierRoles() int { return t.Namespaces() / 2 }

// Pod is a pod with addresses of its own. Of a hundred, five are of StatefulSets and three of Jobs, and have
// labels like no other; the rest share theirs with the other replicas of their Deployment.
func (t Town) Pod(i int) *corev1.Pod {
	d := i / replicas
	part := parts[d%len(parts)]
	hash := fmt.Sprintf("%08x", uint32(d)*2654435761)
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: space(d % t.Namespaces()), Name: fmt.Sprintf("%s-%s-%05x", part, hash, i),
			UID: uid(i), CreationTimestamp: metav1.Unix(1_700_000_000+int64(d), 0),
			Labels: map[string]string{
				"app": part, "pod-template-hash": hash, "version": fmt.Sprint("v", d%4), "tier": part,
				"app.kubernetes.io/name": part, "app.kubernetes.io/instance": "release-" + hash[:4],
				"app.kubernetes.io/managed-by": "Helm", "helm.sh/chart": part + "-1.2.3",
			},
		},
		Spec: corev1.PodSpec{NodeName: Node(i % t.Nodes()), ServiceAccountName: part,
			Containers: []corev1.Container{{Name: part, Image: "registry.example/" + part + ":v1", Ports: []corev1.ContainerPort{
				{Name: "http", ContainerPort: 8080 + int32(d%3)}, {Name: "metrics", ContainerPort: 9090}}}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIPs: addresses(i)},
	}
	p.Status.PodIP = p.Status.PodIPs[0].IP
	if part == "db" && d%t.Namespaces() < t.TierRoles() {
		p.Labels[v1alpha1.RoleLabel] = "data" // as the webhook does
	}
	switch n := i % 100; {
	case n < 5:
		p.Name = fmt.Sprintf("%s-%s-%d", part, hash, i)
		delete(p.Labels, "pod-template-hash")
		p.Labels["statefulset.kubernetes.io/pod-name"], p.Labels["apps.kubernetes.io/pod-index"] = p.Name, fmt.Sprint(i%7)
	case n < 8:
		delete(p.Labels, "pod-template-hash")
		p.Labels["batch.kubernetes.io/controller-uid"], p.Labels["batch.kubernetes.io/job-name"] = string(uid(i+1)), "job-"+hash
	}
	return p
}

func addresses(i int) []corev1.PodIP {
	v4 := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
	v6 := netip.AddrFrom16([16]byte{0xfd, 0, 0, 0x10, 12: byte(i >> 24), 13: byte(i >> 16), 14: byte(i >> 8), 15: byte(i)})
	return []corev1.PodIP{{IP: v4.String()}, {IP: v6.String()}}
}

// Policy is a NetworkPolicy: what one part of an application takes from another, and what it may reach.
func (t Town) Policy(i int) *networkingv1.NetworkPolicy {
	own, other := parts[i%len(parts)], parts[(i+2)%len(parts)]
	number, name, dns := intstr.FromInt32(5000+int32(i%50)), intstr.FromString("http"), intstr.FromInt32(53)
	udp := corev1.ProtocolUDP
	with := func(labels map[string]string) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchLabels: labels}
	}
	return &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: space(i % t.Namespaces()), Name: fmt.Sprint(own, "-", i)},
		Spec: networkingv1.NetworkPolicySpec{
			PodSelector: *with(map[string]string{"app.kubernetes.io/name": own}),
			PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress},
			Ingress: []networkingv1.NetworkPolicyIngressRule{
				{From: []networkingv1.NetworkPolicyPeer{{PodSelector: with(map[string]string{"app": other})}},
					Ports: []networkingv1.NetworkPolicyPort{{Port: &number}, {Port: &name}}},
				{From: []networkingv1.NetworkPolicyPeer{{
					NamespaceSelector: with(map[string]string{"team": fmt.Sprint("team-", i%teams)}),
					PodSelector:       with(map[string]string{"app": other, "version": fmt.Sprint("v", i%4)})}}},
			},
			Egress: []networkingv1.NetworkPolicyEgressRule{
				{To: []networkingv1.NetworkPolicyPeer{{IPBlock: &networkingv1.IPBlock{CIDR: "0.0.0.0/0", Except: []string{"10.0.0.0/8", "192.168.0.0/16"}}}}},
				{To: []networkingv1.NetworkPolicyPeer{{NamespaceSelector: with(map[string]string{"environment": "live"}), PodSelector: with(map[string]string{"app": "api"})}},
					Ports: []networkingv1.NetworkPolicyPort{{Port: &name}, {Port: &dns, Protocol: &udp}}},
			},
		},
	}
}

// ClusterPolicy is an administrator's policy for the namespaces of some teams.
func (t Town) ClusterPolicy(i int) *policyv1alpha2.ClusterNetworkPolicy {
	p := &policyv1alpha2.ClusterNetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("guard-", i)}}
	p.Spec.Tier, p.Spec.Priority = policyv1alpha2.AdminTier, int32(i)
	p.Spec.Subject.Namespaces = &metav1.LabelSelector{MatchLabels: map[string]string{"team": fmt.Sprint("team-", i)}}
	if i%3 == 0 {
		p.Spec.Subject.Namespaces = &metav1.LabelSelector{}
	}
	p.Spec.Egress = []policyv1alpha2.ClusterNetworkPolicyEgressRule{{
		Action: policyv1alpha2.ClusterNetworkPolicyRuleActionDeny,
		To:     []policyv1alpha2.ClusterNetworkPolicyEgressPeer{{Networks: []policyv1alpha2.CIDR{policyv1alpha2.CIDR(fmt.Sprintf("169.254.%d.0/24", i))}}},
	}}
	return p
}
