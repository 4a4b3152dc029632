package ipt

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/tierwall/tierwall/policy"
)

func TestAToolThatHangsIsKilledAndNamed(t *testing.T) {
	for name, script := range map[string]string{
		"it waits": "exec sleep 600",
		// What it left ends, too, once nobody reads what it prints.
		"it left a program that waits": "while sleep 0.1; do echo still there; done & wait",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := feedWithin(t.Context(), 50*time.Millisecond, nil, "sh", "-c", script)
			if err == nil || err.Error() != "sh: killed: it did not end within 50ms" {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestAToolEndsWithItsCaller(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := runTool(ctx, "sleep", "600"); !errors.Is(err, context.Canceled) || !strings.HasPrefix(err.Error(), "sleep: ") {
		t.Errorf("error %v", err)
	}
}

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
