package differential

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/policy/eval"
	"github.com/tierwall/tierwall/test/generate"
	"github.com/tierwall/tierwall/test/oracle"
)

func TestShrinkLeavesOnlyWhatFails(t *testing.T) {
	type leaf struct{ Number int }
	type tree struct {
		Numbers []int
		Labels  map[string]string
		Leaf    *leaf
		Below   []*tree
	}
	full := func() *tree {
		return &tree{
			Numbers: []int{1, 2, 3, 4, 5, 6, 7, 8, 9}, Labels: map[string]string{"a": "1", "b": "2", "c": "3"}, Leaf: &leaf{1},
			Below: []*tree{{Numbers: []int{1, 2}}, {Leaf: &leaf{7}, Labels: map[string]string{"x": "y"}}},
		}
	}
	for _, c := range []struct {
		name  string
		fails func(*tree) bool
		want  func(*tree) bool
	}{
		{"two elements far apart", func(v *tree) bool { return slices.Contains(v.Numbers, 2) && slices.Contains(v.Numbers, 8) },
			func(v *tree) bool {
				return slices.Equal(v.Numbers, []int{2, 8}) && v.Labels == nil && v.Leaf == nil && v.Below == nil
			}},
		{"elements in number only", func(v *tree) bool { return len(v.Numbers) >= 3 },
			func(v *tree) bool { return len(v.Numbers) == 3 && v.Labels == nil }},
		{"an entry of a map", func(v *tree) bool { return v.Labels["b"] == "2" },
			func(v *tree) bool { return len(v.Labels) == 1 && v.Labels["b"] == "2" && v.Numbers == nil }},
		{"what a pointer leads to, below", func(v *tree) bool {
			return slices.ContainsFunc(v.Below, func(b *tree) bool { return b.Leaf != nil })
		}, func(v *tree) bool {
			return len(v.Below) == 1 && v.Below[0].Leaf.Number == 7 && v.Below[0].Labels == nil && v.Leaf == nil
		}},
		{"nothing at all", func(*tree) bool { return true }, func(v *tree) bool { return v.Numbers == nil && v.Below == nil }},
	} {
		v := full()
		Shrink(v, func() bool { return c.fails(v) })
		if !c.fails(v) || !c.want(v) {
			t.Errorf("%s: %+v", c.name, v)
		}
	}
}

// faulty reports whether an evaluator that misreads policies, in one way or another, and the
// oracle disagree about a flow of the trial.
func (c *trial) faulty(misread func(*compile.Snapshot)) bool {
	if !c.possible() {
		return false
	}
	s := snapshot(c.Cluster)
	misread(s)
	program, _ := compile.Compile(s, "")
	e := eval.New(program)
	return slices.ContainsFunc(c.Flows, func(f policy.Flow) bool { return e.Decide(f).Verdict != oracle.Decide(c.Cluster, f) })
}

// What is known to be misread is what is left: a policy, a rule, a port, two pods.
func TestShrinkShowsWhatIsMisread(t *testing.T) {
	for name, misread := range map[string]func(*compile.Snapshot){
		"endPort": func(s *compile.Snapshot) {
			forEachPort(s, func(p *networkingv1.NetworkPolicyPort) { p.EndPort = nil })
		},
		"the protocol of a port": func(s *compile.Snapshot) {
			forEachPort(s, func(p *networkingv1.NetworkPolicyPort) { p.Protocol = nil })
		},
		"NotIn": func(s *compile.Snapshot) {
			s.NetworkPolicies = slices.Clone(s.NetworkPolicies)
			for i, np := range s.NetworkPolicies {
				s.NetworkPolicies[i] = np.DeepCopy()
				for j, e := range np.Spec.PodSelector.MatchExpressions {
					if e.Operator == metav1.LabelSelectorOpNotIn {
						s.NetworkPolicies[i].Spec.PodSelector.MatchExpressions[j].Operator = metav1.LabelSelectorOpIn
					}
				}
			}
		},
		"pods that have ended": func(s *compile.Snapshot) {
			for _, p := range s.Pods {
				p.Ended = false
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := firstFaulty(t, misread)
			Shrink(c, func() bool { return c.faulty(misread) })
			if !c.faulty(misread) {
				t.Fatal("what is left does not fail any more")
			}
			if objects := c.objects(); objects > 5 || len(c.Flows) != 1 {
				t.Errorf("%d objects and %d flows are left: %+v", objects, len(c.Flows), c.Cluster)
			}
			if once := c.withoutOneObject(func(rest *trial) bool { return rest.faulty(misread) }); once != "" {
				t.Errorf("it still fails without %s", once)
			}
		})
	}
}

// forEachPort changes copies of the policies.
func forEachPort(s *compile.Snapshot, change func(*networkingv1.NetworkPolicyPort)) {
	s.NetworkPolicies = slices.Clone(s.NetworkPolicies)
	for i, np := range s.NetworkPolicies {
		np = np.DeepCopy()
		s.NetworkPolicies[i] = np
		for _, r := range np.Spec.Ingress {
			for j := range r.Ports {
				change(&r.Ports[j])
			}
		}
		for _, r := range np.Spec.Egress {
			for j := range r.Ports {
				change(&r.Ports[j])
			}
		}
	}
}

func firstFaulty(t *testing.T, misread func(*compile.Snapshot)) *trial {
	t.Helper()
	for seed := range uint64(200) {
		if c := newTrial(seed, generate.Crowded, flowsPerCluster); c.faulty(misread) {
			return c
		}
	}
	t.Fatal("nothing fails")
	return nil
}

// objects is how many objects the trial has.
func (c *trial) objects() int {
	o := c.Cluster
	return len(o.Pods) + len(o.Namespaces) + len(o.Nodes) + len(o.NetworkPolicies) + len(o.ClusterNetworkPolicies) + len(o.TierRoles)
}

// withoutOneObject is an object without which it fails as well, or empty.
func (c *trial) withoutOneObject(fails func(*trial) bool) string {
	for i, p := range c.Cluster.Pods {
		rest := *c.Cluster
		rest.Pods = slices.Delete(slices.Clone(rest.Pods), i, i+1)
		if fails(&trial{&rest, c.Flows}) {
			return "pod " + p.Name
		}
	}
	for i, p := range c.Cluster.NetworkPolicies {
		rest := *c.Cluster
		rest.NetworkPolicies = slices.Delete(slices.Clone(rest.NetworkPolicies), i, i+1)
		if fails(&trial{&rest, c.Flows}) {
			return "policy " + p.Name
		}
	}
	return ""
}

func TestATrialOfPodsWithoutTheirNodeIsNotPossible(t *testing.T) {
	c := &trial{Cluster: &oracle.Cluster{Pods: []*corev1.Pod{{Spec: corev1.PodSpec{NodeName: "n"}}}}}
	if c.possible() {
		t.Error("a pod without its node is possible")
	}
	c.Cluster.Nodes = []*corev1.Node{{ObjectMeta: metav1.ObjectMeta{Name: "n"}}}
	if !c.possible() {
		t.Error("a pod on its node is not possible")
	}
}
