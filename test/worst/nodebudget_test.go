package main

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/policy/eval"
)

const (
	crowdedNamespaces = 12
	selectorsOfEach   = 90
)

// crowdedCluster has two nodes with a pod of each namespace. The policy of each namespace is within its budgets, and all
// of them together exceed those of a node.
func crowdedCluster() *compile.Snapshot {
	s := &compile.Snapshot{Defaults: policy.Defaults{Action: policy.Allow}}
	for at, node := range []string{"here", "there"} {
		s.Nodes = append(s.Nodes, &compile.Node{Name: node, Addrs: []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, byte(at + 1)})},
			PodCIDRs: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(at + 1), 0}), 24)}})
		for n := range crowdedNamespaces {
			s.Pods = append(s.Pods, &compile.Pod{Namespace: fmt.Sprintf("ns-%02d", n), Name: node, Node: node,
				Labels: map[string]string{"app": "web", "k0": "v"}, Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, byte(at + 1), byte(n + 1)})}})
		}
	}
	for n := range crowdedNamespaces {
		name := fmt.Sprintf("ns-%02d", n)
		s.Namespaces = append(s.Namespaces, &compile.Namespace{Name: name})
		rule := networkingv1.NetworkPolicyIngressRule{}
		for k := range selectorsOfEach {
			rule.From = append(rule.From, networkingv1.NetworkPolicyPeer{NamespaceSelector: &metav1.LabelSelector{},
				PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{fmt.Sprint("k", k): "v"}}})
		}
		s.NetworkPolicies = append(s.NetworkPolicies, &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: "many"},
			Spec: networkingv1.NetworkPolicySpec{PolicyTypes: []networkingv1.PolicyType{"Ingress"}, Ingress: []networkingv1.NetworkPolicyIngressRule{rule}}})
	}
	return s
}

// The webhook judges policies without a node, since pods are scheduled after they are admitted. What a node has no room
// for is closed there, so that a node allows nothing that was not judged.
func TestANodeOverItsBudgetAllowsNothingThatWasNotJudged(t *testing.T) {
	s := crowdedCluster()
	for _, np := range s.NetworkPolicies {
		if over := compile.ExceededBudgets(&compile.Snapshot{}, s, np.Namespace, np.Name); len(over) > 0 {
			t.Fatalf("%s is refused at admission: %v", np.Namespace, over)
		}
	}
	judged, problems := compile.Compile(s, "")
	if len(problems) > 0 {
		t.Fatalf("without a node: %v", problems)
	}
	all := eval.New(judged)
	for _, node := range s.Nodes {
		program, problems := compile.Compile(s, node.Name)
		closed := map[string]bool{}
		for _, p := range problems {
			if !strings.Contains(p.Message, "on a node") {
				t.Errorf("%s: %v", node.Name, p)
			}
			closed[p.ID.Namespace] = true
		}
		if open := crowdedNamespaces - len(closed); open == 0 || open*(selectorsOfEach-20) > compile.MaxNodeSetsPerPod {
			t.Errorf("%s: %d namespaces are open", node.Name, open)
		}
		own, allowed := eval.New(program), 0
		for _, from := range s.Pods {
			for _, to := range s.Pods {
				if to.Node != node.Name || from == to {
					continue
				}
				f := policy.Flow{Source: from.Addrs[0], Destination: to.Addrs[0], Protocol: policy.TCP, DestinationPort: 80}
				want := all.Decide(f).Verdict
				if closed[to.Namespace] || from.Node == node.Name && closed[from.Namespace] {
					want = policy.Deny
				}
				on := own.Decide(f).Verdict
				if on != want {
					t.Errorf("%s: from %s/%s to %s/%s it is %v, want %v", node.Name, from.Namespace, from.Name, to.Namespace, to.Name, on, want)
				}
				if on == policy.Allow {
					allowed++
				}
			}
		}
		if allowed == 0 {
			t.Errorf("%s: nothing is allowed", node.Name)
		}
	}
}
