package droplog

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/tierwall/tierwall/policy"
)

var (
	four = [2]netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")}
	six  = [2]netip.Addr{netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::2")}
)

// ipv4 is a packet with options (which may be none) and a fragment offset.
func ipv4(proto policy.Protocol, options, offset int, payload ...byte) []byte {
	b := make([]byte, 20+options)
	b[0], b[9] = byte(0x40|(20+options)/4), byte(proto)
	binary.BigEndian.PutUint16(b[6:], uint16(0x2000|offset)) // more of them to come
	copy(b[12:], four[0].AsSlice())
	copy(b[16:], four[1].AsSlice())
	return append(b, payload...)
}

// ipv6 is a packet whose payload begins with a header of the type.
func ipv6(next byte, payload ...byte) []byte {
	b := make([]byte, 40)
	b[0], b[6] = 0x60, next
	copy(b[8:], six[0].AsSlice())
	copy(b[24:], six[1].AsSlice())
	return append(b, payload...)
}

func TestPackets(t *testing.T) {
	ports := []byte{0x9c, 0x40, 0, 80}
	extension := func(next byte, more ...byte) []byte { return append([]byte{next, 0, 0, 0, 0, 0, 0, 0}, more...) }
	flow := func(ends [2]netip.Addr, proto policy.Protocol, port uint16, icmp uint8) policy.Flow {
		return policy.Flow{Source: ends[0], Destination: ends[1], Protocol: proto, DestinationPort: port, ICMPType: icmp}
	}
	for name, c := range map[string]struct {
		packet []byte
		want   packet
	}{
		"TCP":                        {ipv4(policy.TCP, 0, 0, ports...), packet{flow(four, policy.TCP, 80, 0), 40000}},
		"UDP behind options":         {ipv4(policy.UDP, 8, 0, ports...), packet{flow(four, policy.UDP, 80, 0), 40000}},
		"SCTP":                       {ipv4(policy.SCTP, 0, 0, ports...), packet{flow(four, policy.SCTP, 80, 0), 40000}},
		"a later fragment":           {ipv4(policy.UDP, 0, 8, ports...), packet{flow(four, policy.UDP, 0, 0), 0}},
		"ICMP":                       {ipv4(policy.ICMP, 0, 0, 8, 0), packet{flow(four, policy.ICMP, 0, 8), 0}},
		"a protocol without ports":   {ipv4(47, 0, 0, ports...), packet{flow(four, 47, 0, 0), 0}},
		"cut short before the ports": {ipv4(policy.TCP, 0, 0, 1, 2, 3), packet{flow(four, policy.TCP, 0, 0), 0}},
		"IPv6 TCP":                   {ipv6(6, ports...), packet{flow(six, policy.TCP, 80, 0), 40000}},
		"a forwarded neighbour solicitation": {append(ipv6(58)[:7], append([]byte{254}, append(ipv6(58)[8:], 135, 1)...)...),
			packet{policy.Flow{Source: six[0], Destination: six[1], Protocol: policy.ICMPv6, ICMPType: 135, ICMPCode: 1, HopLimit: 254}, 0}},
		"ICMPv6":                         {ipv6(58, 128), packet{flow(six, policy.ICMPv6, 0, 128), 0}},
		"behind three extension headers": {ipv6(0, extension(43, extension(60, extension(17, ports...)...)...)...), packet{flow(six, policy.UDP, 80, 0), 40000}},
		"behind a long one":              {ipv6(60, append([]byte{6, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, ports...)...), packet{flow(six, policy.TCP, 80, 0), 40000}},
		"behind an authentication header": {ipv6(51, append([]byte{6, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, ports...)...),
			packet{flow(six, policy.TCP, 80, 0), 40000}},
		"a first IPv6 fragment":             {ipv6(44, append([]byte{17, 0, 0, 1, 0, 0, 0, 9}, ports...)...), packet{flow(six, policy.UDP, 80, 0), 40000}},
		"a later IPv6 fragment":             {ipv6(44, append([]byte{17, 0, 0, 8, 0, 0, 0, 9}, ports...)...), packet{flow(six, policy.UDP, 0, 0), 0}},
		"an extension header cut short":     {ipv6(60, 6, 4, 0), packet{flow(six, destinationOptions, 0, 0), 0}},
		"a routing header and nothing more": {ipv6(43), packet{flow(six, routing, 0, 0), 0}},
	} {
		if got, ok := decodePacket(c.packet); !ok || got != c.want {
			t.Errorf("%s: %+v %v, want %+v", name, got, ok, c.want)
		}
	}
	for name, b := range map[string][]byte{
		"nothing": nil, "half a header": ipv4(6, 0, 0)[:19], "half an IPv6 header": ipv6(6)[:39], "another version": {0x50, 0, 0}, "an ARP request": {0, 1, 8, 0},
	} {
		if got, ok := decodePacket(b); ok {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(ipv4(policy.TCP, 8, 0, 1, 2, 3, 4))
	f.Add(ipv6(0, 44, 0, 0, 0, 0, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, ok := decodePacket(b)
		if !ok {
			return
		}
		if p.flow.Source.BitLen() != p.flow.Destination.BitLen() || !p.flow.Source.IsValid() {
			t.Errorf("addresses: %+v", p)
		}
		if !p.flow.Protocol.HasPorts() && (p.flow.DestinationPort != 0 || p.sourcePort != 0) {
			t.Errorf("ports: %+v", p)
		}
	})
}
