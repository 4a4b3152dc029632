//go:build netns

package revoke_test

import (
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/test/netns"
)

// The cluster of the causes: who has the role, the label and the namespace's label
// reaches the server, which is reached by nobody else, and reaches the other pod alone.
func cluster() *compile.Update {
	u := &compile.Update{}
	for _, h := range hosts {
		u.Nodes.Set(types.NamespacedName{Name: h.Name}, &compile.Node{Name: h.Name, Addrs: h.Addrs, PodCIDRs: h.PodCIDRs})
	}
	for _, name := range []string{"test", "shop"} {
		setNamespace(u, name, "friends")
	}
	setRole(u, "backend", "test", "shop")
	for _, e := range pods {
		setPod(u, e, "yes")
	}
	selector := func(key, value string) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchLabels: map[string]string{key: value}}
	}
	from := *selector(v1alpha1.RoleLabel, "backend")
	from.MatchLabels["may"] = "yes"
	u.NetworkPolicies.Set(types.NamespacedName{Namespace: "test", Name: "server"}, &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: "test", Name: "server"},
		Spec: networkingv1.NetworkPolicySpec{PodSelector: *selector("name", "server"), PolicyTypes: []networkingv1.PolicyType{"Ingress", "Egress"},
			Egress:  []networkingv1.NetworkPolicyEgressRule{{To: []networkingv1.NetworkPolicyPeer{{PodSelector: selector("name", "other")}}}},
			Ingress: []networkingv1.NetworkPolicyIngressRule{{From: []networkingv1.NetworkPolicyPeer{{PodSelector: &from, NamespaceSelector: selector("team", "friends")}}}}},
	})
	return u
}

func setNamespace(u *compile.Update, name, team string) {
	u.Namespaces.Set(types.NamespacedName{Name: name}, &compile.Namespace{Name: name, Labels: map[string]string{"kubernetes.io/metadata.name": name, "team": team}})
}

func setRole(u *compile.Update, role string, namespaces ...string) {
	u.TierRoles.Set(types.NamespacedName{Name: "role"}, &v1alpha1.TierRole{ObjectMeta: metav1.ObjectMeta{Name: "role"},
		Spec: v1alpha1.TierRoleSpec{Role: role, Namespaces: namespaces}})
}

// setPod is a pod; the client's namespace is another than the others'.
func setPod(u *compile.Update, e policy.Endpoint, may string) *compile.Pod {
	p := &compile.Pod{Namespace: namespaceOf(e), Name: e.Name, Node: e.Node, Addrs: e.Addrs, Labels: map[string]string{"name": e.Name, "may": may}}
	u.Pods.Set(types.NamespacedName{Namespace: p.Namespace, Name: p.Name}, p)
	return p
}

func namespaceOf(e policy.Endpoint) string {
	if e.Name == client.Name || e.Name == stranger.Name {
		return "shop"
	}
	return "test"
}

// causes are changes that deny the connection of the client, or those of a pod on
// another node, and not that of the other pod.
var causes = map[string]struct {
	from  string
	cause func(u *compile.Update)
}{
	"the pod's label":                  {"client", func(u *compile.Update) { setPod(u, client, "no") }},
	"a pod's label on another node":    {"stranger", func(u *compile.Update) { setPod(u, stranger, "no") }},
	"the namespace's label":            {"client", func(u *compile.Update) { setNamespace(u, "shop", "foes") }},
	"the role":                         {"client", func(u *compile.Update) { setRole(u, "backend", "test") }},
	"a role on another node":           {"stranger", func(u *compile.Update) { setRole(u, "backend", "test") }},
	"the pod's end":                    {"client", func(u *compile.Update) { setPod(u, client, "yes").Ended = true }},
	"the end of a pod on another node": {"stranger", func(u *compile.Update) { setPod(u, stranger, "yes").Ended = true }},
	"the pod's deletion":               {"client", func(u *compile.Update) { u.Pods.Set(types.NamespacedName{Namespace: "shop", Name: "client"}, nil) }},
	"a policy of the server's":         {"client", func(u *compile.Update) { narrow(u, "test") }},
	"a policy of the client's":         {"client", isolate},
	"an administrator's policy":        {"client", func(u *compile.Update) { deny(u, "shop") }},
	"one that concerns another node's": {"stranger", func(u *compile.Update) { deny(u, "shop") }},
	"several at once, of which one opens": {"client", func(u *compile.Update) {
		setRole(u, "frontend", "shop")
		setRole(u, "backend", "test")
		setPod(u, server, "no")
	}},
}

// narrow has the server admit the pods of one namespace alone.
func narrow(u *compile.Update, namespace string) {
	p := cluster().NetworkPolicies[types.NamespacedName{Namespace: "test", Name: "server"}]
	p.Spec.Ingress[0].From[0].NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": namespace}}
	u.NetworkPolicies.Set(types.NamespacedName{Namespace: "test", Name: "server"}, p)
}

// isolate has the pods of the client's namespace send nothing.
func isolate(u *compile.Update) {
	u.NetworkPolicies.Set(types.NamespacedName{Namespace: "shop", Name: "none"}, &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "none"}, Spec: networkingv1.NetworkPolicySpec{PolicyTypes: []networkingv1.PolicyType{"Egress"}}})
}

// deny is a policy that denies everything from a namespace.
func deny(u *compile.Update, namespace string) {
	u.ClusterNetworkPolicies.Set(types.NamespacedName{Name: "deny"}, &policyv1alpha2.ClusterNetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "deny"},
		Spec: policyv1alpha2.ClusterNetworkPolicySpec{
			Tier: policyv1alpha2.AdminTier, Priority: 1,
			Subject: policyv1alpha2.ClusterNetworkPolicySubject{Namespaces: &metav1.LabelSelector{}},
			Ingress: []policyv1alpha2.ClusterNetworkPolicyIngressRule{{Action: policyv1alpha2.ClusterNetworkPolicyRuleActionDeny,
				From: []policyv1alpha2.ClusterNetworkPolicyIngressPeer{{Namespaces: &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": namespace}}}}}},
		},
	})
}

func TestWhateverDeniesAConnectionCutsIt(t *testing.T) {
	t.Parallel()
	for name, c := range causes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			forBackends(t, func(t *testing.T, l *netns.Lab, n *node) {
				engine := compile.NewEngine("east", policy.Defaults{Action: policy.Allow})
				engine.Commit(cluster())
				n.commit(t, engine.Program(), nil)
				var cut, live []held
				for family := range 2 {
					for _, network := range []string{"tcp", "udp"} {
						cut = append(cut, hold(t, network, host(l, c.from), host(l, "server"), family))
						live = append(live, hold(t, network, host(l, "other"), host(l, "server"), family))
					}
				}
				u := &compile.Update{}
				c.cause(u)
				change := engine.Commit(u)
				r := n.commit(t, engine.Program(), change)
				if r.Scope.All || r.Cut[policy.TCP] != 2 || r.Cut[policy.UDP] != 2 {
					t.Errorf("%+v", r)
				}
				concurrently(cut, func(i int, h held) {
					first, second := h.client, h.server
					if i < 2 && h.name[:3] == "tcp" {
						first, second = second, first
					}
					if !h.dead(first, second) {
						t.Errorf("%s: is not cut", h.name)
					}
				})
				for _, h := range live {
					if !h.lives() {
						t.Errorf("%s: is cut", h.name)
					}
				}
			})
		})
	}
}
