package chart

import (
	"net/netip"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/policy/eval"
)

// Who might ask the webhook, by address. Nodes n1 and n2 have the pod networks
// 10.1.0.0/24 and 10.2.0.0/24; the webhook is on n1.
var (
	webhookPod    = netip.MustParseAddr("10.1.0.2")
	ordinaryPod   = netip.MustParseAddr("10.2.0.3")
	neighbour     = netip.MustParseAddr("10.1.0.4") // in the webhook's namespace, on its node
	tunnel        = netip.MustParseAddr("10.2.0.5") // in kube-system
	ownNode       = netip.MustParseAddr("192.168.0.1")
	otherNode     = netip.MustParseAddr("192.168.0.2") // and so the host-network API server on it
	otherBridge   = netip.MustParseAddr("10.2.0.1")    // node n2 inside of its pod network
	outsideServer = netip.MustParseAddr("203.0.113.9") // an API server that is on no node
)

// shielded is a cluster with the policies and labels that the chart renders.
func shielded(t *testing.T, args ...string) *policy.Program {
	t.Helper()
	s := &compile.Snapshot{
		Nodes: []*compile.Node{
			{Name: "n1", Addrs: []netip.Addr{ownNode}, PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24")}},
			{Name: "n2", Addrs: []netip.Addr{otherNode, otherBridge}, PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.2.0.0/24")}},
		},
		Defaults: policy.Defaults{Action: policy.Allow, Exempt: []string{"kube-system", namespace}},
	}
	for _, name := range []string{"default", "kube-system", namespace} {
		s.Namespaces = append(s.Namespaces, &compile.Namespace{Name: name, Labels: map[string]string{"kubernetes.io/metadata.name": name}})
	}
	pod := func(namespace, name, node string, labels map[string]string, a netip.Addr) {
		s.Pods = append(s.Pods, &compile.Pod{Namespace: namespace, Name: name, Node: node, Labels: labels, Addrs: []netip.Addr{a}})
	}
	pod("default", "ordinary", "n2", nil, ordinaryPod)
	pod("kube-system", "tunnel", "n2", nil, tunnel)
	pod(namespace, "neighbour", "n1", nil, neighbour)
	for _, o := range objects(t, variant{args: args}) {
		switch o := o.Object.(type) {
		case *policyv1alpha2.ClusterNetworkPolicy:
			s.ClusterNetworkPolicies = append(s.ClusterNetworkPolicies, o)
		case *appsv1.Deployment:
			pod(namespace, "webhook", "n1", o.Spec.Template.Labels, webhookPod)
		}
	}
	program, problems := compile.Compile(s, "")
	if len(problems) > 0 {
		t.Fatalf("the chart's policies: %v", problems)
	}
	return program
}

// TestOnlyAPIServersAskTheWebhook, and whoever may read them reads its metrics.
func TestOnlyAPIServersAskTheWebhook(t *testing.T) {
	tests := []struct {
		name string
		from netip.Addr
		port uint16
		want policy.Verdict
	}{
		{"an API server on no node", outsideServer, 9443, policy.Allow},
		{"an API server on another node", otherNode, 9443, policy.Allow},
		{"an API server on another node, by its pod network", otherBridge, 9443, policy.Allow},
		{"an API server on the same node", ownNode, 9443, policy.Allow},
		{"an API server through a tunnel in kube-system", tunnel, 9443, policy.Allow},
		{"a pod", ordinaryPod, 9443, policy.Deny},
		{"a pod beside it", neighbour, 9443, policy.Deny},
		{"a pod that reads metrics", ordinaryPod, 8443, policy.Allow},
	}
	program := shielded(t)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := eval.Decide(program, policy.Flow{
				Source: test.from, Destination: webhookPod, Protocol: policy.TCP, DestinationPort: test.port,
			})
			if got.Verdict != test.want {
				t.Errorf("%v, want %v: %+v", got.Verdict, test.want, got.Ingress)
			}
		})
	}
}

func TestShieldCanBeLeftOut(t *testing.T) {
	got := eval.Decide(shielded(t, "--set", "webhook.shield=false"), policy.Flow{
		Source: ordinaryPod, Destination: webhookPod, Protocol: policy.TCP, DestinationPort: 9443,
	})
	if got.Verdict != policy.Allow {
		t.Errorf("without the shield a pod's question is denied: %+v", got.Ingress)
	}
}

// TestShieldIsOnTheWebhooksPort: what is shielded is what the Service leads to.
func TestShieldIsOnTheWebhooksPort(t *testing.T) {
	for _, o := range objects(t, variant{}) {
		d, ok := o.Object.(*appsv1.Deployment)
		if !ok {
			continue
		}
		for _, p := range d.Spec.Template.Spec.Containers[0].Ports {
			if p.Name == "webhook" && p.ContainerPort != 9443 {
				t.Errorf("the webhook listens on %d, the shield is on 9443", p.ContainerPort)
			}
		}
	}
}
