package policy

import "net/netip"

// Flow is a connection in question, after destination translation and before
// source translation (the point at which policy is judged).
type Flow struct {
	Source, Destination netip.Addr
	Protocol            Protocol
	// DestinationPort is 0 for protocols without ports.
	DestinationPort uint16
	// ICMPType is the type of an ICMP or ICMPv6 message. 0 stands for any that policy
	// judges, such as an echo request.
	ICMPType uint8
	// ICMPCode is the code of such a message.
	ICMPCode uint8
	// HopLimit is the IPv6 hop limit at the point of judgement. 255 means that no router
	// forwarded the packet; 0 stands for any other.
	HopLimit uint8
}

// OnLink is the hop limit of a packet that no router has forwarded (RFC 4861, section 3.1).
const OnLink = 255

// IsNeighbourDiscovery reports whether the flow is a valid message of RFC 4861: types 133
// to 137, code 0, and a hop limit that shows that no router forwarded it.
func (f Flow) IsNeighbourDiscovery() bool {
	return f.Protocol == ICMPv6 && f.ICMPType >= 133 && f.ICMPType <= 137 && f.ICMPCode == 0 && f.HopLimit == OnLink
}

// Why is the reason for the verdict in one direction.
type Why struct {
	Verdict Verdict
	// Endpoint is the subject, as "namespace/name"; empty where no endpoint is judged.
	Endpoint string
	Tier     TierName
	Rule     RuleID
	// Note says what decided where no rule did, such as "a node reaches its own pods".
	Note string
}

// Decision is the verdict on a flow with its reasons: the egress of the source
// and the ingress of the destination must both allow it.
type Decision struct {
	// Verdict is Allow or Deny.
	Verdict         Verdict
	Egress, Ingress Why
}

// Audited reports whether the flow is reported in a direction: Audit lets it pass there,
// and the egress, which is asked first, lets it get so far.
func (d Decision) Audited(in Direction) bool {
	if in == Egress {
		return d.Egress.Verdict == Audit
	}
	return d.Ingress.Verdict == Audit && d.Egress.Verdict.Permits()
}
