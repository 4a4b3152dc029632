package revoke

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/tierwall/tierwall/policy"
)

// answerTime is how long the kernel may take for one message.
const answerTime = 10 * time.Second

// Conntrack is the connection tracking of a network namespace, by netlink
// (nfnetlink_conntrack). It is used by one goroutine at a time.
type Conntrack struct {
	socket *nl.SocketHandle
	// routes gives the addresses of the namespace.
	routes *netlink.Handle
}

// Open opens the connection tracking of the network namespace that the calling thread is in.
func Open() (*Conntrack, error) {
	s, err := nl.GetNetlinkSocketAt(netns.None(), netns.None(), unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("opening connection tracking: %w", err)
	}
	timeout := unix.NsecToTimeval(answerTime.Nanoseconds())
	if err := errors.Join(s.SetReceiveTimeout(&timeout), s.SetSendTimeout(&timeout)); err != nil {
		s.Close()
		return nil, fmt.Errorf("opening connection tracking: %w", err)
	}
	routes, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("opening routes: %w", err)
	}
	return &Conntrack{&nl.SocketHandle{Socket: s}, routes}, nil
}

// Close closes the sockets.
func (t *Conntrack) Close() {
	t.socket.Close()
	t.routes.Close()
}

// Each calls f with the connections of the scope, and with others, but for those that the
// namespace itself opened: no rule judges what a node sends, from whichever of its addresses.
// To a pod of its own that is the one on the pod's link or bridge, which the API server does not know.
func (t *Conntrack) Each(ctx context.Context, of Scope, f func(Connection)) error {
	own, err := t.own()
	if err != nil {
		return err
	}
	forwarded := func(c Connection) {
		if c.OneWay || !own[c.Flow.Source] {
			f(c)
		}
	}
	for _, q := range queries(of) {
		if err := t.dump(ctx, q, forwarded); err != nil {
			return fmt.Errorf("reading tracked connections: %w", err)
		}
	}
	return nil
}

// own are the addresses of the namespace.
func (t *Conntrack) own() (map[netip.Addr]bool, error) {
	list, err := t.routes.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("reading the node's addresses: %w", err)
	}
	out := make(map[netip.Addr]bool, len(list))
	for _, a := range list {
		if addr, ok := netip.AddrFromSlice(a.IP); ok {
			out[addr.Unmap()] = true
		}
	}
	return out, nil
}

func (t *Conntrack) dump(ctx context.Context, q query, f func(Connection)) error {
	r := request(nl.IPCTNL_MSG_CT_GET, unix.NLM_F_DUMP, q.family)
	if q.side != nil {
		filter(r, *q.side)
	}
	r.Sockets = t.sockets()
	err := r.ExecuteIter(unix.NETLINK_NETFILTER, 0, func(m []byte) bool {
		if c, ok := decode(m); ok {
			f(c)
		}
		return ctx.Err() == nil
	})
	if err == nil {
		err = ctx.Err()
	}
	return err
}

// maxQueries is how many sides are asked for one by one. The kernel walks its whole
// table for each; to hand over all connections of it costs as much as some 13 walks.
const maxQueries = 8

// query is one question to the kernel: for a side of one address, or for all of a family.
type query struct {
	family uint8
	side   *Side
}

// queries are what to ask the kernel for. It can be asked for the connections of an
// address since Linux 5.8 (an older one gives all), but not of an IPv6 address: of
// these, the filter passes every connection but those that were asked for (seen on
// Linux 6.18).
func queries(of Scope) []query {
	if of.All {
		return []query{{family: unix.AF_UNSPEC}}
	}
	var out []query
	var four, six bool
	for side := range of.Sides {
		if side.Addr.Is4() {
			out, four = append(out, query{unix.AF_INET, &side}), true
		} else {
			six = true
		}
	}
	if four && len(out) > maxQueries {
		out = []query{{family: unix.AF_INET}}
	}
	if six {
		out = append(out, query{family: unix.AF_INET6})
	}
	return out
}

// Delete deletes the entry that the connection was read from, and none that came
// to have the same addresses and ports since.
func (t *Conntrack) Delete(c Connection) (bool, error) {
	r := request(nl.IPCTNL_MSG_CT_DELETE, unix.NLM_F_ACK, addrFamily(c.Flow.Source))
	r.AddRawData(c.entry)
	r.Sockets = t.sockets()
	_, err := r.Execute(unix.NETLINK_NETFILTER, 0)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("deleting the tracked connection %+v: %w", c.Flow, err)
	}
	return true, nil
}

func (t *Conntrack) sockets() map[int]*nl.SocketHandle {
	return map[int]*nl.SocketHandle{unix.NETLINK_NETFILTER: t.socket}
}

func request(operation, flags int, family uint8) *nl.NetlinkRequest {
	r := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_CTNETLINK<<8|operation, flags)
	r.AddData(&nl.Nfgenmsg{NfgenFamily: family, Version: nl.NFNETLINK_V0})
	return r
}

func addrFamily(a netip.Addr) uint8 {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// filter asks for the connections whose opener has the IPv4 address or, by the source of
// the replies, whose real destination has it.
func filter(r *nl.NetlinkRequest, side Side) {
	tuple, flags := ctaTupleOrig, ctaFilterOrigFlags
	if side.Direction == policy.Ingress {
		tuple, flags = ctaTupleReply, ctaFilterReplyFlags
	}
	t := nl.NewRtAttr(tuple|unix.NLA_F_NESTED, nil)
	t.AddRtAttr(ctaTupleIP|unix.NLA_F_NESTED, nil).AddRtAttr(ctaIPv4Src, side.Addr.AsSlice())
	f := nl.NewRtAttr(ctaFilter|unix.NLA_F_NESTED, nil)
	f.AddRtAttr(flags, nl.Uint32Attr(filterIPSrc))
	r.AddData(t)
	r.AddData(f)
}
