//go:build cluster

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/tierwall/tierwall/test/shop"
)

// change is a policy change: when its request returned, and what a connection
// is to become by it.
type change struct {
	asked, returned time.Time
	reach           bool
}

// latency makes fifty policy changes under a probe that connects every
// millisecond, and prints how long after the request's return the first packet
// was judged anew. The figures are a report; the test is that each change came
// into force.
func latency(t *testing.T, f *fixture) {
	const changes = 50
	from, to := f.pod(t, "prod/backend"), f.pod(t, "prod/frontend")
	probe := f.startFlow(t, "probe", from, "watch", to.Targets()[0], "-every", "1ms", "-timeout", "500ms", "-for", "45s")
	time.Sleep(2 * time.Second)
	var made []change
	for i := range changes {
		made = append(made, f.callback(t, i%2 == 0))
		time.Sleep(700 * time.Millisecond)
	}
	attempts := probe.wait(t)
	slices.SortFunc(attempts, func(a, b shop.Attempt) int { return int(a.Sent - b.Sent) })
	took := map[bool][]time.Duration{}
	for i, c := range made {
		first, ok := firstAfter(attempts, c)
		if !ok {
			t.Errorf("change %d (reach %v) never came into force", i, c.reach)
			continue
		}
		took[c.reach] = append(took[c.reach], first.Sub(c.returned))
	}
	t.Logf("apply to enforced, from the request's return to the first packet judged anew, a probe every millisecond, %d probes:\n%s",
		len(attempts), latencyTable(took))
}

// callback lets the back end of prod call the front end, or takes that away again.
func (f *fixture) callback(t *testing.T, allow bool) change {
	t.Helper()
	policies := f.client.NetworkingV1().NetworkPolicies("prod")
	c := change{asked: time.Now(), reach: allow}
	var err error
	if allow {
		_, err = policies.Create(t.Context(), callbackPolicy(), metav1.CreateOptions{})
	} else {
		err = policies.Delete(t.Context(), callbackPolicy().Name, metav1.DeleteOptions{})
	}
	c.returned = time.Now()
	must(t, err)
	return c
}

func callbackPolicy() *networkingv1.NetworkPolicy {
	role := func(role string) metav1.LabelSelector {
		return metav1.LabelSelector{MatchLabels: map[string]string{"tierwall.io/tier-role": role}}
	}
	frontend, port := role("frontend"), intstr.FromInt32(8080)
	return &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "latency", Namespace: "prod"},
		Spec: networkingv1.NetworkPolicySpec{
			PodSelector: role("backend"),
			PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeEgress},
			Egress: []networkingv1.NetworkPolicyEgressRule{{
				To:    []networkingv1.NetworkPolicyPeer{{PodSelector: &frontend}},
				Ports: []networkingv1.NetworkPolicyPort{{Port: &port}},
			}},
		},
	}
}

// firstAfter is when the first packet after the change was sent that met the new verdict.
func firstAfter(sorted []shop.Attempt, c change) (time.Time, bool) {
	for _, a := range sorted {
		sent := time.Unix(0, a.Sent)
		if sent.After(c.asked) && a.Reached == c.reach {
			return sent, sent.Before(c.asked.Add(650 * time.Millisecond))
		}
	}
	return time.Time{}, false
}

func latencyTable(took map[bool][]time.Duration) string {
	var out strings.Builder
	fmt.Fprintf(&out, "%-10s %8s %9s %9s %9s\n", "change", "number", "p50 ms", "p99 ms", "max ms")
	for _, row := range []struct {
		name string
		took []time.Duration
	}{{"allowing", took[true]}, {"denying", took[false]}, {"all", append(slices.Clone(took[true]), took[false]...)}} {
		slices.Sort(row.took)
		fmt.Fprintf(&out, "%-10s %8d %9.1f %9.1f %9.1f\n", row.name, len(row.took),
			quantile(row.took, 0.5), quantile(row.took, 0.99), quantile(row.took, 1))
	}
	return out.String()
}

// quantile of sorted durations, in milliseconds.
func quantile(sorted []time.Duration, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return float64(sorted[int(q*float64(len(sorted)-1)+0.5)]) / float64(time.Millisecond)
}
