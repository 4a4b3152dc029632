// Package packet has what the simulators of both backends judge: packets, and what rules do with them.
package packet

import (
	"net/netip"
	"slices"

	"github.com/tierwall/tierwall/policy"
)

// The hooks that rules are at.
const (
	Input   = "input"
	Forward = "forward"
	Output  = "output"
)

// Packet is what rules can see of a packet.
type Packet struct {
	Source, Destination netip.Addr
	Protocol            policy.Protocol
	DestinationPort     uint16
	// Payload is what a protocol without ports has in their place.
	Payload            uint16
	ICMPType, ICMPCode uint8
	HopLimit           uint8
	// Interface is the one that it came by.
	Interface string
	// Foreign says that the source is no address of the node.
	Foreign bool
	// Established is conntrack's state established or related, Invalid is invalid,
	// Untracked is untracked. None of them is new.
	Established, Invalid, Untracked bool
	// Midway says that the packet opens no connection: of TCP it has flags other than
	// SYN alone, of SCTP no INIT chunk.
	Midway bool
}

// Log is how a listener receives a packet.
type Log struct {
	// Group is the NFLOG group.
	Group  uint16
	Prefix string
}

// Verdict is what rules do with a packet, and by which of them.
type Verdict struct {
	Accepted bool
	// Logged says how listeners received it.
	Logged []Log
	// Trace are the rules that matched, as "chain: rule".
	Trace []string
	// Rules is how many rules were compared with the packet, Lookups how many lookups in sets and maps were made.
	Rules, Lookups int
}

// FirstOf returns the first packet of a flow that came by a pod's interface. A protocol without ports has the bytes of
// port 80 in their place.
func FirstOf(f policy.Flow) Packet {
	return Packet{Source: f.Source, Destination: f.Destination, Protocol: f.Protocol, DestinationPort: f.DestinationPort, Payload: 80,
		ICMPType: f.ICMPType, ICMPCode: f.ICMPCode, HopLimit: f.HopLimit, Interface: "veth0"}
}

// HookOf returns the hook at which a flow's packets meet the rules of the node.
func HookOf(node policy.Host, f policy.Flow) string {
	switch {
	case slices.Contains(node.Addrs, f.Source):
		return Output
	case slices.Contains(node.Addrs, f.Destination):
		return Input
	default:
		return Forward
	}
}
