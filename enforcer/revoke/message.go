package revoke

import (
	"encoding/binary"
	"iter"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/tierwall/tierwall/policy"
)

// Attributes of linux/netfilter/nfnetlink_conntrack.h.
const (
	ctaTupleOrig   = 1
	ctaTupleReply  = 2
	ctaTimeout     = 7
	ctaID          = 12
	ctaTupleMaster = 14
	ctaZone        = 18
	ctaFilter      = 25

	ctaTupleIP    = 1
	ctaTupleProto = 2

	ctaIPv4Src = 1
	ctaIPv4Dst = 2
	ctaIPv6Src = 3
	ctaIPv6Dst = 4

	ctaProtoNum     = 1
	ctaProtoSrcPort = 2
	ctaProtoDstPort = 3
	ctaICMPType     = 5
	ctaICMPv6Type   = 8

	ctaFilterOrigFlags  = 1
	ctaFilterReplyFlags = 2
	filterIPSrc         = 1 << 0

	ctGetStats      = 5 // IPCTNL_MSG_CT_GET_STATS
	ctaStatsEntries = 1
)

// nfgenmsg is the size of the header before the attributes.
const nfgenmsg = 4

// tuple is one direction of a tracked connection.
type tuple struct {
	src, dst         netip.Addr
	protocol         policy.Protocol
	srcPort, dstPort uint16
	icmpType         uint8
}

// decodeMessage reads a message about a tracked connection. One without addresses is none.
func decodeMessage(message []byte) (Connection, bool) {
	if len(message) < nfgenmsg {
		return Connection{}, false
	}
	var c Connection
	var original, reply tuple
	for kind, a := range eachAttribute(message[nfgenmsg:]) {
		switch kind {
		case ctaTupleOrig:
			original = parseTuple(a)
		case ctaTupleReply:
			reply = parseTuple(a)
		case ctaTupleMaster:
			parent := parseTuple(a).toFlow()
			c.Parent = &parent
		}
	}
	if !original.src.IsValid() || !reply.src.IsValid() {
		return Connection{}, false
	}
	c.Flow = original.toFlow()
	c.Flow.Destination = reply.src
	if c.Flow.Protocol.HasPorts() {
		c.Flow.DestinationPort = reply.srcPort
	}
	c.Back = reply.toFlow()
	if c.OneWay = original.protocol == policy.UDP && isUnusedAddress(reply.dst); c.OneWay {
		c.Back = policy.Flow{Source: reply.src, Destination: original.src, Protocol: original.protocol, DestinationPort: original.srcPort}
	}
	c.entry = message[nfgenmsg:]
	return c, true
}

// toFlow is the tuple as a flow, without translation of its destination.
func (t tuple) toFlow() policy.Flow {
	f := policy.Flow{Source: t.src, Destination: t.dst, Protocol: t.protocol, ICMPType: t.icmpType}
	if t.protocol.HasPorts() {
		f.DestinationPort = t.dstPort
	}
	return f
}

// identifyingAttributes are the attributes of an entry by which the kernel finds it again, and no other.
func identifyingAttributes(entry []byte) []byte {
	var out []byte
	for kind, a := range eachAttribute(entry) {
		switch kind {
		case ctaTupleOrig:
			out = append(out, nl.NewRtAttr(ctaTupleOrig|unix.NLA_F_NESTED, a).Serialize()...)
		case ctaZone, ctaID:
			out = append(out, nl.NewRtAttr(int(kind), a).Serialize()...)
		}
	}
	return out
}

func parseTuple(b []byte) tuple {
	var t tuple
	for kind, a := range eachAttribute(b) {
		switch kind {
		case ctaTupleIP:
			t.parseIP(a)
		case ctaTupleProto:
			t.parseProto(a)
		}
	}
	return t
}

func (t *tuple) parseIP(b []byte) {
	for kind, a := range eachAttribute(b) {
		addr, ok := netip.AddrFromSlice(a)
		if !ok {
			continue
		}
		switch kind {
		case ctaIPv4Src, ctaIPv6Src:
			t.src = addr
		case ctaIPv4Dst, ctaIPv6Dst:
			t.dst = addr
		}
	}
}

func (t *tuple) parseProto(b []byte) {
	for kind, a := range eachAttribute(b) {
		switch {
		case kind == ctaProtoNum && len(a) == 1:
			t.protocol = policy.Protocol(a[0])
		case kind == ctaProtoSrcPort && len(a) == 2:
			t.srcPort = binary.BigEndian.Uint16(a)
		case kind == ctaProtoDstPort && len(a) == 2:
			t.dstPort = binary.BigEndian.Uint16(a)
		case (kind == ctaICMPType || kind == ctaICMPv6Type) && len(a) == 1:
			t.icmpType = a[0]
		}
	}
}

const typeMask = ^uint16(unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)

// eachAttribute are the netlink attributes in b, by type, up to one that is cut short.
func eachAttribute(b []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= unix.SizeofNlAttr {
			size := int(binary.NativeEndian.Uint16(b))
			if size < unix.SizeofNlAttr || size > len(b) {
				return
			}
			if !yield(binary.NativeEndian.Uint16(b[2:])&typeMask, b[unix.SizeofNlAttr:size]) {
				return
			}
			b = b[min(alignAttribute(size), len(b)):]
		}
	}
}

// alignAttribute rounds a size up to netlink's alignment.
func alignAttribute(size int) int { return (size + unix.NLA_ALIGNTO - 1) &^ (unix.NLA_ALIGNTO - 1) }
