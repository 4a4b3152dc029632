package revoke

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
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
	// buckets is the size of the table.
	buckets int
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
	return &Conntrack{&nl.SocketHandle{Socket: s}, routes, buckets()}, nil
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
	single, err := t.single(of)
	if err != nil {
		return err
	}
	for _, q := range queries(of, single) {
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

const (
	// maxQueries is how many sides are asked for one by one where there are many connections. The kernel walks its whole
	// table for each; to hand over 100,000 connections costs as much as some 13 walks.
	maxQueries = 8
	// handOver is what it costs to hand over a connection, in buckets that are walked.
	handOver = 64
)

// single reports whether it costs less to have all connections handed over than to walk the table a second time.
func (t *Conntrack) single(of Scope) (bool, error) {
	if of.All || len(of.Sides) < 2 {
		return false, nil // there is one walk in any case
	}
	n, err := t.count()
	if err != nil {
		return false, fmt.Errorf("counting tracked connections: %w", err)
	}
	return n*handOver < t.buckets, nil
}

// count is how many connections are tracked.
func (t *Conntrack) count() (int, error) {
	r := request(ctGetStats, unix.NLM_F_ACK, unix.AF_UNSPEC)
	r.Sockets = t.sockets()
	answers, err := r.Execute(unix.NETLINK_NETFILTER, 0)
	if err != nil {
		return 0, err
	}
	for _, m := range answers {
		for kind, a := range attributes(m[min(len(m), nfgenmsg):]) {
			if kind == ctaStatsEntries && len(a) == 4 {
				return int(binary.BigEndian.Uint32(a)), nil
			}
		}
	}
	return 0, errors.New("the kernel did not say")
}

// buckets is the size of the kernel's table, which all namespaces share; zero, which no walk is spared for, where it
// cannot be read.
func buckets() int {
	n := 0
	if text, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_buckets"); err == nil {
		_, _ = fmt.Sscan(string(text), &n)
	}
	return n
}

// query is one question to the kernel: for a side of one address, or for all of a family.
type query struct {
	family uint8
	side   *Side
}

// queries are what to ask the kernel for. It can be asked for the connections of an
// address since Linux 5.8 (an older one gives all), but not of an IPv6 address: of
// these, the filter passes every connection but those that were asked for (seen on
// Linux 6.18). A single one is asked for all of them where that is wanted.
func queries(of Scope, single bool) []query {
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
	if single && four && six {
		return []query{{family: unix.AF_UNSPEC}}
	}
	if len(out) > maxQueries || single && len(out) > 1 {
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
