package effect_test

import (
	"slices"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/policy/effect"
)

// If a selector matches no pod, the pods that it misses for one reason are reported.
func TestNearMatchesHaveOneReason(t *testing.T) {
	const byApp = `
metadata: {namespace: prod, name: p}
spec: {podSelector: {matchLabels: {app: agent}}, ingress: [{from: [{podSelector: {matchLabels: {app: db}}}]}]}`
	const byPeer = `
metadata: {namespace: prod, name: p}
spec: {podSelector: {matchLabels: {app: db}}, ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: prod}}, podSelector: {matchLabels: {app: agent}}}]}]}`
	agent := func(namespace, name string, change func(*compile.Pod)) *compile.Pod {
		p := newPod(namespace, name, "agent", "10.244.9.9")
		change(p)
		return p
	}
	onHost := func(p *compile.Pod) { p.HostNetwork = true }
	ended := func(p *compile.Pod) { p.Ended = true }
	nothing := func(*compile.Pod) {}
	for _, c := range []struct {
		name, policy string
		pods         []*compile.Pod
		rule         string
		want         []effect.NearMatch
	}{
		{"on the host network", byApp, []*compile.Pod{agent("prod", "b", onHost), agent("prod", "a", onHost)}, "/spec/podSelector",
			[]effect.NearMatch{{Reason: effect.OnHostNetwork, Pod: "prod/a", Pods: 2}}},
		{"ended", byApp, []*compile.Pod{agent("prod", "a", ended)}, "/spec/podSelector",
			[]effect.NearMatch{{Reason: effect.HasEnded, Pod: "prod/a", Pods: 1}}},
		{"elsewhere and ended", byApp, []*compile.Pod{agent("test", "a", nothing), agent("prod", "b", ended)}, "/spec/podSelector",
			[]effect.NearMatch{{Reason: effect.HasEnded, Pod: "prod/b", Pods: 1}, {Reason: effect.InOtherNamespace, Pod: "test/a", Pods: 1}}},
		{"elsewhere and on the host network", byApp, []*compile.Pod{agent("test", "a", onHost)}, "/spec/podSelector", nil},
		{"one that is selected", byApp, []*compile.Pod{agent("prod", "a", nothing), agent("prod", "b", ended)}, "/spec/podSelector", nil},
		{"a peer on the host network", byPeer, []*compile.Pod{agent("prod", "a", onHost)}, "/spec/ingress/0/from/0",
			[]effect.NearMatch{{Reason: effect.OnHostNetwork, Pod: "prod/a", Pods: 1}}},
		{"a peer elsewhere", byPeer, []*compile.Pod{agent("kube-system", "a", nothing), agent("test", "b", nothing)}, "/spec/ingress/0/from/0",
			[]effect.NearMatch{{Reason: effect.InOtherNamespace, Pod: "kube-system/a", Pods: 2}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := shopCluster()
			before.Pods = append(before.Pods, c.pods...)
			after := *before
			after.NetworkPolicies = append(slices.Clone(before.NetworkPolicies), parseYAML[networkingv1.NetworkPolicy](t, c.policy))
			for i := range c.want {
				c.want[i].Policy, c.want[i].Rule = "NetworkPolicy prod/p", c.rule
			}
			for name, e := range map[string]effect.Effect{"Of": effect.Compute(t.Context(), before, &after), "Memory.Of": new(effect.Calculator).Compute(t.Context(), before, &after)} {
				if !slices.Equal(e.Lint.NearMatches, c.want) {
					t.Errorf("%s: near matches are %v, want %v", name, e.Lint.NearMatches, c.want)
				}
			}
		})
	}
}

// The subject of a ClusterNetworkPolicy without pods has near matches too.
func TestASubjectOfNamespacesOnTheHostNetwork(t *testing.T) {
	before := shopCluster()
	p := newPod("edge", "proxy", "proxy", "192.0.2.7")
	p.HostNetwork = true
	before.Pods = append(before.Pods, p)
	before.Namespaces = append(before.Namespaces, &compile.Namespace{Name: "edge", Labels: map[string]string{"zone": "edge"}})
	after := *before
	after.ClusterNetworkPolicies = []*policyv1alpha2.ClusterNetworkPolicy{parseYAML[policyv1alpha2.ClusterNetworkPolicy](t, `
metadata: {name: edge}
spec: {tier: Admin, priority: 1, subject: {namespaces: {matchLabels: {zone: edge}}}, ingress: [{action: Deny, from: [{namespaces: {}}]}]}`)}
	want := []effect.NearMatch{{Policy: "ClusterNetworkPolicy edge", Rule: "/spec/subject", Reason: effect.OnHostNetwork, Pod: "edge/proxy", Pods: 1}}
	if got := effect.Compute(t.Context(), before, &after).Lint.NearMatches; !slices.Equal(got, want) {
		t.Errorf("near matches are %v, want %v", got, want)
	}
}
