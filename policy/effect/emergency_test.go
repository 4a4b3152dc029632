package effect_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/policy/effect"
)

// longPolicy returns a spec with many rules, each of five networks and a port of its own.
func longPolicy(number, rules int) string {
	var b strings.Builder
	b.WriteString("podSelector: {}\ningress:\n")
	for i := range rules {
		n := number*rules + i
		var peers []string
		for k := range 5 {
			peers = append(peers, fmt.Sprintf("{ipBlock: {cidr: %d.%d.%d.0/24}}", 20+k, n/250, n%250))
		}
		fmt.Fprintf(&b, "- {from: [%s], ports: [{port: %d}]}\n", strings.Join(peers, ", "), 1024+n)
	}
	return b.String()
}

// withEmergency returns the snapshot with a ClusterNetworkPolicy that denies everything.
func withEmergency(t *testing.T, s *compile.Snapshot) *compile.Snapshot {
	t.Helper()
	out := *s
	out.ClusterNetworkPolicies = append(slices.Clip(s.ClusterNetworkPolicies), &policyv1alpha2.ClusterNetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "emergency"}, Spec: *parseYAML[policyv1alpha2.ClusterNetworkPolicySpec](t, `
tier: Admin
priority: 1
subject: {namespaces: {}}
ingress: [{action: Deny, from: [{namespaces: {}}]}]
egress: [{action: Deny, to: [{networks: [0.0.0.0/0, "::/0"]}, {namespaces: {}}]}]`)})
	return &out
}

func TestAnEmergencyPolicyIsJudgedBesideLongPolicies(t *testing.T) {
	s := shopCluster()
	for i := range 6 {
		s = withPolicies(s, [3]string{"prod", fmt.Sprintf("long-%d", i), longPolicy(i, 1000)})
	}
	after := withEmergency(t, s)
	if !effect.CanOnlyClose(s, after) {
		t.Error("an emergency policy that denies is not known to only close")
	}
	e := effect.Compute(t.Context(), s, after)
	if !e.Complete || len(e.Added) > 0 || len(e.Removed) == 0 {
		t.Errorf("complete %v %v, %d rows added, %d removed", e.Complete, e.Incomplete, len(e.Added), len(e.Removed))
	}
}

// In no phase does the work go on for long after the context has ended, whatever is large about a cluster.
func TestAnEffectEndsSoonAfterItsTime(t *testing.T) {
	manyPods := withJobs(shopCluster(), 3000)
	longPolicies := shopCluster()
	for i := range 2 {
		longPolicies = withPolicies(longPolicies, [3]string{"prod", fmt.Sprintf("long-%d", i), longPolicy(i, 300)})
	}
	for name, s := range map[string]*compile.Snapshot{"many pods": manyPods, "long policies": longPolicies} {
		t.Run(name, func(t *testing.T) {
			after := withEmergency(t, s)
			counted := &endingAfter{t.Context(), 1 << 40}
			if e := effect.Compute(counted, s, after); !e.Complete {
				t.Fatal(e.Incomplete)
			}
			all := 1<<40 - counted.looks
			for _, part := range []int{0, 1, 10, 50, 90} {
				ctx := &endingAfter{t.Context(), all * part / 100}
				e := effect.Compute(ctx, s, after)
				if late := -ctx.looks; e.Complete && part < 50 || late > 200 {
					t.Errorf("ended at %d%%: complete %v, %d looks at the context after its end", part, e.Complete, late)
				}
			}
		})
	}
}
