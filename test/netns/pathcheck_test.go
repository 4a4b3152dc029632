//go:build netns

package netns

import (
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/tierwall/tierwall/enforcer/pathcheck"
	"github.com/tierwall/tierwall/policy"
)

// findings are the paths that the agent finds on the node.
func (l *Lab) findings(t *testing.T, k *pathcheck.Kernel, p *policy.Program) (out []string) {
	t.Helper()
	if err := l.Nodes["node"].Do(func() error {
		for _, f := range pathcheck.Check(k.Read(t.Context()), p) {
			out = append(out, string(f.Path)+map[bool]string{true: " open"}[f.Open])
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

// A bridge whose packets the kernel does not hand to the packet filter lets its pods past every rule, in each family by itself. The
// agent finds it where, and only where, packets pass.
func TestABridgePastThePacketFilterIsFound(t *testing.T) {
	for backend := range kernelBackends {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			l, _, _ := bridgeLab(t)
			node := l.Nodes["node"]
			if err := node.Do(func() error {
				b, err := kernelBackends[backend](t)
				if err != nil {
					return err
				}
				return b.Apply(t.Context(), pathsProgram())
			}); err != nil {
				t.Fatal(err)
			}
			for _, c := range []struct {
				setting string
				family  int
				want    []string
			}{
				{"", -1, nil},
				{"net.bridge.bridge-nf-call-iptables", 0, []string{"bridge open"}},
				{"net.bridge.bridge-nf-call-ip6tables", 1, []string{"bridge open"}},
			} {
				if c.setting != "" {
					node.sysctl(t, c.setting+"=0")
				}
				if got := l.findings(t, &pathcheck.Kernel{}, pathsProgram()); !slices.Equal(got, c.want) {
					t.Errorf("with %s=0: found %q, want %q", c.setting, got, c.want)
				}
				for family := range closedPod.Addrs {
					f := policy.Flow{Source: openPod.Addrs[family], Destination: closedPod.Addrs[family], Protocol: policy.TCP, DestinationPort: 80}
					l.expect(t, openPod.Name, f, family == c.family)
				}
				if c.setting != "" {
					node.sysctl(t, c.setting+"=1")
				}
			}
			// A bridge can do so by itself.
			node.sysctl(t, "net.bridge.bridge-nf-call-iptables=0", "net.bridge.bridge-nf-call-ip6tables=0")
			node.Run(t, "ip", "link", "set", "cni0", "type", "bridge", "nf_call_iptables", "1", "nf_call_ip6tables", "1")
			if got := l.findings(t, &pathcheck.Kernel{}, pathsProgram()); got != nil {
				t.Errorf("the bridge filters by itself: found %q", got)
			}
		})
	}
}

// Other paths, each on a node that is sound without it.
func TestPathsAreFound(t *testing.T) {
	for name, c := range map[string]struct {
		open []string
		want string
	}{
		"an address that no pod shows": {[]string{"ip route add 198.51.100.77 dev LINK"}, "address open"},
		"pods behind macvlan":          {[]string{"ip link add shim link eth0 type macvlan mode bridge", "ip link set shim up", "ip route add 10.0.1.128/25 dev shim"}, "switch open"},
		"IPVS":                         {[]string{"ip link add kube-ipvs0 type bridge"}, "ipvs"},
		"untracked packets":            {[]string{"iptables-nft -t raw -A PREROUTING -s 10.0.1.2 -j CT --notrack"}, "untracked"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := pathsLab(t, "iptables-nft")
			node := l.Nodes["node"]
			if got := l.findings(t, &pathcheck.Kernel{BeforeIPVS: true}, pathsProgram()); got != nil {
				t.Fatalf("on a sound node: found %q", got)
			}
			for _, command := range c.open {
				words := fieldsWith(command, "LINK", l.linkOf(t, openPod.Addrs[0]))
				node.Run(t, words[0], words[1:]...)
			}
			if got := l.findings(t, &pathcheck.Kernel{BeforeIPVS: true}, pathsProgram()); !slices.Equal(got, []string{c.want}) {
				t.Errorf("found %q, want %q", got, c.want)
			}
		})
	}
}

// The agent looks again every few seconds.
func TestTheCheckerFollowsTheNode(t *testing.T) {
	l, _, _ := bridgeLab(t)
	node := l.Nodes["node"]
	c := pathcheck.New(&pathcheck.Kernel{}, slog.New(slog.DiscardHandler))
	c.Use(pathsProgram())
	done := make(chan error)
	ctx := t.Context()
	go func() { done <- node.Do(func() error { return c.Start(ctx) }) }()
	t.Cleanup(func() { <-done })
	for _, step := range []struct {
		value string
		open  bool
	}{{"1", false}, {"0", true}, {"1", false}} {
		node.sysctl(t, "net.bridge.bridge-nf-call-iptables="+step.value)
		if !within(30*time.Second, func() bool { return (c.Open() != nil) == step.open }) {
			t.Errorf("bridge-nf-call-iptables=%s: %v", step.value, c.Open())
		}
	}
}
