package effect_test

import (
	"fmt"
	"testing"

	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/policy/effect"
)

// largeCluster returns 200 namespaces, each with 50 pods of ten applications and three policies.
func largeCluster() *compile.Snapshot {
	s := &compile.Snapshot{Nodes: []*compile.Node{{Name: "n1", Addrs: parseAddrs("192.0.2.1"), PodCIDRs: parsePrefixes("10.0.0.0/8")}}}
	for n := range 200 {
		ns := fmt.Sprintf("ns-%03d", n)
		s.Namespaces = append(s.Namespaces, &compile.Namespace{Name: ns, Labels: map[string]string{"environment": fmt.Sprint(n % 3)}})
		for p := range 50 {
			s.Pods = append(s.Pods, newPod(ns, fmt.Sprintf("p-%02d", p), fmt.Sprintf("app-%d", p%10), fmt.Sprintf("10.%d.%d.%d", n, p/10, p%10+1)))
		}
		for p := range 3 {
			s = withPolicies(s, [3]string{ns, fmt.Sprintf("np-%d", p), fmt.Sprintf(`
podSelector: {matchLabels: {app: app-%d}}
ingress: [{from: [{podSelector: {matchLabels: {app: app-%d}}}], ports: [{port: 80%d}]}]`, p, p+1, p)})
		}
	}
	return s
}

func BenchmarkCompute(b *testing.B) {
	s := largeCluster()
	for name, spec := range map[string]string{
		"one peer":   "podSelector: {matchLabels: {app: app-5}}\ningress: [{from: [{podSelector: {matchLabels: {app: app-6}}}], ports: [{port: 443}]}]",
		"every pod":  "podSelector: {}\ningress: [{from: [{namespaceSelector: {}}]}]",
		"everything": "podSelector: {}\ningress: [{}]\negress: [{}]",
	} {
		after := withPolicies(s, [3]string{"ns-007", "changed", spec})
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				e := effect.Compute(b.Context(), s, after)
				if !e.Complete || len(e.Added) == 0 {
					b.Fatal(e.Incomplete)
				}
				b.ReportMetric(float64(len(e.Added)), "rows")
			}
		})
	}
}
