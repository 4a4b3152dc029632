package nft

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/tierwall/tierwall/enforcer/run"
	"github.com/tierwall/tierwall/policy"
)

func TestABlockIsWrittenAsNftPrintsIt(t *testing.T) {
	for want, b := range map[string]block{
		"10.0.0.1":                  {address("10.0.0.1"), address("10.0.0.1")},
		"10.0.0.0/31":               {address("10.0.0.0"), address("10.0.0.1")},
		"10.0.0.1-10.0.0.2":         {address("10.0.0.1"), address("10.0.0.2")},
		"0.0.0.0/0":                 {address("0.0.0.0"), address("255.255.255.255")},
		"10.0.0.0/8":                blockOf(netip.MustParsePrefix("10.1.2.3/8")),
		"fd00::/64":                 blockOf(netip.MustParsePrefix("fd00::/64")),
		"128.0.0.0-255.255.255.254": {address("128.0.0.0"), address("255.255.255.254")},
	} {
		if got := b.text(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
		back, err := parseBlock(want)
		if err != nil || back != b {
			t.Errorf("%s is read as %v (%v)", want, back, err)
		}
	}
}

// Areas cover the same flows when they are made disjoint, and overlap nowhere.
func TestAreasAreMadeDisjoint(t *testing.T) {
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 2))
		at := func(n int) netip.Addr { return netip.AddrFrom4([4]byte{255, 255, 255, byte(240 + n)}) }
		var in []area
		for range r.IntN(6) {
			first := r.IntN(16)
			a := area{block: block{at(first), at(first + r.IntN(16-first))}}
			for range r.IntN(3) {
				low := uint16(r.IntN(8))
				a.ports = append(a.ports, run.Span{Protocol: policy.Protocol(6 + 11*r.IntN(2)), First: low, Last: low + uint16(r.IntN(4))})
			}
			in = append(in, a)
		}
		out := disjointAreas(in)
		for n := range 16 {
			for _, protocol := range []policy.Protocol{policy.TCP, policy.UDP} {
				for port := range uint16(13) {
					if want, got := covering(in, at(n), protocol, port), covering(out, at(n), protocol, port); got > 1 || got > 0 != (want > 0) {
						t.Fatalf("seed %d: %s %s/%d is in %d areas of %v, in %d of %v", seed, at(n), protocol, port, want, in, got, out)
					}
				}
			}
		}
	}
}

// covering is how many spans of areas hold a flow.
func covering(areas []area, a netip.Addr, protocol policy.Protocol, port uint16) int {
	n := 0
	for _, area := range areas {
		for _, s := range area.ports {
			if area.first.Compare(a) <= 0 && a.Compare(area.last) <= 0 && s.Protocol == protocol && s.First <= port && port <= s.Last {
				n++
			}
		}
	}
	return n
}

func TestPortsOfProtocolsWithoutPorts(t *testing.T) {
	for name, c := range map[string]struct {
		in   policy.Port
		want []run.Span
	}{
		"one port":                      {policy.Port{Protocol: policy.TCP, First: 80, Last: 80}, []run.Span{{Protocol: policy.TCP, First: 80, Last: 80}}},
		"all of a protocol":             {policy.AllPorts(47), []run.Span{{Protocol: 47, Last: policy.MaxPort}}},
		"port 0 stands for all":         {policy.Port{Protocol: policy.ICMP}, []run.Span{{Protocol: policy.ICMP, Last: policy.MaxPort}}},
		"another port is none":          {policy.Port{Protocol: policy.ICMP, First: 8, Last: 8}, nil},
		"backwards is none":             {policy.Port{Protocol: policy.TCP, First: 9, Last: 8}, nil},
		"what goes by name is no range": {policy.Port{Protocol: policy.TCP, Named: "x"}, nil},
	} {
		if got := run.Spans([]policy.Port{c.in}); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
