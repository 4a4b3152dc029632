package iptables

import (
	"fmt"
	"strings"

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
	// PerSecond is how many packets a second are handed over at most, in the mean and
	// by IP family; 0 is none.
	PerSecond int
	// AuditPrefix is the prefix of packets that Audit let pass, by the direction that it did
	// so in, and AuditPerSecond how many are handed over of each direction.
	AuditPrefix    [2]string
	AuditPerSecond int
}

// denying sets the target of what is denied, and makes its chain where it is logged.
// Strays are not logged: they are about the past.
func (r *renderer) denying(log DenyLog) {
	if log.PerSecond <= 0 {
		r.deny = "-j DROP"
		return
	}
	r.deny = "-g " + denyChain
	r.add(denyChain, []string{handOver(log.Group, log.Prefix, log.PerSecond), "-j DROP"})
}

// auditing sets the targets of what Audit lets pass, and makes their chains where that
// is reported. Strays are not, as they are not where they are denied.
func (r *renderer) auditing(log DenyLog) {
	for _, d := range policy.Directions {
		if log.AuditPerSecond <= 0 {
			r.audit[d] = "-j RETURN"
			continue
		}
		chain := auditChain + strings.ToUpper(d.String())
		r.audit[d] = "-g " + chain
		r.add(chain, []string{strayTCP + "-j RETURN", straySCTP + "-j RETURN", handOver(log.Group, log.AuditPrefix[d], log.AuditPerSecond)})
	}
}

// handOver is the rule that hands packets to the group, so many a second.
func handOver(group uint16, prefix string, perSecond int) string {
	return fmt.Sprintf("-m limit --limit %d/sec --limit-burst %d -j NFLOG --nflog-prefix %s --nflog-group %d",
		perSecond, 2*perSecond, sanitize(prefix, "-_"), group)
}
