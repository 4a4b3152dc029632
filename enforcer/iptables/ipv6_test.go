package iptables

import (
	"net/netip"
	"testing"

	"github.com/tierwall/tierwall/policy"
)

func TestWhatNeedsIPv6(t *testing.T) {
	v4, v6 := netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("fd00::/64")
	pod := func(p netip.Prefix) []policy.Endpoint {
		return []policy.Endpoint{{Namespace: "prod", Name: "a", Addrs: []netip.Addr{p.Addr()}}}
	}
	for name, c := range map[string]struct {
		program  policy.Program
		inKernel bool
		want     string
	}{
		"nothing of an IPv4 node":                {policy.Program{Local: []netip.Prefix{v4}, Endpoints: pod(v4)}, true, ""},
		"a pod":                                  {policy.Program{Endpoints: pod(v6)}, true, "endpoint prod/a has the IPv6 address fd00::"},
		"the closure of a range without pods":    {policy.Program{Local: []netip.Prefix{v4, v6}}, true, "pods not yet known in fd00::/64 are to be denied"},
		"no range in which unknown pods may all": {policy.Program{Local: []netip.Prefix{v6}, Unknown: policy.Allow}, true, ""},
		"no range where the kernel has no IPv6":  {policy.Program{Local: []netip.Prefix{v6}}, false, ""},
	} {
		if got := needsIPv6(&c.program, c.inKernel); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
