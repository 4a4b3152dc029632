package droplog

import (
	"encoding/binary"
	"net/netip"

	"github.com/tierwall/tierwall/policy"
)

// packet is the flow and the source port of a packet.
type packet struct {
	flow       policy.Flow
	sourcePort uint16
}

// decodePacket reads an IP packet, or the beginning of one. It fails if the addresses cannot be read; ports that cannot be
// read, as of a later fragment, are 0.
func decodePacket(b []byte) (packet, bool) {
	if len(b) == 0 {
		return packet{}, false
	}
	switch b[0] >> 4 {
	case 4:
		return decodeIPv4(b)
	case 6:
		return decodeIPv6(b)
	default:
		return packet{}, false
	}
}

// decodeIPv4 reads RFC 791, section 3.1.
func decodeIPv4(b []byte) (packet, bool) {
	if len(b) < 20 {
		return packet{}, false
	}
	p := packet{flow: policy.Flow{
		Source: netip.AddrFrom4([4]byte(b[12:16])), Destination: netip.AddrFrom4([4]byte(b[16:20])), Protocol: policy.Protocol(b[9])}}
	header, fragment := int(b[0]&15)*4, binary.BigEndian.Uint16(b[6:])&0x1fff
	if header >= 20 && header <= len(b) && fragment == 0 {
		p.readTransport(b[header:])
	}
	return p, true
}

// The extension headers of IPv6 (RFC 8200, section 4; RFC 4302).
const (
	hopByHop, routing, fragment, authentication, destinationOptions = 0, 43, 44, 51, 60
)

// decodeIPv6 reads RFC 8200, section 3, and the extension headers.
func decodeIPv6(b []byte) (packet, bool) {
	if len(b) < 40 {
		return packet{}, false
	}
	p := packet{flow: policy.Flow{Source: netip.AddrFrom16([16]byte(b[8:24])), Destination: netip.AddrFrom16([16]byte(b[24:40]))}}
	next, rest := b[6], b[40:]
	for {
		p.flow.Protocol = policy.Protocol(next)
		size, whole := 8, true
		switch next {
		case hopByHop, routing, destinationOptions:
			if len(rest) >= 2 {
				size = 8 * (int(rest[1]) + 1)
			}
		case authentication:
			if len(rest) >= 2 {
				size = 4 * (int(rest[1]) + 2)
			}
		case fragment:
			whole = len(rest) >= 4 && binary.BigEndian.Uint16(rest[2:])&^7 == 0
		default:
			p.readTransport(rest)
			if p.flow.Protocol == policy.ICMPv6 {
				p.flow.HopLimit = b[7]
			}
			return p, true
		}
		if len(rest) < size {
			return p, true
		}
		next, rest = rest[0], rest[size:]
		if !whole {
			p.flow.Protocol = policy.Protocol(next)
			return p, true
		}
	}
}

// readTransport reads the ports, or the type of an ICMP message.
func (p *packet) readTransport(b []byte) {
	switch proto := p.flow.Protocol; {
	case proto.HasPorts() && len(b) >= 4:
		p.sourcePort, p.flow.DestinationPort = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	case (proto == policy.ICMP || proto == policy.ICMPv6) && len(b) >= 1:
		p.flow.ICMPType = b[0]
		if proto == policy.ICMPv6 && len(b) >= 2 {
			p.flow.ICMPCode = b[1]
		}
	}
}
