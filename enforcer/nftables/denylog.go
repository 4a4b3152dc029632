package nftables

import (
	"github.com/tierwall/tierwall/policy"
)

// DenyLog has first packets that are denied, and those that the default action Audit
// lets pass, handed to a listener by NFLOG, so that it can say what was denied, or
// would have been, and why. The zero value hands over none.
type DenyLog struct {
	// Group is the NFLOG group.
	Group uint16
	// Prefix tells our packets from those of others in the group.
	Prefix string
	// PerSecond is how many packets a second are handed over at most, in the mean; 0 is none.
	PerSecond int
	// AuditPrefix is the prefix of packets that Audit let pass, by the direction that it did
	// so in, and AuditPerSecond how many are handed over of each direction.
	AuditPrefix    [2]string
	AuditPerSecond int
}

// deniedChain is where what is denied goes, if it is logged.
const deniedChain = "denied"

// auditedChain is where what Audit lets pass goes, if that is reported.
func auditedChain(d policy.Direction) string { return "audited-" + d.String() }

// verdict is what is done with a denied packet.
func (l DenyLog) verdict() verdict {
	if l.PerSecond <= 0 {
		return "drop"
	}
	return goTo(deniedChain)
}

// audit is what is done with a packet that Audit lets pass.
func (l DenyLog) audit(d policy.Direction) verdict {
	if l.AuditPerSecond <= 0 {
		return "return"
	}
	return goTo(auditedChain(d))
}

// logged makes the chains of what is denied, and of what Audit lets pass, where they
// are logged. Strays are not logged: they are about the past.
func (r *renderer) logged() {
	if r.log.PerSecond > 0 {
		r.chain(deniedChain, "", handOver(r.log.Group, r.log.Prefix, r.log.PerSecond), newRule("", verdict("drop")))
	}
	if r.log.AuditPerSecond <= 0 {
		return
	}
	for _, d := range policy.Directions {
		r.chain(auditedChain(d), "", newRule("", strayTCP, verdict("return")), newRule("", straySCTP, verdict("return")),
			handOver(r.log.Group, r.log.AuditPrefix[d], r.log.AuditPerSecond))
		r.chain(auditChain(d), "", append(strayRules(), newRule("", r.log.audit(d)))...)
	}
}

// handOver hands packets to the group, so many a second.
func handOver(group uint16, prefix string, perSecond int) Rule {
	return plain(`limit rate %d/second burst %d packets log prefix "%s" group %d`,
		perSecond, 2*perSecond, sanitize(prefix, "-_"), group)
}
