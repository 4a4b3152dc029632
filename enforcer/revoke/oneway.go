package revoke

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/tierwall/tierwall/policy"
)

// One-way entries replace deleted UDP connections if policies let the server send to the client. Without one, the
// server's next datagram would open a connection, and the client's denied datagrams would pass as its replies.
//
// The entry has the server's tuple as its original direction, and a reply direction that no packet ever has. The
// server's datagrams thus stay first packets, to which policies apply, and so do the client's, which match no entry.
// The kernel removes it when it would have removed the connection, or when the server sends nothing for
// nf_conntrack_udp_timeout.

// The addresses that replies of one-way entries would go to: those that no host has (RFC 1122, section 3.2.1.3), and
// those that are discarded (RFC 6666).
var (
	nowhere4 = netip.MustParsePrefix("0.0.0.0/8")
	nowhere6 = netip.MustParsePrefix("100::/64")
)

func isUnusedAddress(a netip.Addr) bool { return nowhere4.Contains(a) || nowhere6.Contains(a) }

// unusedAddress returns an address that no host has, a different one for each address.
func unusedAddress(a netip.Addr) netip.Addr {
	b, size := a.AsSlice(), 1
	prefix := nowhere4.Addr().AsSlice()
	if a.Is6() {
		prefix, size = nowhere6.Addr().AsSlice(), 8
	}
	copy(b[:size], prefix)
	out, _ := netip.AddrFromSlice(b)
	return out
}

// installTries bounds the attempts to install a one-way entry while packets of the server create others. An attempt
// takes some 15 µs, in which no packet may arrive.
const installTries = 100

// oneWay is what a one-way entry is made of: the tuple of the connection's replies, and the attributes of its remaining
// time and of its zone, if it has one.
type oneWay struct {
	server        tuple
	timeout, zone []byte
}

func oneWayOf(entry []byte) oneWay {
	var w oneWay
	for kind, a := range eachAttribute(entry) {
		switch kind {
		case ctaTupleReply:
			w.server = parseTuple(a)
		case ctaTimeout:
			w.timeout = nl.NewRtAttr(ctaTimeout, a).Serialize()
		case ctaZone:
			w.zone = nl.NewRtAttr(ctaZone, a).Serialize()
		}
	}
	return w
}

// replyTuple returns the n-th tuple that no packet has.
func (w oneWay) replyTuple(n int) tuple {
	s := w.server
	return tuple{src: s.dst, dst: unusedAddress(s.src), protocol: s.protocol, srcPort: s.dstPort, dstPort: s.srcPort + uint16(n)}
}

// toConnection returns the entry as it will be dumped, identified by the tuple that no other entry has.
func (w oneWay) toConnection(replies tuple) Connection {
	s := w.server
	return Connection{Flow: s.toFlow(), OneWay: true, entry: slices.Concat(replies.encodeTuple(ctaTupleReply), w.zone), place: w,
		Back: policy.Flow{Source: s.dst, Destination: s.src, Protocol: s.protocol, DestinationPort: s.srcPort}}
}

// clientDatagrams returns the connection, if any, that the client's datagrams to the server belong to.
func (c Connection) clientDatagrams() Connection {
	s := c.place.server
	client := tuple{src: s.dst, dst: s.src, protocol: s.protocol, srcPort: s.dstPort, dstPort: s.srcPort}
	return Connection{Flow: c.Back, entry: slices.Concat(client.encodeTuple(ctaTupleOrig), c.place.zone)}
}

// InstallOneWay installs and returns the one-way entry that replaces a deleted connection.
func (t *Conntrack) InstallOneWay(c Connection) (Connection, error) {
	w := c.place
	if !w.server.src.IsValid() || !w.server.dst.IsValid() {
		return Connection{}, fmt.Errorf("install a one-way entry for %+v: the connection has no reply tuple", c.Flow)
	}
	var err error
	for n := range installTries {
		none := w.replyTuple(n)
		r := newRequest(nl.IPCTNL_MSG_CT_NEW, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK, addrFamily(w.server.src))
		r.AddRawData(slices.Concat(w.server.encodeTuple(ctaTupleOrig), none.encodeTuple(ctaTupleReply), w.timeout, w.zone))
		r.Sockets = t.requestSockets()
		if _, err = r.Execute(unix.NETLINK_NETFILTER, 0); err == nil {
			return w.toConnection(none), nil
		}
		if !errors.Is(err, unix.EEXIST) {
			break
		}
		// The server sent meanwhile and so opened the connection that must not exist; or another entry has the tuple that no
		// packet has.
		if _, err := t.Delete(Connection{Flow: w.server.toFlow(), entry: slices.Concat(w.server.encodeTuple(ctaTupleOrig), w.zone)}); err != nil {
			return Connection{}, err
		}
	}
	return Connection{}, fmt.Errorf("install a one-way entry for %+v: %w", c.Back, err)
}

// encodeTuple returns the tuple of a protocol with ports as a netlink attribute.
func (t tuple) encodeTuple(kind int) []byte {
	out := nl.NewRtAttr(kind|unix.NLA_F_NESTED, nil)
	src, dst := ctaIPv4Src, ctaIPv4Dst
	if t.src.Is6() {
		src, dst = ctaIPv6Src, ctaIPv6Dst
	}
	ip := out.AddRtAttr(ctaTupleIP|unix.NLA_F_NESTED, nil)
	ip.AddRtAttr(src, t.src.AsSlice())
	ip.AddRtAttr(dst, t.dst.AsSlice())
	proto := out.AddRtAttr(ctaTupleProto|unix.NLA_F_NESTED, nil)
	proto.AddRtAttr(ctaProtoNum, []byte{byte(t.protocol)})
	proto.AddRtAttr(ctaProtoSrcPort, binary.BigEndian.AppendUint16(nil, t.srcPort))
	proto.AddRtAttr(ctaProtoDstPort, binary.BigEndian.AppendUint16(nil, t.dstPort))
	return out.Serialize()
}
