package droplog

import "github.com/tierwall/tierwall/policy"

// Prefix is the NFLOG prefix of denied packets, and the beginning of our other prefixes.
const Prefix = "tierwall"

// AuditPrefix returns the prefix of packets that Audit allowed in a direction.
func AuditPrefix(d policy.Direction) string { return Prefix + "-audit-" + d.String() }

// SpoofPrefix is the prefix of packets that are dropped because their pod does not own the source address.
const SpoofPrefix = Prefix + "-spoofed"

// packetKind is why the rules logged a packet.
type packetKind uint8

const (
	denied packetKind = iota
	auditedIngress
	auditedEgress
	spoofed
)

// kindsByPrefix are our prefixes; other packets of the group are of others.
var kindsByPrefix = map[string]packetKind{
	Prefix: denied, AuditPrefix(policy.Ingress): auditedIngress, AuditPrefix(policy.Egress): auditedEgress, SpoofPrefix: spoofed,
}

// String returns the message of the log line.
func (w packetKind) String() string {
	if w == auditedIngress || w == auditedEgress {
		return "audited"
	}
	return "denied"
}

// loggedPacket is a packet with why it was logged.
type loggedPacket struct {
	packet
	kind packetKind
}
