//go:build netns

package revoke_test

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/tierwall/tierwall/enforcer/revoke"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/test/netns"
)

// entry is an entry of connection tracking, as if a connection had been made.
type entry struct {
	flow policy.Flow
	// to is the address that was dialled, where it is not the real destination.
	to      netip.Addr
	srcPort uint16
}

// Numbers of linux/netfilter/nfnetlink_conntrack.h and nf_conntrack_common.h.
const (
	ctaTupleOrig, ctaTupleReply, ctaStatus, ctaProtoInfo, ctaTimeout = 1, 2, 3, 4, 7

	seenReplyAssured = 1<<1 | 1<<2 | 1<<3 // and confirmed
	established      = 3
)

// track makes entries in a namespace.
func track(t testing.TB, s *netns.Space, entries []entry) {
	t.Helper()
	if err := s.Do(func() error {
		socket, err := nl.Subscribe(unix.NETLINK_NETFILTER)
		if err != nil {
			return err
		}
		defer socket.Close()
		sockets := map[int]*nl.SocketHandle{unix.NETLINK_NETFILTER: {Socket: socket}}
		for _, e := range entries {
			r := e.creation()
			r.Sockets = sockets
			if _, err := r.Execute(unix.NETLINK_NETFILTER, 0); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func (e entry) creation() *nl.NetlinkRequest {
	family := uint8(unix.AF_INET6)
	if e.flow.Source.Is4() {
		family = unix.AF_INET
	}
	dialled := e.flow.Destination
	if e.to.IsValid() {
		dialled = e.to
	}
	r := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_CTNETLINK<<8|nl.IPCTNL_MSG_CT_NEW, unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	r.AddData(&nl.Nfgenmsg{NfgenFamily: family, Version: nl.NFNETLINK_V0})
	r.AddData(e.tuple(ctaTupleOrig, e.flow.Source, dialled, e.srcPort, e.flow.DestinationPort, false))
	r.AddData(e.tuple(ctaTupleReply, e.flow.Destination, e.flow.Source, e.flow.DestinationPort, e.srcPort, true))
	r.AddData(nl.NewRtAttr(ctaStatus, binary.BigEndian.AppendUint32(nil, seenReplyAssured)))
	r.AddData(nl.NewRtAttr(ctaTimeout, binary.BigEndian.AppendUint32(nil, 3600)))
	if e.flow.Protocol == policy.TCP {
		info := nl.NewRtAttr(ctaProtoInfo|unix.NLA_F_NESTED, nil)
		info.AddRtAttr(1|unix.NLA_F_NESTED, nil).AddRtAttr(1, []byte{established})
		r.AddData(info)
	}
	return r
}

func (e entry) tuple(kind int, src, dst netip.Addr, srcPort, dstPort uint16, reply bool) *nl.RtAttr {
	t := nl.NewRtAttr(kind|unix.NLA_F_NESTED, nil)
	ip := t.AddRtAttr(1|unix.NLA_F_NESTED, nil)
	number := 1
	if src.Is6() {
		number = 3
	}
	ip.AddRtAttr(number, src.AsSlice())
	ip.AddRtAttr(number+1, dst.AsSlice())
	proto := t.AddRtAttr(2|unix.NLA_F_NESTED, nil)
	proto.AddRtAttr(1, []byte{byte(e.flow.Protocol)})
	switch e.flow.Protocol {
	case policy.ICMP, policy.ICMPv6:
		kind, request, answer := 4, byte(8), byte(0)
		if e.flow.Protocol == policy.ICMPv6 {
			kind, request, answer = 7, 128, 129
		}
		if reply {
			request = answer
		}
		proto.AddRtAttr(kind, binary.BigEndian.AppendUint16(nil, e.srcPort))
		proto.AddRtAttr(kind+1, []byte{request})
		proto.AddRtAttr(kind+2, []byte{0})
	default:
		proto.AddRtAttr(2, binary.BigEndian.AppendUint16(nil, srcPort))
		proto.AddRtAttr(3, binary.BigEndian.AppendUint16(nil, dstPort))
	}
	return t
}

// tracked counts the entries of a namespace by their flows.
func tracked(t testing.TB, s *netns.Space, of revoke.Scope) map[policy.Flow]int {
	t.Helper()
	out := map[policy.Flow]int{}
	if err := s.Do(func() error {
		table, err := revoke.Open()
		if err != nil {
			return err
		}
		defer table.Close()
		return table.ForEach(t.Context(), of, func(c revoke.Connection) {
			if !c.OneWay {
				out[c.Flow]++
			}
		})
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

func trackedBy(t testing.TB, n *node) map[policy.Flow]int {
	return tracked(t, n.Space, revoke.Scope{All: true})
}
