//go:build netns

package revoke_test

import (
	"maps"
	"net/netip"
	"testing"

	"github.com/tierwall/tierwall/enforcer/revoke"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/eval"
	"github.com/tierwall/tierwall/test/netns"
)

// matchesNothing are n entries of every protocol, both families, with and without translation,
// between pods and the world.
func matchesNothing(n int) []entry {
	protocols := []policy.Protocol{policy.TCP, policy.UDP, policy.SCTP, policy.ICMP}
	ends := [][]netip.Addr{client.Addrs, other.Addrs, server.Addrs, stranger.Addrs, world, hosts[0].Addrs}
	var out []entry
	for i := 0; len(out) < n; i++ {
		from, to, family := ends[i%len(ends)], ends[i/len(ends)%len(ends)], i/36%2
		e := entry{flow: policy.Flow{Source: from[family], Destination: to[family], Protocol: protocols[i/72%len(protocols)]}, srcPort: uint16(1024 + i/288)}
		if from[0] == to[0] {
			continue
		}
		switch e.flow.Protocol {
		case policy.ICMP:
			e.flow.ICMPType = 8
			if family == 1 {
				e.flow.Protocol, e.flow.ICMPType = policy.ICMPv6, 128
			}
		default:
			e.flow.DestinationPort = 5432
			if i/5%2 == 0 {
				e.to = addrs("10.96.0.1", "fd00:96::1")[family]
				e.flow.DestinationPort = 5433 + uint16(i%len(ends)) // no two behind one Service
				e.srcPort += uint16(i/len(ends)%len(ends)) * 5000
			}
		}
		out = append(out, e)
	}
	return out
}

func TestOfThousandsOfIdleConnectionsTheDeniedOnesGo(t *testing.T) {
	s := netns.NewSpace(t)
	s.Run(t, "nft", "add table inet lab; add chain inet lab in { type filter hook input priority 0; }; add rule inet lab in ct state invalid counter")
	track(t, s, matchesNothing(6000))
	all := tracked(t, s, revoke.Scope{All: true})
	if len(all) < 100 {
		t.Fatalf("only %d flows", len(all))
	}
	var table *revoke.Conntrack
	if err := s.Do(func() (err error) { table, err = revoke.Open(); return err }); err != nil {
		t.Fatal(err)
	}
	defer table.Close()
	reports := make(chan revoke.Report, 1)
	r := revoke.New(table, revoke.Options{Report: func(r revoke.Report) { reports <- r }})
	go func() { _ = r.Start(t.Context()) }()
	none := func() error { return nil }
	before := rules{}.program()
	for i, p := range []*policy.Program{
		before,
		rules{ingress: only(server, everybody(client.Addrs))}.program(),
		rules{ingress: only(server, everybody(client.Addrs)), egress: only(other, server.Addrs, client.Addrs[:1])}.program(),
		{},
		rules{ingress: map[string][]netip.Addr{"client": nil, "other": nil, "server": nil}}.program(),
	} {
		if err := r.Commit(p, nil, none); err != nil {
			t.Fatal(err)
		}
		report, e := <-reports, eval.New(p)
		gone := 0
		for f, n := range all {
			if e.Decide(f).Verdict != policy.Allow {
				delete(all, f)
				gone += n
			}
		}
		if got := tracked(t, s, revoke.Scope{All: true}); !maps.Equal(got, all) {
			t.Errorf("program %d: %d flows are tracked, want %d", i, len(got), len(all))
		}
		cut := 0
		for _, n := range report.Cut {
			cut += n
		}
		if cut != gone || report.Err != nil {
			t.Errorf("program %d: cut %d (%v), want %d", i, cut, report.Err, gone)
		}
		t.Logf("program %d: %d connections cut, %d kinds of flows left", i, cut, len(all))
	}
}

// What the kernel hands over for a side has all of it; of IPv4, nothing else.
func TestTheKernelGivesTheConnectionsOfASide(t *testing.T) {
	s := netns.NewSpace(t)
	s.Run(t, "nft", "add table inet lab; add chain inet lab in { type filter hook input priority 0; }; add rule inet lab in ct state invalid counter")
	track(t, s, matchesNothing(2000))
	all := tracked(t, s, revoke.Scope{All: true})
	for _, a := range everybody() {
		for _, d := range policy.Directions {
			scope := revoke.Scope{Sides: map[revoke.Side]bool{{Addr: a, Direction: d}: true}}
			want := maps.Clone(all)
			maps.DeleteFunc(want, func(f policy.Flow, _ int) bool { return !scope.Has(f) })
			got := tracked(t, s, scope)
			if a.Is6() {
				maps.DeleteFunc(got, func(f policy.Flow, _ int) bool { return !scope.Has(f) })
			}
			if !maps.Equal(got, want) {
				t.Errorf("%s %s: got %d flows, want %d", a, d, len(got), len(want))
			}
		}
	}
}

// However it is asked for several sides, by one walk of a table of few connections or by one for each side, they are all handed over.
func TestTheKernelGivesTheConnectionsOfSeveralSides(t *testing.T) {
	for _, n := range []int{200, 12_000} {
		s := netns.NewSpace(t)
		s.Run(t, "nft", "add table inet lab; add chain inet lab in { type filter hook input priority 0; }; add rule inet lab in ct state invalid counter")
		track(t, s, matchesNothing(n))
		all := tracked(t, s, revoke.Scope{All: true})
		people := everybody()
		for i, a := range people {
			scope := revoke.Scope{Sides: map[revoke.Side]bool{
				{Addr: a, Direction: policy.Egress}:                          true,
				{Addr: people[(i+1)%len(people)], Direction: policy.Ingress}: true,
				{Addr: people[(i+7)%len(people)], Direction: policy.Egress}:  true,
			}}
			got, want := map[policy.Flow]bool{}, map[policy.Flow]bool{}
			for f := range all {
				if scope.Has(f) {
					want[f] = true
				}
			}
			for f := range tracked(t, s, scope) {
				if scope.Has(f) {
					got[f] = true
				}
			}
			if len(want) == 0 || !maps.Equal(got, want) {
				t.Errorf("of %d connections, those of %v: got %d flows, want %d", n, scope.Sides, len(got), len(want))
			}
		}
	}
}
