package enforcer

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
)

func problemOf(namespace, name string, n int) policy.Problem {
	return policy.Problem{ID: policy.RuleID{Kind: compile.NetworkPolicyKind, Namespace: namespace, Name: name}, Message: fmt.Sprint("problem ", n)}
}

func TestProblemSeriesAreBoundedAndCountEveryProblem(t *testing.T) {
	var all []policy.Problem
	for ns := range 3 * maxProblemNamespaces {
		for name := range 3 * maxProblemObjects {
			for n := range 2 {
				all = append(all, problemOf(fmt.Sprintf("ns-%03d", ns), fmt.Sprintf("p-%03d", name), n))
			}
		}
	}
	series, total := boundProblemSeries(all), 0
	for _, n := range series {
		total += n
	}
	if most := maxProblemNamespaces*(maxProblemObjects+1) + 1; len(series) != most || total != len(all) {
		t.Errorf("%d series count %d problems, want %d series and %d problems", len(series), total, most, len(all))
	}
	if n := series[problemSeries{compile.NetworkPolicyKind, "ns-000", "p-000"}]; n != 2 {
		t.Errorf("the first object has %d problems, want 2", n)
	}
	// One namespace with many objects leaves the others their series.
	if n := series[problemSeries{compile.NetworkPolicyKind, "ns-001", "p-000"}]; n != 2 {
		t.Errorf("the second namespace's first object has %d problems, want 2", n)
	}
}

func TestFewProblemsAreCountedByName(t *testing.T) {
	series := boundProblemSeries([]policy.Problem{problemOf("a", "x", 0), problemOf("a", "x", 1), problemOf("b", "y", 0),
		{ID: policy.RuleID{Kind: compile.ClusterNetworkPolicyKind, Name: "z"}}})
	want := map[problemSeries]int{{compile.NetworkPolicyKind, "a", "x"}: 2, {compile.NetworkPolicyKind, "b", "y"}: 1, {compile.ClusterNetworkPolicyKind, "", "z"}: 1}
	if fmt.Sprint(series) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", series, want)
	}
}

// badPolicies are policies of one tenant with a problem each.
func badPolicies(n int) (out []*networkingv1.NetworkPolicy) {
	for i := range n {
		out = append(out, &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: fmt.Sprintf("bad-%04d", i)},
			Spec: networkingv1.NetworkPolicySpec{PolicyTypes: []networkingv1.PolicyType{"Sideways"}}})
	}
	return out
}

func TestManyBadPoliciesCostFewSeriesAndLogLines(t *testing.T) {
	w := newFakeCluster()
	var log bytes.Buffer
	e := &Enforcer{Node: "n1", Source: w, Backend: w, Log: slog.New(slog.NewTextHandler(&log, nil))}
	r := prometheus.NewRegistry()
	RegisterMetrics(r, e)
	t.Cleanup(func() { countProblems(nil) })
	e.loadAll()
	w.snapshot.NetworkPolicies = badPolicies(900)
	e.compileChange()
	e.problems.notBefore = time.Time{}
	e.reportDueProblems()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	series, counted := 0, 0.0
	for _, f := range families {
		if f.GetName() == "tierwall_enforcer_policy_problems" {
			for _, m := range f.GetMetric() {
				series, counted = series+1, counted+m.GetGauge().GetValue()
			}
		}
	}
	if series != maxProblemObjects+1 || counted < 900 {
		t.Errorf("%d series count %v problems", series, counted)
	}
	if lines := strings.Count(log.String(), "\n"); lines > maxLoggedProblems+1 || !strings.Contains(log.String(), "notLogged=") {
		t.Errorf("%d log lines", lines)
	}
	log.Reset()
	e.reportProblems()
	if log.Len() > 0 {
		t.Errorf("logged again: %s", log.String())
	}
}

func TestAReportThatTookLongDelaysTheNext(t *testing.T) {
	w := newFakeCluster()
	e := &Enforcer{Node: "n1", Source: w, Backend: w, Log: slog.New(slog.DiscardHandler)}
	t.Cleanup(func() { countProblems(nil) })
	e.loadAll()
	w.snapshot.NetworkPolicies = badPolicies(1)
	e.compileChange()
	due := e.problems.notBefore
	e.problems.notBefore = due.Add(time.Hour)
	if e.reportDueProblems(); len(e.problems.reported) > 0 || !e.problems.due {
		t.Error("reported before its time")
	}
	e.problems.notBefore = time.Time{}
	if e.reportDueProblems(); len(e.problems.reported) == 0 || e.problems.due {
		t.Error("not reported when its time had come")
	}
}
