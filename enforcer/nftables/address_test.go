package nftables

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/tierwall/tierwall/enforcer/rulegroup"
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
		if got := b.nftText(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
		back, err := parseBlock(want)
		if err != nil || back != b {
			t.Errorf("%s is read as %v (%v)", want, back, err)
		}
	}
}

func TestPortsOfProtocolsWithoutPorts(t *testing.T) {
	for name, c := range map[string]struct {
		in   policy.Port
		want []rulegroup.Span
	}{
		"one port":                      {policy.Port{Protocol: policy.TCP, First: 80, Last: 80}, []rulegroup.Span{{Protocol: policy.TCP, First: 80, Last: 80}}},
		"all of a protocol":             {policy.AllPorts(47), []rulegroup.Span{{Protocol: 47, Last: policy.MaxPort}}},
		"port 0 stands for all":         {policy.Port{Protocol: policy.ICMP}, []rulegroup.Span{{Protocol: policy.ICMP, Last: policy.MaxPort}}},
		"another port is none":          {policy.Port{Protocol: policy.ICMP, First: 8, Last: 8}, nil},
		"backwards is none":             {policy.Port{Protocol: policy.TCP, First: 9, Last: 8}, nil},
		"what goes by name is no range": {policy.Port{Protocol: policy.TCP, Named: "x"}, nil},
	} {
		if got := rulegroup.SpansOf([]policy.Port{c.in}); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
