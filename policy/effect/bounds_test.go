package effect_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/policy/effect"
)

// withJobs returns the snapshot with one pod per job in namespace test, each with a label value of its own.
func withJobs(s *compile.Snapshot, jobs int) *compile.Snapshot {
	out := *s
	out.Pods = slices.Clone(s.Pods)
	for i := range jobs {
		p := newPod("test", fmt.Sprintf("job-%04d", i), "job", fmt.Sprintf("10.244.%d.%d", i/250+1, i%250+1))
		p.Labels = map[string]string{"app": "job", "job-name": p.Name}
		out.Pods = append(out.Pods, p)
	}
	return &out
}

// namingJobs returns a policy that distinguishes every job.
func namingJobs(ns string, jobs int) [3]string {
	var names []string
	for i := range jobs {
		names = append(names, fmt.Sprintf("job-%04d", i))
	}
	return [3]string{ns, "jobs", "podSelector: {matchExpressions: [{key: job-name, operator: In, values: [" + strings.Join(names, ", ") + "]}]}"}
}

// allocatedBytes returns the bytes that computing an effect allocates, freed ones included.
func allocatedBytes(t *testing.T, before, after *compile.Snapshot) (effect.Effect, uint64) {
	t.Helper()
	var start, end runtime.MemStats
	runtime.ReadMemStats(&start)
	e := effect.Compute(t.Context(), before, after)
	runtime.ReadMemStats(&end)
	return e, end.TotalAlloc - start.TotalAlloc
}

const megabyte = 1 << 20

func TestEffectOfManyPodGroupsIsBounded(t *testing.T) {
	const jobs = 1900
	s := withPolicies(withJobs(shopCluster(), jobs), namingJobs("test", jobs))
	t.Run("with few subjects it is computed", func(t *testing.T) {
		e, bytes := allocatedBytes(t, s, withPolicies(s, [3]string{"prod", "open", "podSelector: {}\ningress: [{from: [{namespaceSelector: {}}]}]"}))
		if !e.Complete || e.Truncated || len(e.Added) == 0 || len(e.Added) > effect.MaxRows || bytes > 64*megabyte {
			t.Errorf("complete %v %v, truncated %v, %d rows, %d bytes", e.Complete, e.Incomplete, e.Truncated, len(e.Added), bytes)
		}
		if !strings.Contains(rowLines(e.Added), "ingress test/ -> prod/data any") {
			t.Errorf("the jobs are missing in\n%s", rowLines(e.Added))
		}
	})
	t.Run("with as many subjects it is not", func(t *testing.T) {
		e, bytes := allocatedBytes(t, s, withPolicies(s, [3]string{"test", "open", "podSelector: {}\ningress: [{from: [{namespaceSelector: {}}]}]"}))
		if e.Complete || len(e.Added) > effect.MaxRows || bytes > 64*megabyte {
			t.Errorf("complete %v, %d rows, %d bytes", e.Complete, len(e.Added), bytes)
		}
		if got := fmt.Sprint(e.Incomplete); !strings.Contains(got, "pairs") || !strings.Contains(got, "label job-name") || !strings.Contains(got, "NetworkPolicy test/jobs") {
			t.Errorf("incomplete: %s", got)
		}
	})
	t.Run("isolations are merged", func(t *testing.T) {
		e, bytes := allocatedBytes(t, s, withPolicies(s, [3]string{"test", "closed", "podSelector: {}\npolicyTypes: [Egress]"}))
		if !e.Complete || len(e.NewlyIsolated) == 0 || len(e.NewlyIsolated) > effect.MaxRows || bytes > 64*megabyte {
			t.Errorf("complete %v %v, %d isolated, %d bytes", e.Complete, e.Incomplete, len(e.NewlyIsolated), bytes)
		}
	})
}

func TestLongListsOfValuesAreBounded(t *testing.T) {
	values := func(n int) string {
		var out []string
		for i := range n {
			out = append(out, fmt.Sprintf("v%d", i))
		}
		return strings.Join(out, ",")
	}
	var peers []string
	for i := range 60 {
		peers = append(peers, fmt.Sprintf("{podSelector: {matchExpressions: [{key: k%d, operator: In, values: [%s]}]}}", i, values(64)))
	}
	s := shopCluster()
	s.Pods = s.Pods[:1]
	e, bytes := allocatedBytes(t, s, withPolicies(s, [3]string{"prod", "lists",
		"podSelector: {matchExpressions: [{key: app, operator: In, values: [" + values(64) + "]}]}\ningress: [{from: [" + strings.Join(peers, ",") + "]}]"}))
	if e.Complete || bytes > 128*megabyte {
		t.Errorf("complete %v, %d rows, %d bytes", e.Complete, len(e.Added), bytes)
	}
}

func TestEndedContextGivesUnknownEffect(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(fmt.Errorf("the guardrails are waiting"))
	e := effect.Compute(ctx, shopCluster(), withPolicies(shopCluster(), [3]string{"prod", "data", dataFromBackend}))
	if e.Complete || len(e.Added) > 0 || !strings.Contains(fmt.Sprint(e.Incomplete), "time for computing the effect is over: the guardrails are waiting") {
		t.Errorf("complete %v %v, %d rows", e.Complete, e.Incomplete, len(e.Added))
	}
}

// endingAfter is a context that ends after a number of checks.
type endingAfter struct {
	context.Context
	looks int
}

func (c *endingAfter) Err() error {
	if c.looks--; c.looks < 0 {
		return context.DeadlineExceeded
	}
	return nil
}

// Lint comes last, and only lint may be incomplete in a complete effect.
func TestContextThatEndsMidwayGivesIncompleteEffect(t *testing.T) {
	after, whole := withPolicies(shopCluster(), [3]string{"prod", "data", dataFromBackend}), ""
	for looks := 0; ; looks++ {
		ctx := &endingAfter{t.Context(), looks}
		e := effect.Compute(ctx, shopCluster(), after)
		if ctx.looks >= 0 {
			if !e.Complete || looks < 10 || rowLines(e.Added) != whole {
				t.Errorf("complete %v %v after %d looks", e.Complete, e.Incomplete, looks)
			}
			return
		}
		switch {
		case e.Complete && whole == "":
			whole = rowLines(e.Added)
		case e.Complete != (whole != "") || e.Complete != (len(e.Incomplete) == 0) || rowLines(e.Added) != whole:
			t.Fatalf("after %d looks: complete %v %v", looks, e.Complete, e.Incomplete)
		}
	}
}

func TestIndistinguishablePodsAreOneGroup(t *testing.T) {
	const jobs = 4200
	exists := [3]string{"test", "any-job", "podSelector: {matchExpressions: [{key: job-name, operator: Exists}]}"}
	named := [3]string{"test", "one-job", "podSelector: {matchExpressions: [{key: job-name, operator: NotIn, values: [job-0007]}]}"}
	toAll := [3]string{"prod", "open", "podSelector: {matchLabels: {tierwall.io/tier-role: data}}\ningress: [{from: [{namespaceSelector: {matchLabels: {environment: test}}, podSelector: {matchLabels: {app: job}}}]}]"}
	for _, c := range []struct {
		name     string
		policies [][3]string
		want     string
	}{
		{"a label that need only be there", [][3]string{exists}, "4200 map[app:job]"},
		{"a label of which one value is named", [][3]string{exists, named}, "1 map[app:job job-name:job-0007]\n4199 map[app:job]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := withPolicies(withJobs(shopCluster(), jobs), c.policies...)
			e := effect.Compute(t.Context(), s, withPolicies(s, toAll))
			var got []string
			for _, row := range e.Added {
				if row.From.Kind == effect.Workload {
					got = append(got, fmt.Sprintf("%d %v", row.From.Pods, row.From.Labels))
				}
			}
			slices.Sort(got)
			if !e.Complete || strings.Join(got, "\n") != c.want {
				t.Errorf("complete %v %v, from\n%s\nwant\n%s", e.Complete, e.Incomplete, strings.Join(got, "\n"), c.want)
			}
		})
	}
}

func TestTooManyGroupsNameTheirPolicy(t *testing.T) {
	const jobs = 4200
	s := withPolicies(withJobs(shopCluster(), jobs), namingJobs("test", jobs), [3]string{"prod", "one", "podSelector: {matchLabels: {job-name: job-0001}}"})
	e := effect.Compute(t.Context(), s, withPolicies(s, [3]string{"prod", "new", "podSelector: {matchLabels: {app: new}}"}))
	want := "there are more than 4000 kinds of pods; the label job-name alone has 4200 values to tell apart, most of which NetworkPolicy test/jobs mentions"
	if e.Complete || !slices.Contains(e.Incomplete, want) {
		t.Errorf("complete %v %v", e.Complete, e.Incomplete)
	}
}

// Pods that no selector can tell apart may have had different roles before a TierRole changed.
func TestHypotheticalPodsWithDifferentFormerRolesAreDistinct(t *testing.T) {
	s := withPolicies(shopCluster(), [3]string{"prod", "data", dataFromBackend})
	s.Pods = slices.DeleteFunc(slices.Clone(s.Pods), func(p *compile.Pod) bool { return p.ServiceAccount == "api" })
	backend := func(values ...string) *v1alpha1.TierRole {
		tr := tierRole("backend", "")
		tr.Spec.ServiceAccounts = nil
		tr.Spec.PodSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "job", Operator: metav1.LabelSelectorOpIn, Values: values}}}
		return tr
	}
	after := *s
	s.TierRoles = []*v1alpha1.TierRole{backend("a"), tierRole("data", "db")}
	after.TierRoles = []*v1alpha1.TierRole{backend("a", "b", "c"), tierRole("data", "db")}
	aware := [3]string{"test", "jobs", "podSelector: {matchExpressions: [{key: job, operator: Exists}]}"}
	e := effect.Compute(t.Context(), withPolicies(s, aware), withPolicies(&after, aware))
	wantRows(t, e.Added, "ingress (prod)/backend -> prod/data TCP/5432 blocked")
	for _, row := range e.Added {
		if job, ok := row.From.Labels["job"]; ok {
			t.Errorf("job=%s stands for other jobs too", job)
		}
	}
}

// An answer costs time by the rules that match its peer, not by all rules and ports.
func TestManyRulesOfNetworksAndPortsAreCompared(t *testing.T) {
	const rules = 400
	var spec strings.Builder
	spec.WriteString("podSelector: {}\ningress:\n")
	for i := range rules {
		fmt.Fprintf(&spec, "- {from: [{ipBlock: {cidr: 10.%d.%d.1/32}}, {ipBlock: {cidr: 10.%d.%d.3/32}}], ports: [{port: %d}]}\n", i/250, i%250, i/250, i%250, 1024+3*i)
	}
	s := shopCluster()
	s.Pods = s.Pods[:1]
	after := withPolicies(s, [3]string{"prod", "many", spec.String()})
	e, bytes := allocatedBytes(t, s, after)
	if !e.Complete || len(e.Added) == 0 {
		t.Errorf("complete %v %v, %d rows", e.Complete, e.Incomplete, len(e.Added))
	}
	if most := uint64(rules * 60 << 10); bytes > most {
		t.Errorf("%d bytes for %d rules, want %d at most", bytes, rules, most)
	}
}
