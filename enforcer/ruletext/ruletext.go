// Package ruletext has what the texts of rules share in both backends: safe characters, and the logging of denials.
package ruletext

import (
	"strings"

	"github.com/tierwall/tierwall/policy"
)

// DenyLog is how the first packets of denied flows are handed to a listener by NFLOG, and those that the default action
// Audit lets pass. The zero value hands over none.
type DenyLog struct {
	// Group is the NFLOG group.
	Group uint16
	// Prefix marks packets that were denied.
	Prefix string
	// PerSecond is the mean rate at which denied packets are handed over at most; 0 is none. The iptables backend
	// applies it to each IP family.
	PerSecond int
	// AuditPrefix marks packets that Audit let pass, by direction, and AuditPerSecond is their rate in each direction.
	AuditPrefix    [2]string
	AuditPerSecond int
}

// Rate is one limited stream of packets to a listener.
type Rate struct {
	Group  uint16
	Prefix string
	// PerSecond is the mean rate, Burst how many packets may come at once.
	PerSecond, Burst int
}

// Denied is the stream of denied packets. It reports whether there is one.
func (l DenyLog) Denied() (Rate, bool) {
	return newRate(l.Group, l.Prefix, l.PerSecond), l.PerSecond > 0
}

// Audited is the stream of packets that Audit lets pass in a direction. It reports whether there is one.
func (l DenyLog) Audited(d policy.Direction) (Rate, bool) {
	return newRate(l.Group, l.AuditPrefix[d], l.AuditPerSecond), l.AuditPerSecond > 0
}

func newRate(group uint16, prefix string, perSecond int) Rate {
	return Rate{Group: group, Prefix: Sanitize(prefix, "-_"), PerSecond: perSecond, Burst: 2 * perSecond}
}

// Sanitize replaces every byte but letters, digits and the extra ones by an underscore.
func Sanitize(text, extra string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		case strings.ContainsRune(extra, r):
			return r
		default:
			return '_'
		}
	}, text)
}
