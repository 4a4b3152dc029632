package policy

import (
	"fmt"
	"strconv"
)

// Protocol is an IANA protocol number of the IP header (RFC 5237).
type Protocol uint8

const (
	// ICMP is RFC 792.
	ICMP Protocol = 1
	// TCP is RFC 9293.
	TCP Protocol = 6
	// UDP is RFC 768.
	UDP Protocol = 17
	// ICMPv6 is RFC 4443.
	ICMPv6 Protocol = 58
	// SCTP is RFC 9260.
	SCTP Protocol = 132
)

func (p Protocol) String() string {
	switch p {
	case ICMP:
		return "ICMP"
	case TCP:
		return "TCP"
	case UDP:
		return "UDP"
	case ICMPv6:
		return "ICMPv6"
	case SCTP:
		return "SCTP"
	default:
		return "protocol-" + strconv.Itoa(int(p))
	}
}

// HasPorts reports whether a packet of the protocol carries ports that a policy can match.
func (p Protocol) HasPorts() bool { return p == TCP || p == UDP || p == SCTP }

// MaxPort is the highest port number; a Port from 0 to MaxPort matches every port of its protocol.
const MaxPort = 65535

// Port matches the destination port of a flow: either a range of one protocol,
// or, when Named is set, the flows whose destination address, protocol and port
// are together an element of that set (a named port, resolved per destination).
type Port struct {
	Protocol    Protocol
	First, Last uint16
	Named       SetID
}

// AllPorts matches every port of a protocol.
func AllPorts(p Protocol) Port { return Port{Protocol: p, Last: MaxPort} }

// All reports whether the match is every port of its protocol.
func (p Port) All() bool { return p.Named == "" && p.First == 0 && p.Last == MaxPort }

func (p Port) String() string {
	switch {
	case p.Named != "":
		return "named:" + string(p.Named)
	case p.All():
		return p.Protocol.String()
	case p.First == p.Last:
		return fmt.Sprintf("%s/%d", p.Protocol, p.First)
	default:
		return fmt.Sprintf("%s/%d-%d", p.Protocol, p.First, p.Last)
	}
}
