package iptables

import (
	"fmt"
	"strings"

	"github.com/tierwall/tierwall/enforcer/ruletext"
	"github.com/tierwall/tierwall/policy"
)

// renderDeny sets the target of denied packets, and renders its chain if they are logged. Strays are not logged: they are about the past.
func (r *renderer) renderDeny(log ruletext.DenyLog) {
	rate, logged := log.Denied()
	if !logged {
		r.deny = "-j DROP"
		return
	}
	r.deny = "-g " + denyChain
	r.addChain(denyChain, []string{logRule(rate), "-j DROP"})
}

// renderAudit sets the targets of what Audit lets pass, and makes their chains where that
// is reported. Strays are not, as they are not where they are denied.
func (r *renderer) renderAudit(log ruletext.DenyLog) {
	for _, d := range policy.Directions {
		rate, logged := log.Audited(d)
		if !logged {
			r.audit[d] = "-j RETURN"
			continue
		}
		chain := auditChain + strings.ToUpper(d.String())
		r.audit[d] = "-g " + chain
		r.addChain(chain, []string{strayTCP + "-j RETURN", straySCTP + "-j RETURN", logRule(rate)})
	}
}

// logRule hands packets to a listener at a rate.
func logRule(r ruletext.Rate) string {
	return fmt.Sprintf("-m limit --limit %d/sec --limit-burst %d -j NFLOG --nflog-prefix %s --nflog-group %d",
		r.PerSecond, r.Burst, r.Prefix, r.Group)
}
