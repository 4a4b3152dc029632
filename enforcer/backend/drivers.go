package backend

import (
	"github.com/tierwall/tierwall/enforcer/droplog"
	"github.com/tierwall/tierwall/enforcer/ruletext"
	"github.com/tierwall/tierwall/enforcer/spoof"
	"github.com/tierwall/tierwall/policy"
)

// Drivers are the backends that there are. The last one is preferred on every node.
var Drivers = List{nftablesDriver{}, iptablesDriver{}}

// sourceLog is how dropped packets of forged sources are logged.
func sourceLog(o Options) spoof.Log {
	return spoof.Log{Group: droplog.Group, Prefix: droplog.SpoofPrefix, PerSecond: o.LogDenials}
}

// denyLog is what rules hand to droplog, and under which names.
func denyLog(o Options) ruletext.DenyLog {
	return ruletext.DenyLog{
		Group: droplog.Group, Prefix: droplog.Prefix, PerSecond: o.LogDenials,
		AuditPrefix:    [2]string{droplog.AuditPrefix(policy.Ingress), droplog.AuditPrefix(policy.Egress)},
		AuditPerSecond: o.LogAudits,
	}
}
