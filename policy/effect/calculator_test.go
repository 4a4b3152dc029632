package effect_test

import (
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/policy/effect"
)

// relabelPod returns the snapshot with other labels on one pod.
func relabelPod(s *compile.Snapshot, i int, with map[string]string) *compile.Snapshot {
	out, p := *s, *s.Pods[i]
	p.Labels = maps.Clone(p.Labels)
	maps.Copy(p.Labels, with)
	out.Pods = slices.Clone(s.Pods)
	out.Pods[i] = &p
	return &out
}

func TestEffectOfPodLabelsIsTheSameWhenNarrowed(t *testing.T) {
	crowd := withPolicies(shopCluster(),
		[3]string{"prod", "data", dataFromBackend},
		[3]string{"prod", "clients", "podSelector: {matchLabels: {app: db}}\ningress: [{from: [{namespaceSelector: {}, podSelector: {matchLabels: {client: 'yes'}}}], ports: [{port: pg}]}]"},
		[3]string{"prod", "quiet", "podSelector: {matchLabels: {quiet: 'yes'}}\npolicyTypes: [Ingress, Egress]"},
		[3]string{"prod", "talks", "podSelector: {matchLabels: {talks: 'yes'}}\negress: [{to: [{podSelector: {matchLabels: {app: api}}}, {ipBlock: {cidr: 203.0.113.0/24}}]}]"},
		[3]string{"test", "from-prod", "podSelector: {}\ningress: [{from: [{namespaceSelector: {matchLabels: {environment: prod}}, podSelector: {matchLabels: {tester: 'yes'}}}]}]"},
		[3]string{"test", "far", "podSelector: {matchLabels: {far: 'yes'}}\negress: [{to: [{ipBlock: {cidr: 10.0.0.0/8}}]}]"})
	open := *crowd
	open.Defaults.Action = policy.Allow
	opened := 0
	for _, c := range []struct {
		name   string
		s      *compile.Snapshot
		labels map[string]string
		part   bool
	}{
		{"a peer of policies", crowd, map[string]string{"client": "yes"}, true},
		{"a peer of another namespace's policies", crowd, map[string]string{"tester": "yes"}, true},
		{"a subject", crowd, map[string]string{"talks": "yes"}, true},
		{"a subject that is isolated", crowd, map[string]string{"quiet": "yes"}, true},
		{"both", crowd, map[string]string{"talks": "yes", "client": "yes", "tester": "yes"}, true},
		{"another application", crowd, map[string]string{"app": "db"}, true},
		{"nobody's", crowd, map[string]string{"version": "2"}, true},
		{"a subject by the pods' addresses", crowd, map[string]string{"far": "yes"}, false},
		{"where the end of isolation opens", &open, map[string]string{"quiet": "yes"}, false},
		{"a forged role", withClusterPolicy(crowd, "a", "Admin", 1, "Deny"), map[string]string{v1alpha1.RoleLabel: "data"}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			var memory effect.Calculator
			narrowed := 0
			for i := range c.s.Pods {
				after := relabelPod(c.s, i, c.labels)
				want := effect.Compute(t.Context(), c.s, after)
				for _, ask := range []func() effect.Effect{
					func() effect.Effect { return memory.Compute(t.Context(), c.s, after) },
					func() effect.Effect { return memory.Compute(t.Context(), c.s, after) },
				} {
					got := ask()
					if !got.Complete || rowLines(got.Added) != rowLines(want.Added) || rowLines(got.Removed) != rowLines(want.Removed) ||
						len(got.NewlyIsolated) != len(want.NewlyIsolated) || len(got.NoLongerIsolated) != len(want.NoLongerIsolated) {
						t.Errorf("pod %s: added\n%s\nremoved\n%s\nwant\n%s\nand\n%s", c.s.Pods[i].Name, rowLines(got.Added), rowLines(got.Removed), rowLines(want.Added), rowLines(want.Removed))
					}
					opened += len(got.Added) + len(got.Removed)
				}
				if effect.IsNarrowed(c.s, after) {
					narrowed++
				}
			}
			if (narrowed > 0) != c.part {
				t.Errorf("%d pods' labels are judged by a part of the cluster, want some: %v", narrowed, c.part)
			}
		})
	}
	if opened < 30 {
		t.Errorf("only %d rows: the test shows nothing", opened)
	}
}

// Concurrent changes of a changing cluster have the same effects as alone.
func TestCalculatorIsSafeForConcurrentUse(t *testing.T) {
	type change struct{ before, after *compile.Snapshot }
	var changes []change
	forEachChange(t, func(_ uint64, before, after *compile.Snapshot) {
		if len(changes) < 24 {
			changes = append(changes, change{before, after}, change{after, before})
		}
	})
	var memory effect.Calculator
	var together sync.WaitGroup
	for range 2 {
		for _, c := range changes {
			together.Go(func() {
				got, want := memory.Compute(t.Context(), c.before, c.after), effect.Compute(t.Context(), c.before, c.after)
				if got.Complete != want.Complete || rowLines(got.Added) != rowLines(want.Added) || rowLines(got.Removed) != rowLines(want.Removed) {
					t.Errorf("added\n%s\nremoved\n%s\nwant\n%s\nand\n%s", rowLines(got.Added), rowLines(got.Removed), rowLines(want.Added), rowLines(want.Removed))
				}
			})
		}
	}
	together.Wait()
}
