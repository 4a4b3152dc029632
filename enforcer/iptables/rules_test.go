package iptables_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/tierwall/tierwall/enforcer/internal/backendtest"
	"github.com/tierwall/tierwall/enforcer/internal/packet"
	"github.com/tierwall/tierwall/enforcer/iptables"
	"github.com/tierwall/tierwall/enforcer/iptables/simulator"
	"github.com/tierwall/tierwall/enforcer/ruletext"
	"github.com/tierwall/tierwall/policy"
)

var renderer = backendtest.Renderer{
	Judge: func(t testing.TB, p *policy.Program, log ruletext.DenyLog) backendtest.Judge {
		return renderLogging(t, p, log).judgeAt
	},
	Text: func(p *policy.Program) (string, error) {
		v4, err4 := iptables.Render(p, iptables.IPv4, ruletext.DenyLog{})
		v6, err6 := iptables.Render(p, iptables.IPv6, ruletext.DenyLog{})
		return v4.SetText() + v4.RestoreText() + v6.SetText() + v6.RestoreText(), errors.Join(err4, err6)
	},
}

func TestRules(t *testing.T) { backendtest.VerifyRules(t, renderer) }

func FuzzNames(f *testing.F) { backendtest.FuzzNames(f, renderer) }

// rendered are the tables of both families, read back from the rendered text.
type rendered map[iptables.Family]*simulator.Table

func render(t testing.TB, p *policy.Program) rendered {
	t.Helper()
	return renderLogging(t, p, ruletext.DenyLog{})
}

func renderLogging(t testing.TB, p *policy.Program, log ruletext.DenyLog) rendered {
	t.Helper()
	out := rendered{}
	for _, f := range []iptables.Family{iptables.IPv4, iptables.IPv6} {
		r, err := iptables.Render(p, f, log)
		if err != nil {
			t.Fatal(err)
		}
		table := simulator.New()
		if err := table.RestoreSets(r.SetText()); err != nil {
			t.Fatalf("%s sets: %v\n%s", f, err, r.SetText())
		}
		if err := table.Restore(r.RestoreText() + iptables.Jumps()); err != nil {
			t.Fatalf("%s: %v\n%s", f, err, r.RestoreText())
		}
		out[f] = table
	}
	return out
}

// judgeAt judges a packet at one of package packet's hooks. Rules that are but comments must not match.
func (r rendered) judgeAt(hook string, k packet.Packet) (packet.Verdict, error) {
	table := r[iptables.IPv4]
	if k.Source.Is6() {
		table = r[iptables.IPv6]
	}
	v, err := table.Judge(strings.ToUpper(hook), k)
	if i := slices.IndexFunc(v.Trace, isComment); i >= 0 && err == nil {
		err = fmt.Errorf("the packet matched a comment: %s", v.Trace[i])
	}
	return v, err
}

// judge sends the first packet of a flow through the hook that it meets on the node.
func (r rendered) judge(t testing.TB, node policy.Host, f policy.Flow) packet.Verdict {
	t.Helper()
	v, err := r.judgeAt(packet.HookOf(node, f), packet.FirstOf(f))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// address is an address of a test.
func address(s string) netip.Addr { return netip.MustParseAddr(s) }
