package compile

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

func mustSelect(t testing.TB, namespace string, pods metav1.LabelSelector) *podSelection {
	t.Helper()
	r := &reporter{}
	s, ok := parseSelector(&pods, "", r)
	if !ok {
		t.Fatal(r.all())
	}
	return &podSelection{namespaces: nameIs(namespace), pods: s}
}

// TestSelectionsFindWhatASearchFinds adds and removes selections in a random order, and compares with a search of all.
func TestSelectionsFindWhatASearchFinds(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	choices := []metav1.LabelSelector{
		{},
		{MatchLabels: map[string]string{"app": "a"}},
		{MatchLabels: map[string]string{"app": "b", "tier": "x"}},
		{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "app", Operator: metav1.LabelSelectorOpIn, Values: []string{"a", "b", "c"}}}},
		{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "tier", Operator: metav1.LabelSelectorOpExists}}},
		{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "app", Operator: metav1.LabelSelectorOpNotIn, Values: []string{"a"}}}},
	}
	x, all := newSelections[int](), map[int]*podSelection{}
	for n := range 3000 {
		if value := r.IntN(60); all[value] != nil {
			x.remove(value)
			delete(all, value)
		} else {
			all[value] = mustSelect(t, fmt.Sprint("ns-", r.IntN(3)), choices[r.IntN(len(choices))])
			x.add(all[value], value)
		}
		namespace := fmt.Sprint("ns-", r.IntN(3))
		ofNamespace := labels.Set{nameLabel: namespace}
		pod := labels.Set{"app": string("abcd"[r.IntN(4)])}
		if r.IntN(2) == 0 {
			pod["tier"] = string("xy"[r.IntN(2)])
		}
		var want []int
		for value, s := range all {
			if s.namespaces.matches(ofNamespace) && s.pods.matches(pod) {
				want = append(want, value)
			}
		}
		got := x.of(namespace, ofNamespace, pod)
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Fatalf("step %d: pod %v in %s is in %v, want %v", n, pod, namespace, got, want)
		}
	}
	for value := range all {
		x.remove(value)
	}
	if len(x.byAnchor) > 0 || len(x.filed) > 0 {
		t.Errorf("%d anchors and %d selections are left after all were removed", len(x.byAnchor), len(x.filed))
	}
}

// BenchmarkRemoveSelections removes selections that have one anchor; the time for one must not depend on their number.
func BenchmarkRemoveSelections(b *testing.B) {
	s := mustSelect(b, "tenant", metav1.LabelSelector{})
	for _, n := range []int{1000, 10000, 100000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				x := newSelections[int]()
				for value := range n {
					x.add(s, value)
				}
				b.StartTimer()
				for value := range n {
					x.remove(value)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/removal")
		})
	}
}
