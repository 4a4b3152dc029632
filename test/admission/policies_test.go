//go:build admission

package admission

import (
	"fmt"
	"strings"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/tierwall/tierwall/api/v1alpha1"
)

// toTier is a policy that lets the peers into a tier of the namespace, on TCP 5432.
func toTier(namespace, name, tier string, peers ...networkingv1.NetworkPolicyPeer) *networkingv1.NetworkPolicy {
	port := intstr.FromInt32(5432)
	return &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: networkingv1.NetworkPolicySpec{
			PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{v1alpha1.RoleLabel: tier}},
			PolicyTypes: []networkingv1.PolicyType{"Ingress"},
			Ingress: []networkingv1.NetworkPolicyIngressRule{{
				From: peers, Ports: []networkingv1.NetworkPolicyPort{{Port: &port}}}},
		},
	}
}

func fromTier(tier string) networkingv1.NetworkPolicyPeer {
	return networkingv1.NetworkPolicyPeer{PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{v1alpha1.RoleLabel: tier}}}
}

func fromNamespace(name string) networkingv1.NetworkPolicyPeer {
	return networkingv1.NetworkPolicyPeer{NamespaceSelector: &metav1.LabelSelector{
		MatchLabels: map[string]string{"kubernetes.io/metadata.name": name}}}
}

func fromBlock(cidr string) networkingv1.NetworkPolicyPeer {
	return networkingv1.NetworkPolicyPeer{IPBlock: &networkingv1.IPBlock{CIDR: cidr}}
}

// refusedWith checks that an error is a refusal with all the texts.
func refusedWith(t *testing.T, err error, texts ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("admitted, want a refusal with %q", texts)
		return
	}
	if !apierrors.IsForbidden(err) {
		t.Errorf("error %v, want a refusal", err)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("refused with %q, want %q in it", err, text)
		}
	}
}

func TestSoundPoliciesAreAdmitted(t *testing.T) {
	shop(t, "sound")
	create(t, pod("sound", "db", "postgres"))
	create(t, toTier("sound", "backend-to-data", "data", fromTier("backend")))
}

func TestPoliciesThatOpenTheDataTierAreRefused(t *testing.T) {
	shop(t, "prod")
	shop(t, "test")
	create(t, pod("prod", "db", "postgres"))
	create(t, pod("test", "web", "web"))
	for name, c := range map[string]struct {
		peer networkingv1.NetworkPolicyPeer
		want string
	}{
		"to-test":      {fromNamespace("test"), "Guardrail data-tier-closed"},
		"to-all-pods":  {networkingv1.NetworkPolicyPeer{NamespaceSelector: &metav1.LabelSelector{}}, "Guardrail data-tier-closed"},
		"to-the-world": {fromBlock("0.0.0.0/0"), "Guardrail data-tier-inside"},
		"to-one-block": {fromBlock("203.0.113.0/24"), "Guardrail data-tier-inside"},
		"to-frontend":  {fromTier("frontend"), "Guardrail tier-order"},
	} {
		t.Run(name, func(t *testing.T) {
			p := toTier("prod", name, "data", c.peer)
			refusedWith(t, world.admin.Create(t.Context(), p), c.want)
			refusedWith(t, world.admin.Create(t.Context(), p, client.DryRunAll), c.want)
		})
	}
	t.Run("generated name", func(t *testing.T) {
		p := toTier("prod", "", "data", fromNamespace("test"))
		p.GenerateName = "open-"
		refusedWith(t, world.admin.Create(t.Context(), p), "Guardrail data-tier-closed")
	})
	t.Run("update", func(t *testing.T) {
		p := toTier("prod", "sound-at-first", "data", fromTier("backend"))
		create(t, p)
		p.Spec.Ingress[0].From = append(p.Spec.Ingress[0].From, fromNamespace("test"))
		refusedWith(t, world.admin.Update(t.Context(), p), "Guardrail data-tier-closed")
	})
}

func TestPoliciesThatCannotMeanWhatTheySayAreRefused(t *testing.T) {
	shop(t, "unsound")
	nowhere := toTier("unsound", "no-direction", "data", fromTier("backend"))
	nowhere.Spec.PolicyTypes = []networkingv1.PolicyType{"Egress"}
	refusedWith(t, world.admin.Create(t.Context(), nowhere), "NetworkPolicy unsound/no-direction /spec/ingress", "policyTypes does not include Ingress")
}

// The API server's own validation may refuse some of these before the webhook;
// what matters is that none gets in, and that the field is named.
func TestPoliciesWithABadFieldNeverGetIn(t *testing.T) {
	shop(t, "bad-fields")
	below := int32(80)
	for name, c := range map[string]struct {
		change func(*networkingv1.NetworkPolicy)
		field  string
	}{
		"cidr":     {func(p *networkingv1.NetworkPolicy) { p.Spec.Ingress[0].From[0].IPBlock.CIDR = "10.0.0.0/33" }, "cidr"},
		"end-port": {func(p *networkingv1.NetworkPolicy) { p.Spec.Ingress[0].Ports[0].EndPort = &below }, "endPort"},
		"except": {func(p *networkingv1.NetworkPolicy) {
			p.Spec.Ingress[0].From[0].IPBlock.Except = []string{"192.0.2.0/24"}
		}, "except"},
	} {
		t.Run(name, func(t *testing.T) {
			p := toTier("bad-fields", name, "backend", fromBlock("10.0.0.0/8"))
			c.change(p)
			err := world.admin.Create(t.Context(), p)
			if err == nil || !strings.Contains(err.Error(), c.field) {
				t.Errorf("got error %v, want one about %s", err, c.field)
			}
		})
	}
}

func TestClusterPoliciesAreJudgedToo(t *testing.T) {
	shop(t, "by-cluster")
	create(t, pod("by-cluster", "db", "postgres"))
	all := &policyv1alpha2.ClusterNetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "open"},
		Spec: policyv1alpha2.ClusterNetworkPolicySpec{Tier: policyv1alpha2.AdminTier, Priority: 1,
			Subject: policyv1alpha2.ClusterNetworkPolicySubject{Namespaces: &metav1.LabelSelector{}},
			Ingress: []policyv1alpha2.ClusterNetworkPolicyIngressRule{{Action: policyv1alpha2.ClusterNetworkPolicyRuleActionAccept,
				From: []policyv1alpha2.ClusterNetworkPolicyIngressPeer{{Namespaces: &metav1.LabelSelector{}}}}}},
	}
	refusedWith(t, world.admin.Create(t.Context(), all), "Guardrail data-tier-closed")
}

func TestPoliciesOfExemptNamespacesAreNotJudged(t *testing.T) {
	if err := makeNamespace(t.Context(), "kube-system"); err != nil {
		t.Fatal(err)
	}
	create(t, toTier("kube-system", "open", "data", fromBlock("0.0.0.0/0")))
}

// An owner's label does not make a namespace exempt.
func TestALabelDoesNotMakeANamespaceExempt(t *testing.T) {
	shop(t, "pretender")
	for _, label := range []string{"kubernetes.io/metadata.name", "tierwall.io/exempt"} {
		patch := fmt.Sprintf(`{"metadata":{"labels":{%q:"kube-system"}}}`, label)
		ns := namespaceObject("pretender")
		_ = world.admin.Patch(t.Context(), ns, client.RawPatch("application/merge-patch+json", []byte(patch)))
	}
	refusedWith(t, world.admin.Create(t.Context(), toTier("pretender", "open", "data", fromBlock("0.0.0.0/0"))), "Guardrail data-tier-inside")
}
