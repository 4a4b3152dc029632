package nftables

import (
	"github.com/tierwall/tierwall/enforcer/ruletext"
	"github.com/tierwall/tierwall/policy"
)

// deniedChain is the chain of denied packets, if they are logged.
const deniedChain = "denied"

// auditedChain returns the chain of packets that Audit lets pass, if they are logged.
func auditedChain(d policy.Direction) string { return "audited-" + d.String() }

// denyVerdict returns what rules do with a denied packet.
func denyVerdict(l ruletext.DenyLog) verdict {
	if _, logged := l.Denied(); logged {
		return goTo(deniedChain)
	}
	return "drop"
}

// auditVerdict returns what rules do with a packet that Audit lets pass.
func auditVerdict(l ruletext.DenyLog, d policy.Direction) verdict {
	if _, logged := l.Audited(d); logged {
		return goTo(auditedChain(d))
	}
	return "return"
}

// renderLogs renders the chains of packets that are denied, and of those that Audit lets pass, if they are logged.
// Strays are not logged: they are about the past.
func (r *renderer) renderLogs() {
	if rate, logged := r.log.Denied(); logged {
		r.addChain(deniedChain, "", logRule(rate), newRule("", verdict("drop")))
	}
	for _, d := range policy.Directions {
		rate, logged := r.log.Audited(d)
		if !logged {
			continue
		}
		r.addChain(auditedChain(d), "", newRule("", strayTCP, verdict("return")), newRule("", straySCTP, verdict("return")), logRule(rate))
		r.addChain(auditChain(d), "", append(strayRules(), newRule("", auditVerdict(r.log, d)))...)
	}
}

// logRule hands packets to a listener at a rate.
func logRule(r ruletext.Rate) Rule {
	return plainRule(`limit rate %d/second burst %d packets log prefix "%s" group %d`, r.PerSecond, r.Burst, r.Prefix, r.Group)
}
