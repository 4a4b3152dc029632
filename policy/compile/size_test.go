package compile

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/eval"
)

// largePolicies are policies of pods app=db that come to about n entries each, by what they are made of.
func largePolicies(n int) map[string]*networkingv1.NetworkPolicy {
	ingress := func(rules ...networkingv1.NetworkPolicyIngressRule) *networkingv1.NetworkPolicy {
		np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: "large"}}
		np.Spec.PodSelector.MatchLabels = map[string]string{"app": "db"}
		np.Spec.Ingress = rules
		return np
	}
	var values []string
	var peers, tiny, blocks []networkingv1.NetworkPolicyPeer
	var ports []networkingv1.NetworkPolicyPort
	var requirements []metav1.LabelSelectorRequirement
	for i := range n {
		values = append(values, fmt.Sprint("v", i))
		tiny = append(tiny, networkingv1.NetworkPolicyPeer{PodSelector: &metav1.LabelSelector{}})
		requirements = append(requirements, metav1.LabelSelectorRequirement{Key: fmt.Sprint("k", i), Operator: metav1.LabelSelectorOpExists})
		port, end := intstr.FromInt(2*i%60000+1), int32(2*i%60000+1)
		ports = append(ports, networkingv1.NetworkPolicyPort{Port: &port, EndPort: &end})
	}
	for i := range n / 2 {
		peers = append(peers, networkingv1.NetworkPolicyPeer{PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": fmt.Sprint(i)}}})
	}
	for range n / 500 {
		blocks = append(blocks, networkingv1.NetworkPolicyPeer{IPBlock: &networkingv1.IPBlock{CIDR: "::/0", Except: manyPrefixes(500, "2001:db8:%x::1/128")}})
	}
	by := func(r metav1.LabelSelectorRequirement) []networkingv1.NetworkPolicyPeer {
		return []networkingv1.NetworkPolicyPeer{{PodSelector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{r}}}}
	}
	return map[string]*networkingv1.NetworkPolicy{
		"peers":        ingress(networkingv1.NetworkPolicyIngressRule{From: peers}),
		"equal peers":  ingress(networkingv1.NetworkPolicyIngressRule{From: tiny}),
		"ports":        ingress(networkingv1.NetworkPolicyIngressRule{Ports: ports}),
		"exceptions":   ingress(networkingv1.NetworkPolicyIngressRule{From: blocks}),
		"rules":        ingress(make([]networkingv1.NetworkPolicyIngressRule, n)...),
		"values":       ingress(networkingv1.NetworkPolicyIngressRule{From: by(metav1.LabelSelectorRequirement{Key: "a", Operator: metav1.LabelSelectorOpNotIn, Values: values})}),
		"requirements": ingress(networkingv1.NetworkPolicyIngressRule{From: []networkingv1.NetworkPolicyPeer{{PodSelector: &metav1.LabelSelector{MatchExpressions: requirements}}}}),
	}
}

func TestAPolicyOverItsBudgetIsolatesItsSubjectsAndIsReadNoFurther(t *testing.T) {
	for name, np := range largePolicies(MaxPolicySize + 2000) {
		p, problems := parseNetworkPolicy(np)
		if len(problems) != 1 || problems[0].ID.Field != "/spec" || !strings.Contains(problems[0].Message, fmt.Sprint("at most ", MaxPolicySize)) {
			t.Errorf("%s: %v", name, problems[:min(len(problems), 3)])
		}
		if !p.isolates[policy.Ingress] || p.isolates[policy.Egress] || len(p.rules[0])+len(p.rules[1]) > 0 || p.subject.text != "app=db" {
			t.Errorf("%s: isolates %v of %q with %d rules", name, p.isolates, p.subject.text, len(p.rules[0])+len(p.rules[1]))
		}
		if again := ValidateNetworkPolicy(np); !slices.Equal(again, problems) {
			t.Errorf("%s: validated as %v", name, again)
		}
	}
	for name, np := range largePolicies(MaxPolicySize / 4) {
		if problems := ValidateNetworkPolicy(np); len(problems) > 0 {
			t.Errorf("%s within the budget: %v", name, problems)
		}
	}
}

func TestAPolicyWhoseSubjectIsOverTheBudgetIsolatesItsNamespace(t *testing.T) {
	np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: "large"}}
	np.Spec.PodSelector.MatchExpressions = make([]metav1.LabelSelectorRequirement, MaxPolicySize+1)
	p, problems := parseNetworkPolicy(np)
	if len(problems) != 1 || !p.subject.everything() || !p.isolates[policy.Ingress] {
		t.Errorf("%v; isolates %v of %q", problems, p.isolates, p.subject.text)
	}
}

func TestAClusterNetworkPolicyOverItsBudgetDenies(t *testing.T) {
	cnp := &policyv1alpha2.ClusterNetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: "large"}}
	cnp.Spec.Tier, cnp.Spec.Subject.Namespaces = policyv1alpha2.AdminTier, &metav1.LabelSelector{}
	networks := make([]policyv1alpha2.CIDR, MaxPolicySize+1)
	for i := range networks {
		networks[i] = policyv1alpha2.CIDR(fmt.Sprintf("10.%d.%d.0/25", i/256, i%256))
	}
	cnp.Spec.Egress = []policyv1alpha2.ClusterNetworkPolicyEgressRule{{Action: policyv1alpha2.ClusterNetworkPolicyRuleActionAccept,
		To: []policyv1alpha2.ClusterNetworkPolicyEgressPeer{{Networks: networks}}}}
	p, problems := parseClusterNetworkPolicy(cnp)
	if len(problems) != 1 || len(p.rules[policy.Ingress]) > 0 || len(p.rules[policy.Egress]) != 1 {
		t.Fatalf("%v, %d rules", problems, len(p.rules[policy.Egress]))
	}
	if r := p.rules[policy.Egress][0]; r.verdict != policy.Deny || !r.anyPeer || !r.anyPort {
		t.Errorf("%+v", r)
	}
}

// TestAClassOverItsBudgetIsClosed has many policies, each within its budget, select one pod. An
// administrator's policies and the pods of others stay as they are.
func TestAClassOverItsBudgetIsClosed(t *testing.T) {
	s := &Snapshot{
		Defaults: policy.Defaults{Action: policy.Allow},
		Nodes:    []*Node{{Name: "n"}},
		Pods:     []*Pod{{Namespace: "prod", Name: "db", Node: "n", Labels: map[string]string{"app": "db"}, Addrs: manyAddrs("10.0.0.1")}, {Namespace: "prod", Name: "web", Node: "n", Addrs: manyAddrs("10.0.0.2")}},
	}
	admin := &policyv1alpha2.ClusterNetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: "monitoring"}}
	admin.Spec.Tier, admin.Spec.Subject.Namespaces = policyv1alpha2.AdminTier, &metav1.LabelSelector{}
	admin.Spec.Ingress = []policyv1alpha2.ClusterNetworkPolicyIngressRule{{Action: policyv1alpha2.ClusterNetworkPolicyRuleActionAccept,
		From: []policyv1alpha2.ClusterNetworkPolicyIngressPeer{{Namespaces: &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": "monitoring"}}}}}}
	s.ClusterNetworkPolicies = append(s.ClusterNetworkPolicies, admin)
	s.Pods = append(s.Pods, &Pod{Namespace: "monitoring", Name: "m", Node: "n", Addrs: manyAddrs("10.0.0.3")})
	large := largePolicies(15000)["ports"]
	for i := range 5 {
		np := large.DeepCopy()
		np.Name = fmt.Sprint("large-", i)
		s.NetworkPolicies = append(s.NetworkPolicies, np)
		p, problems := Compile(s, "n")
		over := (i+1)*15000 > MaxClassSize
		if found := len(problems) > 0; found != over {
			t.Fatalf("%d policies: %v", i+1, problems)
		}
		e := eval.New(p)
		decide := func(from, to string) policy.Verdict {
			return e.Decide(policy.Flow{Source: manyAddrs(from)[0], Destination: manyAddrs(to)[0], Protocol: policy.TCP, DestinationPort: 3}).Verdict
		}
		if got := decide("10.0.0.2", "10.0.0.1"); (got == policy.Allow) == over {
			t.Errorf("%d policies: %v", i+1, got)
		}
		if decide("10.0.0.3", "10.0.0.1") != policy.Allow {
			t.Errorf("%d policies: the administrator's policy is not in force", i+1)
		}
		engine := NewEngine("n", s.Defaults)
		engine.Commit(s.Update())
		if engine.Program().String() != p.String() || !slices.Equal(engine.Problems(), problems) {
			t.Errorf("%d policies: the engine differs: %v", i+1, engine.Problems())
		}
	}
}

func manyAddrs(texts ...string) (out []netip.Addr) {
	for _, text := range texts {
		out = append(out, netip.MustParseAddr(text))
	}
	return out
}

func TestProblemsOfOneObjectAreFew(t *testing.T) {
	np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: "broken"}}
	np.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{From: make([]networkingv1.NetworkPolicyPeer, 5000)}}
	problems := ValidateNetworkPolicy(np)
	if len(problems) != maxProblems+1 || !strings.Contains(problems[maxProblems].Message, "4900 problems more") {
		t.Errorf("%d problems, the last is %v", len(problems), problems[len(problems)-1])
	}
}
