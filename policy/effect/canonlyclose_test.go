package effect_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/policy/effect"
	"github.com/tierwall/tierwall/test/generate"
	"github.com/tierwall/tierwall/test/oracle"
)

const randomEdits = 600

// A change that only closes by its form opens nothing, by its effect and by an evaluator without shared code. The
// random edits include those that only look like closing.
func TestWhatCanOnlyCloseOpensNothing(t *testing.T) {
	closing := map[string]int{}
	for seed := range uint64(randomEdits) {
		r := generate.NewRand(seed)
		before := generate.Cluster(r, generate.Small)
		after, what := editRandomly(r, before)
		if !effect.CanOnlyClose(before, after) {
			continue
		}
		closing[what]++
		e := effect.Compute(t.Context(), before, after)
		if !e.Complete || len(e.Added) > 0 {
			t.Errorf("seed %d: %s can only close, and opens\n%s", seed, what, rowLines(e.Added))
		}
		first, second := oracleCluster(before), oracleCluster(after)
		for _, f := range generate.Flows(r, after, flowsPerChange) {
			if oracle.Ingress(second, f).Permits() && !oracle.Ingress(first, f).Permits() || oracle.Egress(second, f).Permits() && !oracle.Egress(first, f).Permits() {
				t.Errorf("seed %d: %s can only close, and opens %+v", seed, what, f)
			}
		}
	}
	for _, edit := range edits {
		if edit.closes && closing[edit.name] == 0 {
			t.Errorf("no edit of the kind %q was found to close only: the test shows nothing", edit.name)
		}
	}
	t.Log(closing)
}

type edit struct {
	name   string
	closes bool // some edits of the kind only close
	apply  func(r *rand.Rand, s *compile.Snapshot)
}

func editRandomly(r *rand.Rand, s *compile.Snapshot) (*compile.Snapshot, string) {
	after := *s
	after.NetworkPolicies, after.ClusterNetworkPolicies = slices.Clone(s.NetworkPolicies), slices.Clone(s.ClusterNetworkPolicies)
	e := edits[r.IntN(len(edits))]
	e.apply(r, &after)
	return &after, e.name
}

// onePolicy edits a copy of a random NetworkPolicy.
func onePolicy(change func(r *rand.Rand, np *networkingv1.NetworkPolicy)) func(*rand.Rand, *compile.Snapshot) {
	return func(r *rand.Rand, s *compile.Snapshot) {
		if len(s.NetworkPolicies) > 0 {
			i := r.IntN(len(s.NetworkPolicies))
			s.NetworkPolicies[i] = s.NetworkPolicies[i].DeepCopy()
			change(r, s.NetworkPolicies[i])
		}
	}
}

// oneClusterPolicy edits a copy of a random ClusterNetworkPolicy.
func oneClusterPolicy(change func(r *rand.Rand, p *policyv1alpha2.ClusterNetworkPolicy)) func(*rand.Rand, *compile.Snapshot) {
	return func(r *rand.Rand, s *compile.Snapshot) {
		if len(s.ClusterNetworkPolicies) > 0 {
			i := r.IntN(len(s.ClusterNetworkPolicies))
			s.ClusterNetworkPolicies[i] = s.ClusterNetworkPolicies[i].DeepCopy()
			change(r, s.ClusterNetworkPolicies[i])
		}
	}
}

func anyOf[T any](r *rand.Rand, values []T) []T {
	return slices.DeleteFunc(slices.Clone(values), func(T) bool { return r.IntN(2) == 0 })
}

var actions = []policyv1alpha2.ClusterNetworkPolicyRuleAction{"Accept", "Deny", "Pass"}

var edits = []edit{
	{"a NetworkPolicy comes", true, func(r *rand.Rand, s *compile.Snapshot) {
		others := generate.Cluster(r, generate.Small).NetworkPolicies
		if len(others) == 0 {
			return
		}
		np := others[0]
		np.Name = "new"
		if r.IntN(2) == 0 {
			np.Spec.Ingress, np.Spec.Egress = nil, nil
		}
		s.NetworkPolicies = append(s.NetworkPolicies, np)
	}},
	{"a NetworkPolicy goes", true, func(r *rand.Rand, s *compile.Snapshot) {
		if n := len(s.NetworkPolicies); n > 0 {
			i := r.IntN(n)
			s.NetworkPolicies = slices.Delete(s.NetworkPolicies, i, i+1)
		}
	}},
	{"rules go", true, onePolicy(func(r *rand.Rand, np *networkingv1.NetworkPolicy) {
		np.Spec.Ingress, np.Spec.Egress = anyOf(r, np.Spec.Ingress), anyOf(r, np.Spec.Egress)
	})},
	{"peers or ports go", true, onePolicy(func(r *rand.Rand, np *networkingv1.NetworkPolicy) {
		for i := range np.Spec.Ingress {
			np.Spec.Ingress[i].From, np.Spec.Ingress[i].Ports = anyOf(r, np.Spec.Ingress[i].From), anyOf(r, np.Spec.Ingress[i].Ports)
		}
		for i := range np.Spec.Egress {
			np.Spec.Egress[i].To, np.Spec.Egress[i].Ports = anyOf(r, np.Spec.Egress[i].To), anyOf(r, np.Spec.Egress[i].Ports)
		}
	})},
	{"another subject", true, onePolicy(func(r *rand.Rand, np *networkingv1.NetworkPolicy) {
		for _, other := range generate.Cluster(r, generate.Small).NetworkPolicies {
			np.Spec.PodSelector = other.Spec.PodSelector
		}
	})},
	{"other policy types", true, onePolicy(func(r *rand.Rand, np *networkingv1.NetworkPolicy) {
		np.Spec.PolicyTypes = anyOf(r, []networkingv1.PolicyType{"Ingress", "Egress"})
	})},
	{"a ClusterNetworkPolicy comes", true, func(r *rand.Rand, s *compile.Snapshot) {
		others := generate.Cluster(r, generate.Small).ClusterNetworkPolicies
		if len(others) == 0 {
			return
		}
		p := others[0]
		p.Name = "new"
		if r.IntN(2) == 0 {
			setActions(p, func() policyv1alpha2.ClusterNetworkPolicyRuleAction { return "Deny" })
		}
		s.ClusterNetworkPolicies = append(s.ClusterNetworkPolicies, p)
	}},
	{"a ClusterNetworkPolicy goes", true, func(r *rand.Rand, s *compile.Snapshot) {
		if n := len(s.ClusterNetworkPolicies); n > 0 {
			i := r.IntN(n)
			s.ClusterNetworkPolicies = slices.Delete(s.ClusterNetworkPolicies, i, i+1)
		}
	}},
	{"other actions", true, oneClusterPolicy(func(r *rand.Rand, p *policyv1alpha2.ClusterNetworkPolicy) {
		setActions(p, func() policyv1alpha2.ClusterNetworkPolicyRuleAction { return actions[r.IntN(len(actions))] })
	})},
	{"rules of a ClusterNetworkPolicy go", true, oneClusterPolicy(func(r *rand.Rand, p *policyv1alpha2.ClusterNetworkPolicy) {
		p.Spec.Ingress, p.Spec.Egress = anyOf(r, p.Spec.Ingress), anyOf(r, p.Spec.Egress)
	})},
	{"another priority", true, oneClusterPolicy(func(r *rand.Rand, p *policyv1alpha2.ClusterNetworkPolicy) {
		p.Spec.Priority += int32(r.IntN(5)) - 2
	})},
	{"another tier", false, oneClusterPolicy(func(_ *rand.Rand, p *policyv1alpha2.ClusterNetworkPolicy) {
		p.Spec.Tier = map[policyv1alpha2.Tier]policyv1alpha2.Tier{"Admin": "Baseline", "Baseline": "Admin"}[p.Spec.Tier]
	})},
	{"rules change places", true, oneClusterPolicy(func(r *rand.Rand, p *policyv1alpha2.ClusterNetworkPolicy) {
		r.Shuffle(len(p.Spec.Ingress), func(i, j int) { p.Spec.Ingress[i], p.Spec.Ingress[j] = p.Spec.Ingress[j], p.Spec.Ingress[i] })
	})},
}

func setActions(p *policyv1alpha2.ClusterNetworkPolicy, action func() policyv1alpha2.ClusterNetworkPolicyRuleAction) {
	for i := range p.Spec.Ingress {
		p.Spec.Ingress[i].Action = action()
	}
	for i := range p.Spec.Egress {
		p.Spec.Egress[i].Action = action()
	}
}

func TestFormsThatCanOnlyClose(t *testing.T) {
	s := withPolicies(shopCluster(), [3]string{"prod", "data", dataFromBackend})
	for _, c := range []struct {
		name string
		spec string
		want bool
	}{
		{"isolates", "podSelector: {}", true},
		{"isolates in both directions", "podSelector: {}\npolicyTypes: [Ingress, Egress]", true},
		{"allows", "podSelector: {}\ningress: [{}]", false},
		{"allows where it does not isolate yet", "podSelector: {}\npolicyTypes: [Ingress]\negress: [{}]", false},
	} {
		if got := effect.CanOnlyClose(s, withPolicies(s, [3]string{"prod", "new", c.spec})); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	relabelled := *s
	relabelled.Namespaces = slices.Clone(s.Namespaces)
	if effect.CanOnlyClose(s, &relabelled) {
		t.Error("a change of namespaces is said to close only")
	}
	if e := effect.WithoutOpenings(effect.Effect{Incomplete: []string{"x"}, Truncated: true, Added: []effect.Row{{}}}); !e.Complete || e.Truncated || len(e.Added) > 0 || fmt.Sprint(e.Incomplete) != "[]" {
		t.Errorf("the effect of what only closes: %+v", e)
	}
}

// manyNetworks returns a spec that allows ingress from n networks.
func manyNetworks(n int) string {
	var b strings.Builder
	b.WriteString("podSelector: {}\ningress: [{from: [")
	for i := range n {
		fmt.Fprintf(&b, "{ipBlock: {cidr: 10.%d.%d.%d/32}},", i>>16, i>>8&255, i&255)
	}
	return strings.TrimSuffix(b.String(), ",") + "]}]"
}

// Another policy keeps the pods isolated, so that only the budget matters.
func TestChangeThatMayLiftABudgetDoesNotOnlyClose(t *testing.T) {
	isolated := [3]string{"prod", "isolated", "podSelector: {}"}
	for _, c := range []struct {
		budget  string
		closed  [][3]string
		deleted string
	}{
		{"policy, entries", [][3]string{{"prod", "wide", manyNetworks(20001)}}, "wide"},
		{"policy, selectors", [][3]string{{"prod", "wide", manySelectors("{}", "k", 101)}}, "wide"},
		{"class, entries as they are written", [][3]string{{"prod", "wide-0", manyNetworks(19000)}, {"prod", "wide-1", manyNetworks(19000)}, {"prod", "wide-2", manyNetworks(19000)}}, "wide-2"},
		{"class, entries as they are compiled", [][3]string{{"prod", "wide-0", manyNetworks(13000)}, {"prod", "wide-1", manyNetworks(13000)}}, "wide-1"},
		{"class, selectors", [][3]string{{"prod", "wide-0", manySelectors("{}", "k", 60)}, {"prod", "wide-1", manySelectors("{}", "l", 60)}}, "wide-1"},
		{"namespace, selectors", [][3]string{
			{"prod", "web", manySelectors("{matchLabels: {app: web}}", "k", 80)}, {"prod", "api", manySelectors("{matchLabels: {app: api}}", "l", 80)},
			{"prod", "db", manySelectors("{matchLabels: {app: db}}", "m", 80)}}, "web"},
	} {
		t.Run(c.budget, func(t *testing.T) {
			before := withPolicies(shopCluster(), append(c.closed, isolated)...)
			after := *before
			after.NetworkPolicies = slices.DeleteFunc(slices.Clone(before.NetworkPolicies), func(np *networkingv1.NetworkPolicy) bool { return np.Name == c.deleted })
			if _, problems := compile.Compile(before, ""); len(problems) == 0 {
				t.Fatal("the budget is not exceeded before the change")
			}
			if effect.CanOnlyClose(before, &after) {
				t.Error("the deletion is said to close only")
			}
		})
	}
}

// An additional policy without rules brings nothing within a budget.
func TestAnIsolatingPolicyOnlyClosesANamespaceOverItsBudget(t *testing.T) {
	s := withPolicies(shopCluster(), [3]string{"prod", "wide-0", manySelectors("{}", "k", 60)}, [3]string{"prod", "wide-1", manySelectors("{}", "l", 60)})
	if !effect.CanOnlyClose(s, withPolicies(s, [3]string{"prod", "isolated", "podSelector: {}"})) {
		t.Error("an isolating policy is not known to close only")
	}
}

// Other namespaces' policies decide which namespaces a node's budget closes. So the effect of a policy is computed as
// if no node closed it, and no later change opens what was not reviewed.
func TestAnEffectIgnoresTheBudgetsOfNodes(t *testing.T) {
	s := shopCluster()
	var crowd [][3]string
	for _, ns := range []string{"a", "b", "c"} {
		s.Namespaces = append(s.Namespaces, &compile.Namespace{Name: ns})
		for i, app := range []string{"web", "api"} {
			s.Pods = append(s.Pods, newPod(ns, app, app, fmt.Sprintf("10.244.0.%d", 100+len(s.Pods))))
			crowd = append(crowd, [3]string{ns, app, manySelectors(fmt.Sprintf("{matchLabels: {app: %s}}", app), fmt.Sprint("k", i, "-"), 80)})
		}
	}
	after := withPolicies(s, crowd...)
	_, problems := compile.Compile(after, "n1")
	if !strings.Contains(fmt.Sprint(problems), "on this node") {
		t.Fatalf("the node's budget is not exceeded: %v", problems)
	}
	closed := problems[0].ID.Namespace
	before := withPolicies(s, slices.DeleteFunc(slices.Clone(crowd), func(p [3]string) bool { return p[0] == closed })...)
	for _, np := range after.NetworkPolicies { // isolates only
		if np.Namespace == closed {
			empty := np.DeepCopy()
			empty.Spec.Ingress = nil
			before.NetworkPolicies = append(before.NetworkPolicies, empty)
		}
	}
	if e := effect.Compute(t.Context(), before, after); len(e.Added) == 0 || !e.Complete {
		t.Errorf("nothing that policies of namespace %s allow is shown: %v", closed, e.Incomplete)
	}
}

// A deletion brings another policy within the budget. What that opens is in the effect, for existing pods of other
// namespaces and for hypothetical ones, also when the effect is computed from a part of the cluster.
func TestEffectHasWhatALiftedBudgetOpens(t *testing.T) {
	opening := strings.Replace(manySelectors("{}", "k", 60), "ingress: [", `ingress: [
{from: [{namespaceSelector: {matchLabels: {environment: test}}}, {namespaceSelector: {matchLabels: {environment: dev}}}], ports: [{port: 443}]}, `, 1)
	after := withPolicies(shopCluster(), [3]string{"prod", "opening", opening})
	before := withPolicies(after, [3]string{"prod", "wide", manySelectors("{}", "l", 60)})
	var c effect.Calculator
	for name, e := range map[string]effect.Effect{"Compute": effect.Compute(t.Context(), before, after), "Calculator": c.Compute(t.Context(), before, after)} {
		text := rowLines(e.Added)
		for _, want := range []string{"ingress test/backend -> prod/data TCP/443", "ingress (anymap[environment:dev])/ -> prod/data TCP/443"} {
			if !strings.Contains(text, want) {
				t.Errorf("%s: no row %q in\n%s", name, want, text)
			}
		}
	}
}

// manySelectors returns a spec that allows ingress from n selectors, all of which may match one pod.
func manySelectors(subject, key string, n int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "podSelector: %s\ningress: [{from: [", subject)
	for i := range n {
		fmt.Fprintf(&b, "{podSelector: {matchExpressions: [{key: %s%d, operator: NotIn, values: [x]}]}},", key, i)
	}
	return strings.TrimSuffix(b.String(), ",") + "]}]"
}
