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
		return nil, fmt.Errorf("open connection tracking: %w", err)
	}
	timeout := unix.NsecToTimeval(answerTime.Nanoseconds())
	if err := errors.Join(s.SetReceiveTimeout(&timeout), s.SetSendTimeout(&timeout)); err != nil {
		s.Close()
		return nil, fmt.Errorf("open connection tracking: %w", err)
	}
	routes, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("open routing netlink: %w", err)
	}
	return &Conntrack{&nl.SocketHandle{Socket: s}, routes, readTableSize()}, nil
}

// Close closes the sockets.
func (t *Conntrack) Close() {
	t.socket.Close()
	t.routes.Close()
}

// ForEach calls f with the connections of the scope, and possibly with others, but not with those that the node opened: no
// rule applies to what a node sends. It does so from any of its addresses, also from that of a pod's link or bridge,
// which the API server does not know.
func (t *Conntrack) ForEach(ctx context.Context, of Scope, f func(Connection)) error {
	own, err := t.ownAddresses()
	if err != nil {
		return err
	}
	forwarded := func(c Connection) {
		if c.OneWay || !own[c.Flow.Source] {
			f(c)
		}
	}
	single, err := t.isWholeDumpCheaper(of)
	if err != nil {
		return err
	}
	for _, q := range planQueries(of, single) {
		if err := t.dumpQuery(ctx, q, forwarded); err != nil {
			return fmt.Errorf("read tracked connections: %w", err)
		}
	}
	return nil
}

// ownAddresses returns the addresses of the network namespace.
func (t *Conntrack) ownAddresses() (map[netip.Addr]bool, error) {
	list, err := t.routes.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("read the node's addresses: %w", err)
	}
	out := make(map[netip.Addr]bool, len(list))
	for _, a := range list {
		if addr, ok := netip.AddrFromSlice(a.IP); ok {
			out[addr.Unmap()] = true
		}
	}
	return out, nil
}

func (t *Conntrack) dumpQuery(ctx context.Context, q query, f func(Connection)) error {
	r := newRequest(nl.IPCTNL_MSG_CT_GET, unix.NLM_F_DUMP, q.family)
	if q.side != nil {
		addFilter(r, *q.side)
	}
	r.Sockets = t.requestSockets()
	err := r.ExecuteIter(unix.NETLINK_NETFILTER, 0, func(m []byte) bool {
		if c, ok := decodeMessage(m); ok {
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
	// maxQueries is how many sides are queried one by one if there are many connections. The kernel walks its whole table for
	// each; to dump 100,000 connections costs as much as some 13 walks.
	maxQueries = 8
	// handOver is what it costs to dump a connection, in buckets of a walk.
	handOver = 64
)

// isWholeDumpCheaper reports whether it costs less to dump all connections than to walk the table a second time.
func (t *Conntrack) isWholeDumpCheaper(of Scope) (bool, error) {
	if of.All || len(of.Sides) < 2 {
		return false, nil // one walk in any case
	}
	n, err := t.countEntries()
	if err != nil {
		return false, fmt.Errorf("count tracked connections: %w", err)
	}
	return n*handOver < t.buckets, nil
}

// countEntries returns how many connections are tracked.
func (t *Conntrack) countEntries() (int, error) {
	r := newRequest(ctGetStats, unix.NLM_F_ACK, unix.AF_UNSPEC)
	r.Sockets = t.requestSockets()
	answers, err := r.Execute(unix.NETLINK_NETFILTER, 0)
	if err != nil {
		return 0, err
	}
	for _, m := range answers {
		for kind, a := range eachAttribute(m[min(len(m), nfgenmsg):]) {
			if kind == ctaStatsEntries && len(a) == 4 {
				return int(binary.BigEndian.Uint32(a)), nil
			}
		}
	}
	return 0, errors.New("the answer has no number of entries")
}

// readTableSize returns the size of the kernel's table, which all namespaces share. It is zero if it cannot be read;
// isWholeDumpCheaper is false then.
func readTableSize() int {
	n := 0
	if text, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_buckets"); err == nil {
		_, _ = fmt.Sscan(string(text), &n)
	}
	return n
}

// query is one dump request: for a side of one address, or for all of a family.
type query struct {
	family uint8
	side   *Side
}

// planQueries returns the queries for a scope. Linux 5.8 and newer filter by an IPv4 address; older ones dump all. For an
// IPv6 address the filter is inverted (seen on Linux 6.18), so it is not used. With single, one query dumps all.
func planQueries(of Scope, single bool) []query {
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

// Delete deletes the entry that the connection was read from, and no later one with the same addresses and ports. It
// reports whether there was one.
func (t *Conntrack) Delete(c Connection) (bool, error) {
	r := newRequest(nl.IPCTNL_MSG_CT_DELETE, unix.NLM_F_ACK, addrFamily(c.Flow.Source))
	r.AddRawData(c.entry)
	r.Sockets = t.requestSockets()
	_, err := r.Execute(unix.NETLINK_NETFILTER, 0)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("delete the tracked connection %+v: %w", c.Flow, err)
	}
	return true, nil
}

func (t *Conntrack) requestSockets() map[int]*nl.SocketHandle {
	return map[int]*nl.SocketHandle{unix.NETLINK_NETFILTER: t.socket}
}

func newRequest(operation, flags int, family uint8) *nl.NetlinkRequest {
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

// addFilter restricts a dump to the connections whose opener has the IPv4 address or, by the source of the replies, whose
// translated destination has it.
func addFilter(r *nl.NetlinkRequest, side Side) {
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
