package clustercache

import (
	"fmt"
	"reflect"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
)

func labelled(labels map[string]string, ports ...compile.NamedPort) *compile.Pod {
	return &compile.Pod{Namespace: "prod", Node: "n1", ServiceAccount: "default", Labels: labels, Ports: ports}
}

func TestPodsThatAreAlikeShareTheirLabelsAndPorts(t *testing.T) {
	port := func(name string, n uint16) compile.NamedPort {
		return compile.NamedPort{Name: name, Protocol: policy.TCP, Port: n}
	}
	given := func() []*compile.Pod {
		return []*compile.Pod{
			labelled(map[string]string{"app": "web", "tier": "front"}, port("http", 80), port("admin", 81)),
			labelled(map[string]string{"tier": "front", "app": "web"}, port("http", 80), port("admin", 81)),
			labelled(map[string]string{"app": "web", "tier": "fron"}, port("http", 80)),
			labelled(map[string]string{"app": "we", "btier": "front"}, port("admin", 81), port("http", 80)),
			labelled(nil),
			labelled(map[string]string{}),
		}
	}
	shared := given()
	s := &sharer{}
	for i, p := range shared {
		s.pod(p)
		if !reflect.DeepEqual(p, given()[i]) {
			t.Errorf("pod %d was %+v, and is %+v", i, given()[i], p)
		}
	}
	at := func(p *compile.Pod) uintptr { return reflect.ValueOf(p.Labels).Pointer() }
	if at(shared[0]) != at(shared[1]) || &shared[0].Ports[0] != &shared[1].Ports[0] {
		t.Error("pods that are alike hold a copy each")
	}
}

func TestPoliciesShareTheirSelectors(t *testing.T) {
	selector := func(app string) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}
	}
	peers := func(app string) []networkingv1.NetworkPolicyPeer {
		return []networkingv1.NetworkPolicyPeer{{PodSelector: selector(app)}, {NamespaceSelector: selector(app)}, {IPBlock: &networkingv1.IPBlock{}}}
	}
	given := func() *networkingv1.NetworkPolicy {
		return &networkingv1.NetworkPolicy{Spec: networkingv1.NetworkPolicySpec{PodSelector: *selector("web"),
			Ingress: []networkingv1.NetworkPolicyIngressRule{{From: peers("web")}, {From: peers("api")}},
			Egress:  []networkingv1.NetworkPolicyEgressRule{{To: peers("web")}, {}}}}
	}
	np := given()
	(&sharer{}).networkPolicy(np)
	if !reflect.DeepEqual(np, given()) {
		t.Errorf("%+v became %+v", given(), np)
	}
	at := func(s *metav1.LabelSelector) uintptr { return reflect.ValueOf(s.MatchLabels).Pointer() }
	for _, s := range []*metav1.LabelSelector{np.Spec.Ingress[0].From[0].PodSelector, np.Spec.Ingress[0].From[1].NamespaceSelector, np.Spec.Egress[0].To[0].PodSelector} {
		if at(s) != at(&np.Spec.PodSelector) {
			t.Error("a selector has labels of its own")
		}
	}
}

// Labels may be as many as there are pods; what is kept to be shared must not grow with them.
func TestSharingKeepsNoMoreThanTwoGenerations(t *testing.T) {
	s := &sharer{}
	for i := range 5 * generation {
		s.pod(labelled(map[string]string{"job": fmt.Sprint(i)}))
		if n := len(s.labels.young) + len(s.labels.old); n > 2*generation {
			t.Fatalf("%d label sets are kept", n)
		}
	}
	if n := len(s.texts.young) + len(s.texts.old); n > 2*generation {
		t.Errorf("%d texts are kept, want those of two generations", n)
	}
}
