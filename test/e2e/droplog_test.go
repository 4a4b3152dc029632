//go:build cluster

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tierwall/tierwall/test/shop"
)

// wantTold looks whether the enforcers that run now tell what they drop and what Audit lets pass.
func (f *fixture) wantTold(t *testing.T) {
	t.Helper()
	from, data := f.pod(t, "test/frontend"), f.pod(t, "prod/data")
	f.wantLogged(t, logLine{Msg: "denied", Direction: "ingress", Endpoint: "prod/" + data.Pod, Peer: "test/" + from.Pod,
		Port: 5432, Policy: "NetworkPolicy prod/deny"}, func() { f.tryFrom(t, from, data.Targets()...) })
	f.wantAudited(t)
	f.wantForgeriesDropped(t)
}

// logLine is what is read of a line about a packet.
type logLine struct {
	Msg, Direction, Endpoint, Peer, Source, Destination, Tier, Policy, Note string
	Port                                                                    int
}

// wantLogged looks for a line in what the enforcers log: what is wanted of it is what is not empty. The
// packet is sent again and again, since a burst before it may have used up what is logged and named in a second.
func (f *fixture) wantLogged(t *testing.T, want logLine, send func()) {
	t.Helper()
	eventually(t, 20*time.Second, fmt.Sprintf("%+v is logged", want), func() error {
		send()
		var seen []logLine
		out := f.run(t, "kubectl", "-n", systemNamespace, "logs", "--tail=-1", "-l", "app.kubernetes.io/component=enforcer")
		for text := range strings.Lines(out) {
			var l logLine
			if json.Unmarshal([]byte(text), &l) != nil || l.Msg != want.Msg {
				continue
			}
			if l.has(want) {
				return nil
			}
			seen = append(seen, l)
		}
		return fmt.Errorf("%d lines are, the last of them %+v", len(seen), seen[max(0, len(seen)-5):])
	})
}

func (l logLine) has(want logLine) bool {
	return l.Port == want.Port && !slices.ContainsFunc([][2]string{
		{l.Direction, want.Direction}, {l.Endpoint, want.Endpoint}, {l.Peer, want.Peer}, {l.Source, want.Source},
		{l.Destination, want.Destination}, {l.Tier, want.Tier}, {l.Policy, want.Policy}, {l.Note, want.Note},
	}, func(field [2]string) bool { return field[1] != "" && field[0] != field[1] })
}

// wantAudited has the front end of test reach its back end, which no policy is about: it passes, both
// sides are told, and both are counted.
func (f *fixture) wantAudited(t *testing.T) {
	t.Helper()
	from, to := f.pod(t, "test/frontend"), f.pod(t, "test/backend")
	front, back := "test/"+from.Pod, "test/"+to.Pod
	out := f.tryFrom(t, from, to.Targets()...)
	if strings.Count(out, `"reached":true`) != len(to.Targets()) {
		t.Errorf("under Audit the back end is not reached: %s", out)
	}
	for i := range to.Addrs {
		for _, want := range []logLine{
			{Direction: "egress", Endpoint: front, Peer: back},
			{Direction: "ingress", Endpoint: back, Peer: front},
		} {
			want.Msg, want.Tier, want.Port, want.Source, want.Destination = "audited", "Default", 8080, from.Addrs[i], to.Addrs[i]
			f.wantLogged(t, want, func() { f.tryFrom(t, from, to.Targets()...) })
		}
	}
	for _, direction := range []string{"egress", "ingress"} {
		if n := f.counted(t, `tierwall_enforcer_audits_total{direction="`+direction+`",namespace="test"}`); n < len(to.Addrs) {
			t.Errorf("%d audits of %s in test are counted, want %d at least", n, direction, len(to.Addrs))
		}
	}
}

// wantForgeriesDropped has a pod send from the front end's addresses to the back end, which anybody may reach:
// nothing arrives, each is told and counted, and what the pod sends from its own addresses passes.
func (f *fixture) wantForgeriesDropped(t *testing.T) {
	t.Helper()
	f.run(t, "kubectl", "-n", "test", "wait", "pod/forger", "--for=condition=Ready", "--timeout=60s")
	forger := shop.Workload{Namespace: "test", Pod: "forger", Addrs: strings.Fields(
		f.run(t, "kubectl", "-n", "test", "get", "pod", "forger", "-o", "jsonpath={.status.podIPs[*].ip}"))}
	victim, target := f.pod(t, "test/frontend"), f.pod(t, "test/backend")
	f.countArrivals(t, target, append(slices.Clone(forger.Addrs), victim.Addrs...))
	for i, to := range target.Targets() {
		eventually(t, 10*time.Second, "the pod's own traffic passes", func() error { // an IPv6 address may be tentative yet
			if out := f.tryFrom(t, forger, to); !strings.Contains(out, `"reached":true`) {
				return errors.New(out)
			}
			return nil
		})
		out := f.tryFrom(t, forger, "-source", victim.Addrs[i], to)
		if !strings.Contains(out, `"reached":false`) || !strings.Contains(out, "i/o timeout") {
			t.Errorf("from the address of %s: %s", victim, out)
		}
		want := logLine{Msg: "denied", Direction: "egress", Peer: "test/" + target.Pod, Source: victim.Addrs[i], Destination: target.Addrs[i],
			Port: 8080, Note: "the pod that sent it does not have its source address"}
		f.wantLogged(t, want, func() { f.tryFrom(t, forger, "-source", victim.Addrs[i], to) })
	}
	arrived := f.arrivals(t, target)
	t.Logf("arrived from %v and %v: %v packets", forger.Addrs, victim.Addrs, arrived)
	for i, n := range arrived {
		if own := i < len(forger.Addrs); own != (n > 0) {
			t.Errorf("%d packets arrived; from the pod's own address: %v", n, own)
		}
	}
	if n := f.counted(t, "tierwall_enforcer_spoofed_total"); n < len(target.Addrs) {
		t.Errorf("%d forgeries are counted, want %d at least", n, len(target.Addrs))
	}
}

// tryFrom runs the probe in a pod.
func (f *fixture) tryFrom(t *testing.T, pod shop.Workload, args ...string) string {
	t.Helper()
	return f.run(t, append([]string{"kubectl", "-n", pod.Namespace, "exec", pod.Pod, "--", "/probe", "reach", "-timeout", "700ms"}, args...)...)
}

// countArrivals counts in a pod's network, from now on, what comes from addresses.
func (f *fixture) countArrivals(t *testing.T, pod shop.Workload, from []string) {
	t.Helper()
	var rules strings.Builder
	for _, a := range from {
		family := "ip"
		if net.ParseIP(a).To4() == nil {
			family = "ip6"
		}
		fmt.Fprintf(&rules, "\t\t%s saddr %s counter\n", family, a)
	}
	cmd := f.inPod(t, pod, "nft", "-f", "-")
	cmd.Stdin = strings.NewReader("table inet arrivals\ndelete table inet arrivals\ntable inet arrivals {\n\tchain arrivals {\n" +
		"\t\ttype filter hook prerouting priority raw\n" + rules.String() + "\t}\n}\n")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("count what arrives at %s: %v: %s", pod, err, out)
	}
}

// arrivals are the packets that came, in the order of the addresses.
func (f *fixture) arrivals(t *testing.T, pod shop.Workload) []int {
	t.Helper()
	out, err := f.inPod(t, pod, "nft", "list", "table", "inet", "arrivals").Output()
	must(t, err)
	var counts []int
	for _, m := range regexp.MustCompile(`counter packets (\d+)`).FindAllSubmatch(out, -1) {
		n, err := strconv.Atoi(string(m[1]))
		must(t, err)
		counts = append(counts, n)
	}
	return counts
}
