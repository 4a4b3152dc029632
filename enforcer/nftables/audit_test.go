package nftables

import (
	"testing"

	"github.com/tierwall/tierwall/enforcer/internal/backendtest"
	"github.com/tierwall/tierwall/enforcer/internal/sample"
	"github.com/tierwall/tierwall/enforcer/nftables/simulator"
	"github.com/tierwall/tierwall/enforcer/ruletext"
)

func TestWhatAuditLetsPassIsReportedAndNothingElse(t *testing.T) {
	log := ruletext.DenyLog{Group: 7, Prefix: backendtest.DenyPrefix, PerSecond: 1, AuditPrefix: backendtest.AuditPrefix, AuditPerSecond: 1}
	backendtest.VerifyAudit(t, judgeBy(renderLogging(t, sample.Audited(), log)), judgeBy(render(t, sample.Audited())))
}

// judgeBy judges packets by the rules of a table.
func judgeBy(table *simulator.Table) backendtest.Judge {
	return func(hook string, p backendtest.Packet) (backendtest.Judgement, error) {
		v, err := table.Judge(hook, simulator.Packet{Source: p.Source, Destination: p.Destination, Protocol: p.Protocol,
			DestinationPort: p.DestinationPort, Established: p.Established, Midway: p.Midway})
		out := backendtest.Judgement{Accepted: v.Accepted, Trace: v.Trace}
		for _, l := range v.Logged {
			out.Reported = append(out.Reported, l.Prefix)
		}
		return out, err
	}
}
