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

// One-way entries take the place of UDP connections that were cut, where policy lets the server
// send to the client. Without one, the server's next datagram would open a connection to the client, and the
// client's datagrams, which are denied, would pass as its replies. The entry has
// the server's tuple as its original direction, and a reply direction that no packet ever has: so the server's
// datagrams stay first packets, which policy judges by themselves, and so do the client's, which find no entry.
// It is the kernel's to forget, when the connection would have been, or when the server was
// silent for nf_conntrack_udp_timeout.

// The addresses that replies of one-way entries would go to: those that are no host's
// (RFC 1122, section 3.2.1.3), and those that are discarded (RFC 6666).
var (
	nowhere4 = netip.MustParsePrefix("0.0.0.0/8")
	nowhere6 = netip.MustParsePrefix("100::/64")
)

func isNowhere(a netip.Addr) bool { return nowhere4.Contains(a) || nowhere6.Contains(a) }

// nowhere is an address that is nobody's, and another one for each address.
func nowhere(a netip.Addr) netip.Addr {
	b, size := a.AsSlice(), 1
	prefix := nowhere4.Addr().AsSlice()
	if a.Is6() {
		prefix, size = nowhere6.Addr().AsSlice(), 8
	}
	copy(b[:size], prefix)
	out, _ := netip.AddrFromSlice(b)
	return out
}

// partTries is how often a one-way entry is tried to make while packets of the server make others. Each
// try takes some 15 µs, in which there must be none.
const partTries = 100

// oneWay is what a one-way entry is made of, from the entry of a connection: the tuple of
// its replies, and the attributes of its remaining time and of its zone, if it has one.
type oneWay struct {
	server        tuple
	timeout, zone []byte
}

func placeOf(entry []byte) oneWay {
	var w oneWay
	for kind, a := range attributes(entry) {
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

// replies is the n-th tuple that no packet has.
func (w oneWay) replies(n int) tuple {
	s := w.server
	return tuple{src: s.dst, dst: nowhere(s.src), protocol: s.protocol, srcPort: s.dstPort, dstPort: s.srcPort + uint16(n)}
}

// connection is the entry as it will be read, named by the tuple that only it has.
func (w oneWay) connection(replies tuple) Connection {
	s := w.server
	return Connection{Flow: s.flow(), OneWay: true, entry: slices.Concat(replies.written(ctaTupleReply), w.zone), place: w,
		Back: policy.Flow{Source: s.dst, Destination: s.src, Protocol: s.protocol, DestinationPort: s.srcPort}}
}

// answers names whatever the client's datagrams to the server belong to.
func (c Connection) answers() Connection {
	s := c.place.server
	client := tuple{src: s.dst, dst: s.src, protocol: s.protocol, srcPort: s.dstPort, dstPort: s.srcPort}
	return Connection{Flow: c.Back, entry: slices.Concat(client.written(ctaTupleOrig), c.place.zone)}
}

// Part makes the one-way entry in the place of a connection that was deleted, and gives it.
func (t *Conntrack) Part(c Connection) (Connection, error) {
	w := c.place
	if !w.server.src.IsValid() || !w.server.dst.IsValid() {
		return Connection{}, fmt.Errorf("parting %+v: it has no replies", c.Flow)
	}
	var err error
	for n := range partTries {
		none := w.replies(n)
		r := request(nl.IPCTNL_MSG_CT_NEW, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK, addrFamily(w.server.src))
		r.AddRawData(slices.Concat(w.server.written(ctaTupleOrig), none.written(ctaTupleReply), w.timeout, w.zone))
		r.Sockets = t.sockets()
		if _, err = r.Execute(unix.NETLINK_NETFILTER, 0); err == nil {
			return w.connection(none), nil
		}
		if !errors.Is(err, unix.EEXIST) {
			break
		}
		// The server has spoken meanwhile, and that is the connection which must not be; or the
		// tuple that no packet has is that of another entry.
		if _, err := t.Delete(Connection{Flow: w.server.flow(), entry: slices.Concat(w.server.written(ctaTupleOrig), w.zone)}); err != nil {
			return Connection{}, err
		}
	}
	return Connection{}, fmt.Errorf("making a one-way entry for %+v: %w", c.Back, err)
}

// written is the tuple of a protocol with ports as a netlink attribute.
func (t tuple) written(kind int) []byte {
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
