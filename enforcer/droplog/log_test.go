package droplog

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/policy/eval"
	"github.com/tierwall/tierwall/test/generate"
)

// Whatever the program denies is explained by the side that denied it; the kernel asks egress first.
func TestEveryDenialIsExplained(t *testing.T) {
	seen := map[string]int{}
	for seed := range uint64(100) {
		s := generate.Cluster(generate.NewRand(seed), generate.Small)
		p, _ := compile.Compile(s, s.Nodes[0].Name)
		e := eval.New(p)
		for _, f := range generate.Flows(generate.NewRand(seed), s, 100) {
			want, got := e.Decide(f), explainDenial(e, loggedPacket{packet: packet{flow: f}})
			if f.Source == f.Destination {
				continue
			}
			switch {
			case got.isExplained() != (want.Verdict != policy.Allow):
				t.Fatalf("%+v: explained: %v, decided: %+v", f, got, want)
			case !want.Egress.Verdict.Permits():
				if seen["egress"]++; got.direction != policy.Egress || got.why != want.Egress || got.peerAddr() != f.Destination {
					t.Fatalf("%+v: %+v, want %+v", f, got, want.Egress)
				}
			case want.Verdict != policy.Allow:
				if seen["ingress"]++; got.direction != policy.Ingress || got.why != want.Ingress || got.peerAddr() != f.Source {
					t.Fatalf("%+v: %+v, want %+v", f, got, want.Ingress)
				}
			default:
				seen["allowed"]++
			}
		}
	}
	if seen["egress"] < 100 || seen["ingress"] < 100 || seen["allowed"] < 100 {
		t.Errorf("the flows show too little: %v", seen)
	}
}

// Whatever Audit lets pass is explained by the side that its prefix names.
func TestEveryAuditIsExplained(t *testing.T) {
	seen := map[packetKind]int{}
	for seed := range uint64(100) {
		s := generate.Cluster(generate.NewRand(seed), generate.Small)
		p, _ := compile.Compile(s, s.Nodes[0].Name)
		e := eval.New(p)
		for _, f := range generate.Flows(generate.NewRand(seed), s, 100) {
			want := e.Decide(f)
			for w, why := range map[packetKind]policy.Why{auditedEgress: want.Egress, auditedIngress: want.Ingress} {
				if f.Source == f.Destination {
					continue
				}
				got := explainDenial(e, loggedPacket{packet{flow: f}, w})
				switch {
				case got.isExplained() != (why.Verdict == policy.Audit):
					t.Fatalf("%+v: explained: %v, decided: %+v", f, got, want)
				case got.isExplained() && (got.why != why || (got.direction == policy.Egress) != (w == auditedEgress)):
					t.Fatalf("%+v: %+v, want %+v", f, got, why)
				case got.isExplained():
					seen[w]++
				}
			}
		}
	}
	if seen[auditedEgress] < 100 || seen[auditedIngress] < 100 {
		t.Errorf("the flows show too little: %v", seen)
	}
}

// shop is a program of a pod that admits one other by TCP.
func shop() *policy.Program {
	id := policy.RuleID{Kind: "NetworkPolicy", Namespace: "prod", Name: "data", Field: "/spec/ingress"}
	return &policy.Program{
		Local: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")},
		Sets:  map[policy.SetID]*policy.Set{"back": {ID: "back", Elements: []policy.Element{policy.AddressElement(netip.MustParseAddr("10.0.0.1"))}}},
		Classes: [2]map[policy.ClassID]*policy.Class{
			{"data": {ID: "data", Tiers: []policy.Tier{{Name: policy.NetworkPolicyTier, ElseID: id,
				Rules: []policy.Rule{{Verdict: policy.Allow, Peers: []policy.SetID{"back"}, Ports: []policy.Port{policy.AllPorts(policy.TCP)}}}}}}},
			{"any": {ID: "any", Tiers: []policy.Tier{{Name: policy.DefaultTier, Else: policy.Allow}}}},
		},
		Endpoints: []policy.Endpoint{
			{Namespace: "prod", Name: "back", Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}, Class: [2]policy.ClassID{"data", "any"}},
			{Namespace: "prod", Name: "data", Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.2")}, Class: [2]policy.ClassID{"data", "any"}},
		},
	}
}

// run runs a log of a program on packets that came one way, and gives the lines that it wrote.
func run(t *testing.T, o Options, p *policy.Program, w packetKind, packets ...[]byte) []map[string]any {
	t.Helper()
	var text bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		o.Log = slog.New(slog.NewJSONHandler(&text, nil))
		l := New(o)
		l.Use(p)
		l.listen = func(ctx context.Context, _ uint16, take func(packetKind, []byte), _ func()) error {
			for _, b := range packets {
				take(w, b)
			}
			<-ctx.Done()
			return ctx.Err()
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- l.Start(ctx) }()
		synctest.Wait()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	var out []map[string]any
	for line := range strings.Lines(text.String()) {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		delete(fields, "time")
		out = append(out, fields)
	}
	return out
}

func TestALineSaysWhoWasDeniedWhatAndWhy(t *testing.T) {
	ports := []byte{0x9c, 0x40, 0x15, 0x38}
	from := func(b []byte, last byte) []byte {
		b[15] = last
		return b
	}
	for name, c := range map[string]struct {
		packet []byte
		want   map[string]any
	}{
		"by a policy": {ipv4(policy.UDP, 0, 0, ports...), map[string]any{
			"source": "10.0.0.1", "sourcePort": 40000., "destination": "10.0.0.2", "protocol": "UDP", "port": 5432.,
			"direction": "ingress", "endpoint": "prod/data", "peer": "prod/back", "tier": "NetworkPolicy", "policy": "NetworkPolicy prod/data", "field": "/spec/ingress"}},
		"from a pod elsewhere": {func() []byte { b := from(ipv4(policy.ICMP, 0, 0, 8), 9); b[14] = 5; return b }(), map[string]any{
			"source": "10.0.5.9", "destination": "10.0.0.2", "protocol": "ICMP",
			"direction": "ingress", "endpoint": "prod/data", "peer": "shop/10.0.5.9", "tier": "NetworkPolicy", "policy": "NetworkPolicy prod/data", "field": "/spec/ingress"}},
		"from a pod that is not known": {from(ipv4(policy.TCP, 0, 0, ports...), 9), map[string]any{
			"source": "10.0.0.9", "sourcePort": 40000., "destination": "10.0.0.2", "protocol": "TCP", "port": 5432.,
			"direction": "egress", "peer": "prod/data", "note": "a pod that is not known yet"}},
		"by a program before": {ipv4(policy.TCP, 0, 0, ports...), map[string]any{
			"source": "10.0.0.1", "sourcePort": 40000., "destination": "10.0.0.2", "protocol": "TCP", "port": 5432.,
			"peer": "shop/10.0.0.1", "note": "the program that is in force now allows it"}},
	} {
		o := Options{Name: func(a netip.Addr) string { return "shop/" + a.String() }}
		got := run(t, o, shop(), denied, []byte("no packet"), c.packet)
		c.want["level"], c.want["msg"] = "INFO", "denied"
		if len(got) != 1 || fmt.Sprint(got[0]) != fmt.Sprint(c.want) {
			t.Errorf("%s:\n%v\nwant\n%v", name, got, c.want)
		}
	}
}

func TestALineSaysWhatWasAuditedAndItIsCountedByNamespace(t *testing.T) {
	audits.Reset()
	p := shop()
	p.Classes[policy.Ingress]["data"].Tiers = []policy.Tier{{Name: policy.DefaultTier, Else: policy.Audit, ElseID: policy.RuleID{Kind: "Default"}}}
	packet := ipv4(policy.UDP, 0, 0, 0x9c, 0x40, 0x15, 0x38)
	flow := map[string]any{"level": "INFO", "msg": "audited", "source": "10.0.0.1", "sourcePort": 40000., "destination": "10.0.0.2", "protocol": "UDP", "port": 5432.}
	for w, more := range map[packetKind]map[string]any{
		auditedIngress: {"direction": "ingress", "endpoint": "prod/data", "peer": "prod/back", "tier": "Default"},
		auditedEgress:  {"note": "the program that is in force now does not audit it"},
	} {
		want := maps.Clone(flow)
		maps.Copy(want, more)
		if got := run(t, Options{}, p, w, packet); len(got) != 1 || fmt.Sprint(got[0]) != fmt.Sprint(want) {
			t.Errorf("\n%v\nwant\n%v", got, want)
		}
	}
	if known, unknown := testutil.ToFloat64(audits.WithLabelValues("ingress", "prod")), testutil.ToFloat64(audits.WithLabelValues("unknown", "")); known != 1 || unknown != 1 {
		t.Errorf("counted %v, and %v unknown", known, unknown)
	}
}

func TestALineSaysThatASourceIsForged(t *testing.T) {
	before := testutil.ToFloat64(spoofs)
	want := map[string]any{"level": "INFO", "msg": "denied", "source": "10.0.0.1", "sourcePort": 40000., "destination": "10.0.0.2", "protocol": "TCP", "port": 5432.,
		"direction": "egress", "peer": "prod/data", "note": "the pod that sent it does not have its source address"}
	got := run(t, Options{}, shop(), spoofed, ipv4(policy.TCP, 0, 0, 0x9c, 0x40, 0x15, 0x38)) // which policy allows
	if len(got) != 1 || fmt.Sprint(got[0]) != fmt.Sprint(want) || testutil.ToFloat64(spoofs) != before+1 {
		t.Errorf("\n%v\nwant\n%v", got, want)
	}
}

func TestWhatDoesNotFitIsCountedAndKeepsNothingWaiting(t *testing.T) {
	l := New(Options{})
	before := testutil.ToFloat64(lost.WithLabelValues("agent"))
	for range queueSize + 100 {
		l.queuePacket(denied, ipv4(policy.UDP, 0, 0, 0, 1, 0, 2)) // nobody explains them
	}
	if n := testutil.ToFloat64(lost.WithLabelValues("agent")) - before; n != 100 {
		t.Errorf("%v lost", n)
	}
}

func TestListeningIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text bytes.Buffer
		l := New(Options{Group: 7, Log: slog.New(slog.NewTextHandler(&text, nil))})
		tries := 0
		ctx, cancel := context.WithCancel(t.Context())
		l.listen = func(_ context.Context, group uint16, _ func(packetKind, []byte), overflow func()) error {
			if overflow(); group != 7 {
				t.Errorf("group %d", group)
			}
			if tries++; tries == 3 {
				cancel()
			}
			return errors.New("busy")
		}
		before := testutil.ToFloat64(lost.WithLabelValues("kernel"))
		if err := l.Start(ctx); err != nil || tries != 3 || strings.Count(text.String(), "busy") != 2 {
			t.Errorf("%v, %d tries: %s", err, tries, text.String())
		}
		if n := testutil.ToFloat64(lost.WithLabelValues("kernel")) - before; n != 3 {
			t.Errorf("%v lost", n)
		}
	})
}

// Tenants choose the names of policies and namespaces, and must not fill the memory of whoever keeps the metrics.
func TestCountersAreBounded(t *testing.T) {
	denials.Reset()
	n := newBoundedNames()
	deny := func(namespace, name string) {
		n.countDenial(denial{direction: policy.Ingress, why: policy.Why{Tier: policy.NetworkPolicyTier,
			Rule: policy.RuleID{Kind: "NetworkPolicy", Namespace: namespace, Name: name}}})
	}
	for i := range 3 * maxNames {
		deny("greedy", fmt.Sprint("p", i))
	}
	if got := testutil.CollectAndCount(denials); got != maxNamesOfNamespace+1 {
		t.Errorf("one namespace has %d series", got)
	}
	deny("modest", "p")
	if got := testutil.ToFloat64(denials.WithLabelValues("ingress", "NetworkPolicy", "NetworkPolicy modest/p")); got != 1 {
		t.Errorf("another namespace's policy is counted %v times by name", got)
	}
	for i := range 3 * maxNames {
		deny(fmt.Sprint("ns", i), "p")
	}
	if got := testutil.CollectAndCount(denials); got != maxNames+1 {
		t.Errorf("%d series", got)
	}
	if got := testutil.ToFloat64(denials.WithLabelValues("ingress", "NetworkPolicy", "other")); got != 6*maxNames+1-maxNames {
		t.Errorf("%v others", got)
	}
}

// Denied packets of ever new addresses and ports, well-formed or not, leave nothing behind.
func TestPacketsOfManyTuplesLeaveNothingBehind(t *testing.T) {
	l := New(Options{Log: slog.New(slog.DiscardHandler)})
	l.Use(&policy.Program{})
	denials.Reset()
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { l.explainQueued(ctx); close(done) }()
	for i := range 20_000 {
		packet := ipv4(policy.UDP, i&255, i>>8&255, 0, 1, 0, 2)
		packet[12], packet[13] = byte(i>>8), byte(i)
		l.queuePacket(denied, packet[:i%(len(packet)+1)])
	}
	cancel()
	<-done
	if len(l.queue) > queueSize || len(l.names.known) > 0 || testutil.CollectAndCount(denials) > 2 {
		t.Errorf("%d queued, %d names, %d series", len(l.queue), len(l.names.known), testutil.CollectAndCount(denials))
	}
}
