//go:build netns

package netns

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tierwall/tierwall/policy"
)

// shape makes packets of a kind from one address to another, with a mark in the last of them.
type shape struct {
	// dns says that the packets are UDP to port 53, whatever is in front of that.
	dns     bool
	packets func(from, to netip.Addr, mark []byte) [][]byte
}

// bare is a packet of a protocol that carries the mark.
func bare(protocol byte) shape {
	return shape{packets: func(from, to netip.Addr, mark []byte) [][]byte {
		return [][]byte{packetOf(protocol, from, to, append(make([]byte, 8), mark...))}
	}}
}

// packetOf is an IP packet of either family.
func packetOf(protocol byte, from, to netip.Addr, payload []byte) []byte {
	if from.Is4() {
		return packet4(protocol, from.AsSlice(), to.AsSlice(), nil, payload)
	}
	return packet6(protocol, from.AsSlice(), to.AsSlice(), payload)
}

// behind is UDP to port 53 behind an IPv6 extension header.
func behind(next byte, header ...byte) shape {
	return shape{dns: true, packets: func(from, to netip.Addr, mark []byte) [][]byte {
		inner := datagram(from, to, 53, mark)[40:]
		return [][]byte{packet6(next, from.AsSlice(), to.AsSlice(), slices.Concat([]byte{unix.IPPROTO_UDP}, header, inner))}
	}}
}

// fragments is UDP to a port in two fragments; the first has but the header of UDP.
func fragments(port uint16, backwards bool) shape {
	return shape{dns: port == 53, packets: func(from, to netip.Addr, mark []byte) [][]byte {
		whole := datagram(from, to, port, mark)
		id := serial.Add(1)
		var out [][]byte
		if from.Is4() {
			udp := whole[20:]
			for offset, part := range map[uint16][]byte{0: udp[:8], 1: udp[8:]} {
				p := packet4(unix.IPPROTO_UDP, from.AsSlice(), to.AsSlice(), nil, part)
				binary.BigEndian.PutUint16(p[4:], uint16(id))
				binary.BigEndian.PutUint16(p[6:], map[uint16]uint16{0: 0x2000, 1: 1}[offset])
				binary.BigEndian.PutUint16(p[10:], 0)
				binary.BigEndian.PutUint16(p[10:], checksum(p[:20]))
				out = append(out, p)
			}
		} else {
			udp := whole[40:]
			for offset, part := range map[uint16][]byte{0: udp[:8], 8: udp[8:]} {
				header := []byte{unix.IPPROTO_UDP, 0, 0, byte(offset)}
				if offset == 0 {
					header[3] = 1 // more fragments
				}
				header = binary.BigEndian.AppendUint32(header, id)
				out = append(out, packet6(unix.IPPROTO_FRAGMENT, from.AsSlice(), to.AsSlice(), append(header, part...)))
			}
		}
		first := func(p []byte) bool { return p[0]>>4 == 4 && p[6]&0x20 != 0 || p[0]>>4 == 6 && p[43]&1 != 0 }
		if first(out[0]) == backwards {
			slices.Reverse(out)
		}
		return out
	}}
}

// shapesOf are packets of all kinds, by what they are.
func shapesOf(six bool) map[string]shape {
	out := map[string]shape{
		"IP in IP": bare(4), "IPv6 in IP": bare(41), "GRE": bare(47), "ESP": bare(50), "an authentication header": bare(51),
		"OSPF": bare(89), "VRRP": bare(112), "UDP-Lite": bare(136), "a protocol for experiments": bare(253),
		"fragments to port 53": fragments(53, false), "the last fragment first": fragments(53, true), "fragments to port 54": fragments(54, false),
		"a datagram": {dns: true, packets: func(from, to netip.Addr, mark []byte) [][]byte { return [][]byte{datagram(from, to, 53, mark)} }},
		"an SCTP INIT": {packets: func(from, to netip.Addr, mark []byte) [][]byte {
			init := sctpInit(policy.Flow{DestinationPort: 53}, serial.Add(1))
			return [][]byte{packetOf(unix.IPPROTO_SCTP, from, to, withParameter(init, mark))}
		}},
	}
	if six {
		out["options for each router"] = behind(unix.IPPROTO_HOPOPTS, 0, 1, 4, 0, 0, 0, 0)
		out["options for the destination"] = behind(unix.IPPROTO_DSTOPTS, 0, 1, 4, 0, 0, 0, 0)
		out["a routing header of type 2"] = behind(unix.IPPROTO_ROUTING, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
		out["a segment routing header"] = behind(unix.IPPROTO_ROUTING, 2, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
		out["a fragment that is the whole"] = behind(unix.IPPROTO_FRAGMENT, 0, 0, 0, 0, 0, 0, 9)
		out["no next header"] = bare(59)
	}
	return out
}

// withParameter is an SCTP INIT with another address of its sender (RFC 9260, section 3.3.2.1), a host name that is the mark.
func withParameter(init, mark []byte) []byte {
	parameter := append([]byte{0, 11, 0, byte(4 + len(mark))}, mark...)
	init = append(init, parameter...)
	binary.BigEndian.PutUint16(init[sctpHeader+2:], uint16(20+len(parameter)))
	return init
}

// Whatever a packet looks like, it reaches and leaves no pod that is closed, and a rule for UDP at port 53 opens nothing but that.
func TestPacketsOfAllShapesAreJudged(t *testing.T) {
	for backend := range kernelBackends {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			l := pathsLab(t, backend)
			open, closed, dns := l.pod(openPod), l.pod(closedPod), l.pod(dnsPod)
			seen := map[*Host]*sniffer{open: open.sniff(t), closed: closed.sniff(t), dns: dns.sniff(t), l.World: l.World.sniff(t)}
			for family := range closedPod.Addrs {
				for name, s := range shapesOf(family == 1) {
					for _, c := range []struct {
						from, to *Host
						passes   bool
					}{
						{open, l.World, true}, {l.World, open, true}, {dns, l.World, s.dns}, {l.World, dns, s.dns}, {open, dns, s.dns},
						{closed, l.World, false}, {l.World, closed, false}, {closed, open, false}, {open, closed, false},
					} {
						patience := forDenied / 4
						if c.passes {
							patience = forAllowed / 2
						}
						if got := l.crosses(t, c.from, seen[c.to], func(mark []byte) [][]byte {
							return s.packets(c.from.Addrs[family], c.to.Addrs[family], mark)
						}, patience); got != c.passes {
							t.Errorf("IPv%d, %s from %s to %s: passes: %v", 4+2*family, name, c.from.Name, c.to.Name, got)
						}
					}
				}
			}
		})
	}
}
