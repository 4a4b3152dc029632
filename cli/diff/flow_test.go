package diff_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/tierwall/tierwall/cli/diff"
	"github.com/tierwall/tierwall/cli/report"
	"github.com/tierwall/tierwall/policy/effect"
)

func pod(name string) effect.Peer {
	return effect.Peer{Kind: effect.Workload, Namespace: "n", Name: name, Pods: 1}
}

func network(cidr string) effect.Peer { return effect.Peer{Kind: effect.CIDR, Name: cidr} }

func row(d effect.Direction, from, to effect.Peer, ports ...string) effect.Row {
	return effect.Row{Direction: d, From: from, To: to, Ports: ports, Via: []effect.Ref{{Policy: "NetworkPolicy n/" + string(d), Rule: "/spec"}}}
}

func blocked(r effect.Row) effect.Row {
	r.Blocked = true
	return r
}

func shown(t *testing.T, e effect.Effect, o diff.Options) []string {
	t.Helper()
	e.Complete = true
	var out bytes.Buffer
	if err := diff.Text(&out, report.Style{}, e, o); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(out.String()) {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	return lines
}

// A flow passes where both sides let it, and is one line.
func TestFlowsAndNotHalves(t *testing.T) {
	web, db := pod("web"), pod("db")
	both := "NetworkPolicy n/ingress /spec, NetworkPolicy n/egress /spec"
	for name, c := range map[string]struct {
		rows []effect.Row
		open bool // whether something passed before
		want []string
	}{
		"both sides": {[]effect.Row{row(effect.Egress, web, db, "TCP/80"), row(effect.Ingress, web, db, "TCP/80")}, true, []string{"+ n/web → n/db TCP/80 " + both}},
		"the smaller of both": {[]effect.Row{row(effect.Egress, web, db, "any"), row(effect.Ingress, web, db, "TCP/80", "UDP/53")}, false,
			[]string{"+ n/web → n/db TCP/80, UDP/53 " + both}},
		"what is in both": {[]effect.Row{row(effect.Egress, web, db, "TCP/1-100"), row(effect.Ingress, web, db, "TCP/50-200", "UDP/7")}, false,
			[]string{"+ n/web → n/db TCP/50-100 " + both}},
		"where some was open before": {[]effect.Row{row(effect.Egress, web, db, "TCP/443"), row(effect.Ingress, web, db, "TCP/80", "TCP/443")}, true,
			[]string{"+ n/web → n/db TCP/80, TCP/443 NetworkPolicy n/ingress /spec (ingress)", "+ n/web → n/db TCP/443 NetworkPolicy n/egress /spec (egress)"}},
		"one side, the other lets it": {[]effect.Row{row(effect.Ingress, web, db, "TCP/80")}, true, []string{"+ n/web → n/db TCP/80 NetworkPolicy n/ingress /spec (ingress)"}},
		"one side, the other does not": {[]effect.Row{blocked(row(effect.Ingress, web, db, "TCP/80"))}, false,
			[]string{"not shown: 1 rows of one side that the other side blocks; --all shows them"}},
		"nothing in both": {[]effect.Row{blocked(row(effect.Egress, web, db, "TCP/1")), blocked(row(effect.Ingress, web, db, "TCP/2"))}, false,
			[]string{"not shown: 2 rows of one side that the other side blocks; --all shows them"}},
		"a name may be any number": {[]effect.Row{row(effect.Egress, web, db, "TCP/80"), row(effect.Ingress, web, db, "TCP/http")}, false,
			[]string{"+ n/web → n/db TCP/http NetworkPolicy n/ingress /spec (ingress)", "+ n/web → n/db TCP/80 NetworkPolicy n/egress /spec (egress)"}},
		"both families": {[]effect.Row{row(effect.Ingress, network("0.0.0.0/0"), web, "TCP/80"), row(effect.Ingress, network("::/0"), web, "TCP/80")}, false,
			[]string{"+ 0.0.0.0/0, ::/0 → n/web TCP/80 NetworkPolicy n/ingress /spec"}},
		"families that differ": {[]effect.Row{row(effect.Ingress, network("0.0.0.0/0"), web, "TCP/80"), row(effect.Ingress, network("::/0"), web, "TCP/81")}, false,
			[]string{"+ 0.0.0.0/0 → n/web TCP/80 NetworkPolicy n/ingress /spec", "+ ::/0 → n/web TCP/81 NetworkPolicy n/ingress /spec"}},
	} {
		got := shown(t, effect.Effect{Added: c.rows}, diff.Options{ClosedBefore: !c.open})
		for _, w := range c.want {
			if !strings.Contains(strings.Join(got, "\n")+"\n", w+"\n") {
				t.Errorf("%s: got\n%s\nwant %q", name, strings.Join(got, "\n"), w)
			}
		}
		if n := strings.Count(strings.Join(got, "\n"), "+ "); n != strings.Count(strings.Join(c.want, "\n"), "+ ") {
			t.Errorf("%s: %d lines\n%s", name, n, strings.Join(got, "\n"))
		}
	}
}

func TestClosedFlows(t *testing.T) {
	web, db := pod("web"), pod("db")
	got := shown(t, effect.Effect{Removed: []effect.Row{row(effect.Egress, web, db, "TCP/80"), row(effect.Ingress, web, db, "TCP/80"), row(effect.Ingress, web, pod("api"), "TCP/1")}}, diff.Options{})
	if text := strings.Join(got, "\n"); !strings.Contains(text, "closed (2)") || !strings.Contains(text, "- n/web → n/api TCP/1 NetworkPolicy n/ingress /spec (ingress)") {
		t.Errorf("%s", text)
	}
}

// Long lists are cut, and say how much is not shown.
func TestLongListsAreCut(t *testing.T) {
	var networks, pods []effect.Row
	for i := range 400 {
		networks = append(networks, row(effect.Ingress, network(fmt.Sprintf("192.0.%d.%d/32", i/200, i%200)), pod("web"), "TCP/80"))
		pods = append(pods, row(effect.Ingress, network("192.0.2.0/24"), pod(fmt.Sprintf("p-%d", i)), fmt.Sprintf("TCP/%d", i+1)))
	}
	if text := strings.Join(shown(t, effect.Effect{Added: networks}, diff.Options{}), "\n"); !strings.Contains(text, "and 398 more → n/web TCP/80") || len(text) > 400 {
		t.Errorf("%s", text)
	}
	if got := shown(t, effect.Effect{Added: pods}, diff.Options{}); !strings.Contains(strings.Join(got, "\n"), "and 360 more; --all shows them") || len(got) > 50 {
		t.Errorf("%d lines\n%s", len(got), strings.Join(got, "\n"))
	}
	if got := shown(t, effect.Effect{Added: pods}, diff.Options{All: true}); len(got) < 400 {
		t.Errorf("--all shows %d lines", len(got))
	}
}
