package enforcer

import (
	"bytes"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tierwall/tierwall/policy/compile"
)

// Each address that a pod's status reports and that is not the pod's is logged once, and counted while it is reported.
func TestRejectedAddressesAreLoggedAndCounted(t *testing.T) {
	for _, addr := range []string{"203.0.113.9", "10.1.0.5", "192.0.2.1", "2001:db8::1"} {
		w := newFakeCluster()
		claimant := &compile.Pod{Namespace: "test", Name: "claimant", Node: "n1", Created: 1, Addrs: []netip.Addr{netip.MustParseAddr(addr)}}
		if claimant.Addrs[0].Is6() {
			claimant.Node = "gone"
		}
		w.snapshot.Pods = append(w.snapshot.Pods, claimant)
		var log bytes.Buffer
		e := &Enforcer{Node: "n1", Source: w, Backend: w, Log: slog.New(slog.NewTextHandler(&log, nil))}
		r := prometheus.NewRegistry()
		RegisterMetrics(r, e)
		count := func(want float64) {
			t.Helper()
			if _, got := metricSum(t, r, "tierwall_enforcer_pods_with_rejected_addresses"); got != want {
				t.Errorf("%s: %v pods are counted, want %v", addr, got, want)
			}
		}
		e.loadAll()
		count(1)
		relabelled := *claimant
		relabelled.Labels = map[string]string{"app": "web"}
		w.snapshot.Pods[1] = &relabelled
		e.compileChange()
		count(1)
		if n := strings.Count(log.String(), "pod=test/claimant"); n != 1 || !strings.Contains(log.String(), addr) {
			t.Errorf("logged %d times: %s", n, log.String())
		}
		w.snapshot.Pods = w.snapshot.Pods[:1]
		e.compileChange()
		count(0)
	}
}
