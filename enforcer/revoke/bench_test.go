//go:build netns

package revoke_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/tierwall/tierwall/enforcer/revoke"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/test/netns"
)

// crowd are TCP connections of 500 pods to as many servers each as it takes.
func crowd(n int, network netip.Prefix) []entry {
	at := func(group, i int) netip.Addr {
		b := network.Addr().AsSlice()
		b[1], b[len(b)-2], b[len(b)-1] = byte(group), byte(i>>8), byte(i)
		a, _ := netip.AddrFromSlice(b)
		return a
	}
	var out []entry
	for i := range n {
		out = append(out, entry{
			flow: policy.Flow{Source: at(1, i%500), Destination: at(2, i%251),
				Protocol: policy.TCP, DestinationPort: 5432},
			srcPort: uint16(20000 + i/500),
		})
	}
	return out
}

// BenchmarkLookingUp is what it costs to find the connections that a change affects
// among 100,000, and among few.
func BenchmarkLookingUp(b *testing.B) {
	side := func(a string, d policy.Direction) revoke.Side {
		return revoke.Side{Addr: netip.MustParseAddr(a), Direction: d}
	}
	some := func(n int) map[revoke.Side]bool {
		out := map[revoke.Side]bool{}
		for i := range n {
			out[side(fmt.Sprintf("10.1.0.%d", i+1), policy.Egress)] = true
		}
		return out
	}
	for _, table := range []struct {
		name      string
		four, six int
	}{{"IPv4", 100_000, 0}, {"half IPv6", 50_000, 50_000}, {"few", 1000, 1000}} {
		s := netns.NewSpace(b)
		s.Run(b, "nft", "add table inet lab; add chain inet lab in { type filter hook input priority 0; }; add rule inet lab in ct state invalid counter")
		track(b, s, crowd(table.four, netip.MustParsePrefix("10.0.0.0/8")))
		track(b, s, crowd(table.six, netip.MustParsePrefix("fd00::/16")))
		for _, c := range []struct {
			name  string
			scope revoke.Scope
		}{
			{"a side of one address", revoke.Scope{Sides: some(1)}},
			{"8 sides", revoke.Scope{Sides: some(8)}},
			{"9 sides", revoke.Scope{Sides: some(9)}},
			{"an IPv6 side", revoke.Scope{Sides: map[revoke.Side]bool{side("fd01::7", policy.Egress): true}}},
			{"both addresses of a pod", revoke.Scope{Sides: map[revoke.Side]bool{side("10.1.0.7", policy.Ingress): true, side("fd01::7", policy.Ingress): true}}},
			{"all", revoke.Scope{All: true}},
		} {
			b.Run(table.name+"/"+c.name, func(b *testing.B) {
				var conntrack *revoke.Conntrack
				if err := s.Do(func() (err error) { conntrack, err = revoke.Open(); return err }); err != nil {
					b.Fatal(err)
				}
				defer conntrack.Close()
				b.ReportAllocs()
				found := 0
				for b.Loop() {
					found = 0
					if err := conntrack.ForEach(b.Context(), c.scope, func(k revoke.Connection) {
						if c.scope.Has(k.Flow) {
							found++
						}
					}); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(found), "found")
			})
		}
	}
}
