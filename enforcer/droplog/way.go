package droplog

import "github.com/tierwall/tierwall/policy"

// Prefix is what packets of ours in an NFLOG group begin with; the rules give it to
// those that they deny.
const Prefix = "tierwall"

// AuditPrefix is what they give to packets that Audit let pass in a direction.
func AuditPrefix(d policy.Direction) string { return Prefix + "-audit-" + d.String() }

// SpoofPrefix is what packets begin with that are dropped because the pod that sent
// them does not have their source address.
const SpoofPrefix = Prefix + "-spoofed"

// way is how a packet came to the listener.
type way uint8

const (
	denied way = iota
	auditedIngress
	auditedEgress
	spoofed
)

// ways are the ways by prefix; packets of any other are others'.
var ways = map[string]way{
	Prefix: denied, AuditPrefix(policy.Ingress): auditedIngress, AuditPrefix(policy.Egress): auditedEgress, SpoofPrefix: spoofed,
}

// String is the message of the log's lines.
func (w way) String() string {
	if w == auditedIngress || w == auditedEgress {
		return "audited"
	}
	return "denied"
}

// report is a packet as the rules handed it over.
type report struct {
	packet
	way way
}
