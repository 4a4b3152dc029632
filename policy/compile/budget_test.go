package compile

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/tierwall/tierwall/policy"
)

// hostile are policies that one tenant may write in namespace tenant, for all of its pods.
var hostile = map[string]func() []*networkingv1.NetworkPolicy{
	"500 selectors and 2,100 port ranges": func() []*networkingv1.NetworkPolicy {
		return []*networkingv1.NetworkPolicy{allow("a", manyPeers(500, valueOf), manyPorts(2100))}
	},
	"30 policies of 30 selectors and 30 ports": func() (out []*networkingv1.NetworkPolicy) {
		for i := range 30 {
			out = append(out, allow(fmt.Sprint("p-", i), manyPeers(30, func(j int) metav1.LabelSelectorRequirement { return notValueOf(i*30 + j) }), manyPorts(30)))
		}
		return out
	},
	"6,600 selectors that match every pod": func() []*networkingv1.NetworkPolicy {
		return []*networkingv1.NetworkPolicy{allow("a", manyPeers(6600, notValueOf), nil)}
	},
	"200 networks with 500 exceptions": func() []*networkingv1.NetworkPolicy {
		return []*networkingv1.NetworkPolicy{exceptions(200)}
	},
	"policies of 90 selectors that match every pod, each for another pod": func() (out []*networkingv1.NetworkPolicy) {
		for i := range 70 {
			np := allow(fmt.Sprint("p-", i), manyPeers(90, func(j int) metav1.LabelSelectorRequirement { return notValueOf(i*90 + j) }), nil)
			np.Spec.PodSelector.MatchLabels = map[string]string{"id": fmt.Sprint(i)}
			out = append(out, np)
		}
		return out
	},
	"2,000 policies as large as one may be": func() (out []*networkingv1.NetworkPolicy) {
		np := allow("", nil, manyPorts(MaxPolicySize-10))
		for i := range 2000 {
			same := *np
			same.Name = fmt.Sprint("p-", i)
			out = append(out, &same)
		}
		return out
	},
}

func allow(name string, peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort) *networkingv1.NetworkPolicy {
	np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "tenant", Name: name}}
	np.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{From: peers, Ports: ports}}
	return np
}

func manyPeers(n int, by func(int) metav1.LabelSelectorRequirement) (out []networkingv1.NetworkPolicyPeer) {
	for i := range n {
		out = append(out, networkingv1.NetworkPolicyPeer{NamespaceSelector: &metav1.LabelSelector{},
			PodSelector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{by(i)}}})
	}
	return out
}

func valueOf(i int) metav1.LabelSelectorRequirement {
	return metav1.LabelSelectorRequirement{Key: "app", Operator: metav1.LabelSelectorOpIn, Values: []string{fmt.Sprint(i)}}
}

func notValueOf(i int) metav1.LabelSelectorRequirement {
	return metav1.LabelSelectorRequirement{Key: "app", Operator: metav1.LabelSelectorOpNotIn, Values: []string{fmt.Sprint("x", i)}}
}

func manyPorts(n int) (out []networkingv1.NetworkPolicyPort) {
	for i := range n {
		port, end := intstr.FromInt(2*i%60000+1), int32(2*i%60000+1)
		out = append(out, networkingv1.NetworkPolicyPort{Port: &port, EndPort: &end})
	}
	return out
}

// exceptions is a policy of n networks of 500 exceptions each.
func exceptions(n int) *networkingv1.NetworkPolicy {
	var peers []networkingv1.NetworkPolicyPeer
	for range n {
		peers = append(peers, networkingv1.NetworkPolicyPeer{IPBlock: &networkingv1.IPBlock{CIDR: "::/0", Except: manyPrefixes(500, "2001:db8:%x::1/128")}})
	}
	return allow("a", peers, nil)
}

// neighbourhood is a cluster of n pods elsewhere, 50 pods of the tenant and one of another namespace here.
func neighbourhood(n int) *Snapshot {
	s := &Snapshot{Defaults: policy.Defaults{Action: policy.Deny}, Nodes: []*Node{{Name: "here"}, {Name: "elsewhere"}}}
	add := func(namespace, name, node string, labels map[string]string) {
		i := len(s.Pods)
		s.Pods = append(s.Pods, &Pod{Namespace: namespace, Name: name, Node: node, Labels: labels,
			Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})}})
	}
	add("other", "web", "here", map[string]string{"app": "web"})
	for i := range 50 {
		add("tenant", fmt.Sprint("t-", i), "here", map[string]string{"id": fmt.Sprint(i)})
	}
	for i := range n {
		add("many", fmt.Sprint("m-", i), "elsewhere", map[string]string{"app": fmt.Sprint(i % 600)})
	}
	np := allow("web", manyPeers(3, valueOf), manyPorts(2))
	np.Namespace = "other"
	s.NetworkPolicies = append(s.NetworkPolicies, np)
	return s
}

// cost is the entries of the rules of all classes, and the members of the sets.
func cost(p *policy.Program) (entries, members int) {
	for _, classes := range p.Classes {
		for _, c := range classes {
			for _, t := range c.Tiers {
				for _, r := range t.Rules {
					entries += 1 + len(r.Peers) + len(r.Ports)
				}
			}
		}
	}
	for _, s := range p.Sets {
		members += len(s.Elements)
	}
	return entries, members
}

// TestNothingThatATenantWritesExceedsTheBudgets compares a node with and without the tenant's policies: the pods of
// others have the same classes, and all of it is bounded, also the work of one pod's change.
func TestNothingThatATenantWritesExceedsTheBudgets(t *testing.T) {
	const pods = 10000
	without, _ := Compile(neighbourhood(pods), "here")
	for name, written := range hostile {
		s := neighbourhood(pods)
		s.NetworkPolicies = append(s.NetworkPolicies, written()...)
		e := NewEngine("here", s.Defaults)
		e.Commit(s.Update())
		program := e.Program()
		entries, members := cost(program)
		if most := (MaxNodeSetsPerPod + usualSetsPerPod) * (pods + 51); entries > MaxNodeSize || members > most+MaxNodeSize {
			t.Errorf("%s: %d entries and %d members", name, entries, members)
		}
		for _, d := range policy.Directions {
			if got, want := classOf(program, "other/web", d), classOf(without, "other/web", d); got != want {
				t.Errorf("%s: another namespace's class for %s is\n%s, want\n%s", name, d, got, want)
			}
		}
		moved := *s.Pods[len(s.Pods)-1]
		moved.Labels = map[string]string{"app": "moved"}
		c := &commit{Engine: e, seatsOf: map[*profile][]seat{}}
		if n := len(c.seats(e.domains["many"].members[moved.Name].profile)); n > MaxNodeSetsPerPod+usualSetsPerPod {
			t.Errorf("%s: a pod is in %d sets", name, n)
		}
		change := e.Commit(&Update{Pods: Objects[Pod]{types.NamespacedName{Namespace: moved.Namespace, Name: moved.Name}: &moved}})
		if len(change.Members) > MaxNodeSetsPerPod || len(change.Classes[0])+len(change.Classes[1])+len(change.Endpoints) > 0 {
			t.Errorf("%s: a pod's change alters %d sets, and %d classes", name, len(change.Members), len(change.Classes[0])+len(change.Classes[1]))
		}
	}
}

func classOf(p *policy.Program, pod string, d policy.Direction) string {
	for _, e := range p.Endpoints {
		if e.Namespace+"/"+e.Name == pod {
			return fmt.Sprint(e.Class[d], p.Classes[d][e.Class[d]])
		}
	}
	return ""
}

// TestAClosedNamespaceIsNotMatched counts what is kept of policies over their budgets to be matched with pods.
func TestAClosedNamespaceIsNotMatched(t *testing.T) {
	for _, name := range []string{"2,000 policies as large as one may be", "policies of 90 selectors that match every pod, each for another pod"} {
		s := neighbourhood(10)
		s.NetworkPolicies = append(s.NetworkPolicies, hostile[name]()...)
		e := NewEngine("here", s.Defaults)
		e.Commit(s.Update())
		filed := 0
		for _, list := range e.bySubject.byAnchor {
			filed += len(list)
		}
		if filed != 1 || len(e.over) != 1 || usedSets(e) != 3 {
			t.Errorf("%s: %d policies and %d sets are kept, %d namespaces are over", name, filed, usedSets(e), len(e.over))
		}
		problems := e.Problems()
		if len(problems) != 1 || problems[0].ID.Namespace != "tenant" || !strings.Contains(problems[0].Message, "in a namespace") {
			t.Errorf("%s: %v", name, problems)
		}
		for _, np := range s.NetworkPolicies[2:] { // all but one of the tenant's
			e.Commit(&Update{NetworkPolicies: Objects[networkingv1.NetworkPolicy]{types.NamespacedName{Namespace: "tenant", Name: np.Name}: nil}})
		}
		if len(e.over) > 0 || len(e.Problems()) > 0 {
			t.Errorf("%s: still closed: %v", name, e.Problems())
		}
	}
}

func usedSets(e *Engine) int {
	_, n := e.Size()
	return n
}

// TestSetsPerPodIsAnUpperBound counts in how many sets a pod is, of selectors of all kinds.
func TestSetsPerPodIsAnUpperBound(t *testing.T) {
	for name, c := range map[string]struct {
		peers []networkingv1.NetworkPolicyPeer
		want  int
	}{
		"values of one label":     {manyPeers(300, valueOf), 1},
		"other than one value":    {manyPeers(300, notValueOf), 300},
		"the same in other words": {append(manyPeers(40, notValueOf), manyPeers(40, notValueOf)...), 40},
		"one value and another's absence": {manyPeers(250, func(i int) metav1.LabelSelectorRequirement {
			return metav1.LabelSelectorRequirement{Key: "app", Operator: metav1.LabelSelectorOpIn, Values: []string{"web", fmt.Sprint(i)}}
		}), 250},
		"keys": {manyPeers(120, func(i int) metav1.LabelSelectorRequirement {
			return metav1.LabelSelectorRequirement{Key: fmt.Sprint("k", i), Operator: metav1.LabelSelectorOpExists}
		}), 120},
	} {
		np := allow("a", nil, nil)
		p := &networkPolicy{id: policy.RuleID{Namespace: "tenant"}}
		r := &reporter{}
		p.add(policy.Ingress, 0, "from", c.peers, np.Spec.Ingress[0].Ports, r)
		if got := setsPerPodOver(0, rulesOf([]*networkPolicy{p}, policy.Ingress)); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
		parsed, problems := parseNetworkPolicy(allow("a", c.peers, nil))
		if over := c.want > MaxPolicySetsPerPod; over != (len(problems) == 1) || over != (len(parsed.rules[policy.Ingress]) == 0) || !parsed.isolates[policy.Ingress] {
			t.Errorf("%s: %v", name, problems)
		}
	}
}

// TestReadingTakesMemoryInProportion reads 1.5 MB of exceptions, and a quarter of it.
func TestReadingTakesMemoryInProportion(t *testing.T) {
	bytes := func(n int) float64 {
		np := exceptions(n)
		return testing.AllocsPerRun(2, func() { parseNetworkPolicy(np) })
	}
	if whole, part := bytes(36), bytes(9); whole > 5*part {
		t.Errorf("%v allocations for 4 times what takes %v", whole, part)
	}
	if n := bytes(200); n > 1000 {
		t.Errorf("%v allocations for a policy over its budget", n)
	}
}

func TestExceededBudgets(t *testing.T) {
	for name, c := range map[string]struct {
		before, after []*networkingv1.NetworkPolicy
		changed, want string
	}{
		"within":                 {nil, hostile["500 selectors and 2,100 port ranges"](), "a", ""},
		"class":                  {nil, hostile["30 policies of 30 selectors and 30 ports"]()[:5], "p-1", "150 of which can match one pod; at most 100"},
		"not more than before":   {hostile["30 policies of 30 selectors and 30 ports"]()[:6], hostile["30 policies of 30 selectors and 30 ports"]()[:5], "p-1", ""},
		"namespace":              {nil, hostile["2,000 policies as large as one may be"](), "p-7", "at most 100000 are allowed in a namespace"},
		"namespace's selectors":  {nil, hostile["policies of 90 selectors that match every pod, each for another pod"](), "p-7", "at most 200 are allowed in a namespace"},
		"deleted":                {hostile["2,000 policies as large as one may be"](), hostile["2,000 policies as large as one may be"]()[1:], "p-0", ""},
		"closes in what is over": {hostile["2,000 policies as large as one may be"](), append(hostile["2,000 policies as large as one may be"](), closing("closing")), "closing", ""},
	} {
		before, after := neighbourhood(1), neighbourhood(1)
		before.NetworkPolicies = append(before.NetworkPolicies, c.before...)
		after.NetworkPolicies = append(after.NetworkPolicies, c.after...)
		got := fmt.Sprint(ExceededBudgets(before, after, "tenant", c.changed))
		if c.want == "" && got != "[]" || !strings.Contains(got, c.want) {
			t.Errorf("%s: %s, want %q", name, got, c.want)
		}
	}
}

// closing isolates all pods of the tenant.
func closing(name string) *networkingv1.NetworkPolicy {
	return &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "tenant", Name: name}}
}
