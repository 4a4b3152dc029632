package revoke

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/tierwall/tierwall/policy"
)

// message is a message about a connection: what was dialled, who answers, and of
// which connection it is a part.
func message(dialled, answers, parent *tuple) []byte {
	b := make([]byte, nfgenmsg)
	for kind, t := range map[int]*tuple{ctaTupleOrig: dialled, ctaTupleReply: answers, ctaTupleMaster: parent} {
		if t != nil {
			b = append(b, t.attribute(kind).Serialize()...)
		}
	}
	b = append(b, nl.NewRtAttr(ctaID, []byte{1, 2, 3, 4}).Serialize()...)
	return append(b, nl.NewRtAttr(8, []byte{9, 9, 9, 9}).Serialize()...) // a mark
}

func (t *tuple) attribute(kind int) *nl.RtAttr {
	a := nl.NewRtAttr(kind|unix.NLA_F_NESTED, nil)
	ip, number := a.AddRtAttr(ctaTupleIP|unix.NLA_F_NESTED, nil), ctaIPv4Src
	if t.src.Is6() {
		number = ctaIPv6Src
	}
	ip.AddRtAttr(number, t.src.AsSlice())
	ip.AddRtAttr(number+1, t.dst.AsSlice())
	proto := a.AddRtAttr(ctaTupleProto|unix.NLA_F_NESTED, nil)
	proto.AddRtAttr(ctaProtoNum, []byte{byte(t.protocol)})
	switch t.protocol {
	case policy.ICMP:
		proto.AddRtAttr(ctaICMPType, []byte{t.icmpType})
	case policy.ICMPv6:
		proto.AddRtAttr(ctaICMPv6Type, []byte{t.icmpType})
	default:
		proto.AddRtAttr(ctaProtoSrcPort, binary.BigEndian.AppendUint16(nil, t.srcPort))
		proto.AddRtAttr(ctaProtoDstPort, binary.BigEndian.AppendUint16(nil, t.dstPort))
	}
	return a
}

func TestMessages(t *testing.T) {
	a := netip.MustParseAddr
	for name, c := range map[string]struct {
		dialled, answers, parent *tuple
		want                     policy.Flow
	}{
		"a connection": {&tuple{a("10.0.0.1"), a("10.0.0.2"), policy.TCP, 40000, 80, 0}, &tuple{a("10.0.0.2"), a("10.0.0.1"), policy.TCP, 80, 40000, 0}, nil,
			policy.Flow{Source: a("10.0.0.1"), Destination: a("10.0.0.2"), Protocol: policy.TCP, DestinationPort: 80}},
		"by a Service, from behind a node": {&tuple{a("fd00::1"), a("fd00:96::1"), policy.UDP, 40000, 53, 0}, &tuple{a("fd00::2"), a("fd00:9::1"), policy.UDP, 5353, 50000, 0}, nil,
			policy.Flow{Source: a("fd00::1"), Destination: a("fd00::2"), Protocol: policy.UDP, DestinationPort: 5353}},
		"an echo": {&tuple{a("10.0.0.1"), a("10.0.0.2"), policy.ICMP, 0, 0, 8}, &tuple{a("10.0.0.2"), a("10.0.0.1"), policy.ICMP, 0, 0, 0}, nil,
			policy.Flow{Source: a("10.0.0.1"), Destination: a("10.0.0.2"), Protocol: policy.ICMP, ICMPType: 8}},
		"an IPv6 echo": {&tuple{a("fd00::1"), a("fd00::2"), policy.ICMPv6, 0, 0, 128}, &tuple{a("fd00::2"), a("fd00::1"), policy.ICMPv6, 0, 0, 129}, nil,
			policy.Flow{Source: a("fd00::1"), Destination: a("fd00::2"), Protocol: policy.ICMPv6, ICMPType: 128}},
		"a protocol without ports to policy": {&tuple{a("10.0.0.1"), a("10.0.0.2"), 33, 40000, 80, 0}, &tuple{a("10.0.0.2"), a("10.0.0.1"), 33, 80, 40000, 0}, nil,
			policy.Flow{Source: a("10.0.0.1"), Destination: a("10.0.0.2"), Protocol: 33}},
		"a part of another": {&tuple{a("10.0.0.2"), a("10.0.0.1"), policy.TCP, 20, 40001, 0}, &tuple{a("10.0.0.1"), a("10.0.0.2"), policy.TCP, 40001, 20, 0},
			&tuple{a("10.0.0.1"), a("10.0.0.2"), policy.TCP, 40000, 21, 0},
			policy.Flow{Source: a("10.0.0.2"), Destination: a("10.0.0.1"), Protocol: policy.TCP, DestinationPort: 40001}},
	} {
		got, ok := decodeMessage(message(c.dialled, c.answers, c.parent))
		if !ok || got.Flow != c.want || (got.Parent != nil) != (c.parent != nil) {
			t.Errorf("%s: %+v %v", name, got, ok)
		}
		if got.Parent != nil && *got.Parent != c.parent.toFlow() {
			t.Errorf("%s: parent %+v", name, got.Parent)
		}
		want := append(c.dialled.attribute(ctaTupleOrig).Serialize(), nl.NewRtAttr(ctaID, []byte{1, 2, 3, 4}).Serialize()...)
		if name := got.copyForDeletion().entry; !bytes.Equal(name, want) && !bytes.Equal(name, append(want[len(want)-8:], want[:len(want)-8]...)) {
			t.Errorf("named %x, want %x", name, want)
		}
	}
	for name, b := range map[string][]byte{
		"nothing":              nil,
		"a header":             make([]byte, nfgenmsg),
		"one way":              message(&tuple{src: a("10.0.0.1"), dst: a("10.0.0.2")}, nil, nil),
		"an attribute of none": {0, 0, 0, 0, 0, 0, 1, 0},
	} {
		if got, ok := decodeMessage(b); ok {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// The entry that takes the place of a connection is read as what the server sends, and leads back
// to what its client sent.
func TestAOneWayEntryIsTakenForNoConnection(t *testing.T) {
	for name, addrs := range map[string][2]string{"IPv4": {"10.0.0.1", "10.0.0.2"}, "IPv6": {"fd00::1", "fd00::2"}} {
		client, server := netip.MustParseAddr(addrs[0]), netip.MustParseAddr(addrs[1])
		there := &tuple{client, server, policy.UDP, 40000, 53, 0}
		back := &tuple{server, client, policy.UDP, 53, 40000, 0}
		c, _ := decodeMessage(message(there, back, nil))
		none := c.copyForDeletion().place.replyTuple(0)
		if c.OneWay || c.Back != back.toFlow() || !isUnusedAddress(none.dst) {
			t.Errorf("%s: %+v, replies %+v", name, c, none)
		}
		got, ok := decodeMessage(message(back, &none, nil))
		if !ok || !got.OneWay || got.Flow != back.toFlow() || got.Back != there.toFlow() {
			t.Errorf("%s: read as %+v", name, got)
		}
		if made := c.copyForDeletion().place.toConnection(none); made.Flow != got.Flow || made.Back != got.Back {
			t.Errorf("%s: made as %+v, read as %+v", name, made, got)
		}
		if other := c.copyForDeletion().place.replyTuple(1); other == none {
			t.Errorf("%s: a second one is the same", name)
		}
	}
}

func FuzzDecode(f *testing.F) {
	four := &tuple{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), policy.TCP, 40000, 80, 0}
	f.Add(message(four, four, four))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, ok := decodeMessage(b)
		if ok && (!c.Flow.Source.IsValid() || !c.Flow.Destination.IsValid()) {
			t.Errorf("a connection without an address: %+v", c)
		}
		again, _ := decodeMessage(append(make([]byte, nfgenmsg), c.copyForDeletion().entry...))
		if !bytes.Equal(again.copyForDeletion().entry, nil) && again.Flow.Source != c.Flow.Source {
			t.Error("the name is another's")
		}
	})
}
