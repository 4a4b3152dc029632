package nftables

import (
	"testing"

	"github.com/tierwall/tierwall/enforcer/internal/backendtest"
	"github.com/tierwall/tierwall/enforcer/internal/packet"
	"github.com/tierwall/tierwall/enforcer/nftables/simulator"
	"github.com/tierwall/tierwall/enforcer/ruletext"
	"github.com/tierwall/tierwall/policy"
)

var rulesRenderer = backendtest.Renderer{
	Judge: func(t testing.TB, p *policy.Program, log ruletext.DenyLog) backendtest.Judge {
		return renderLogging(t, p, log).Judge
	},
	Text: func(p *policy.Program) (string, error) {
		r, err := Render(p, ruletext.DenyLog{})
		return script(r), err
	},
}

func TestRules(t *testing.T) { backendtest.VerifyRules(t, rulesRenderer) }

func FuzzNames(f *testing.F) { backendtest.FuzzNames(f, rulesRenderer) }

// judge sends the first packet of a flow through the hook that it meets on the node. Where
// a protocol has no ports there is something else in their place.
func judge(t testing.TB, table *simulator.Table, node policy.Host, f policy.Flow) packet.Verdict {
	t.Helper()
	v, err := table.Judge(packet.HookOf(node, f), packet.FirstOf(f))
	if err != nil {
		t.Fatal(err)
	}
	return v
}
