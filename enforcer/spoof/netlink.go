package spoof

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tierwall/tierwall/policy"
)

// layout reads the kernel's links and routes, and receives notifications of their changes, in the network namespace of the
// thread that opened it.
type layout struct {
	handle *netlink.Handle
	done   chan struct{}
	links  chan netlink.LinkUpdate
	routes chan netlink.RouteUpdate
	// failed receives why the notifications ended.
	failed chan error
}

// bufferSize is room for the notifications of some thousand changes, in bytes.
const bufferSize = 1 << 21

func openLayout() (*layout, error) {
	l := &layout{done: make(chan struct{}), failed: make(chan error, 1)}
	fail := func(err error) {
		select {
		case l.failed <- err:
		default:
		}
	}
	var err error
	if l.handle, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	links, routes := make(chan netlink.LinkUpdate, 64), make(chan netlink.RouteUpdate, 64)
	if err := netlink.LinkSubscribeWithOptions(links, l.done, netlink.LinkSubscribeOptions{
		ErrorCallback: fail, ReceiveBufferSize: bufferSize, ReceiveBufferForceSize: true}); err != nil {
		l.close()
		return nil, fmt.Errorf("subscribe to interfaces: %w", err)
	}
	l.links = links
	if err := netlink.RouteSubscribeWithOptions(routes, l.done, netlink.RouteSubscribeOptions{
		ErrorCallback: fail, ReceiveBufferSize: bufferSize, ReceiveBufferForceSize: true}); err != nil {
		l.close()
		return nil, fmt.Errorf("subscribe to routes: %w", err)
	}
	l.routes = routes
	return l, nil
}

// errMissedChanges says that the kernel had no room for notifications of changes.
var errMissedChanges = errors.New("changes were missed")

// asMissedChanges wraps an error of a subscription in errMissedChanges if it is the kernel's ENOBUFS. The library gives
// only its text.
func asMissedChanges(err error) error {
	if errors.Is(err, unix.ENOBUFS) || strings.HasSuffix(err.Error(), unix.ENOBUFS.Error()) {
		return fmt.Errorf("%w: %w", errMissedChanges, err)
	}
	return err
}

// close ends the subscriptions, and waits for their goroutines.
func (l *layout) close() {
	close(l.done)
	l.handle.Close()
	if l.links != nil {
		for range l.links {
			continue
		}
	}
	if l.routes != nil {
		for range l.routes {
			continue
		}
	}
}

// readLayout returns all links and unicast routes.
func (l *layout) readLayout() ([]Link, []Route, error) {
	found, err := retryInterrupted(l.handle.LinkList)
	if err != nil {
		return nil, nil, fmt.Errorf("list the interfaces: %w", err)
	}
	var links []Link
	for _, f := range found {
		a := f.Attrs()
		links = append(links, Link{Index: a.Index, Name: a.Name, Kind: f.Type(), Master: a.MasterIndex, Tunnel: tunnelOf(f)})
	}
	routes, err := readRoutes(l.handle)
	return links, routes, err
}

// tunnelOf returns the tunnel that an interface decapsulates. WireGuard authenticates the sender and is none.
func tunnelOf(l netlink.Link) Tunnel {
	const ipInIP, ipv6InIP, gre = 4, 41, 47
	if l.Attrs().Flags&net.FlagUp == 0 {
		return Tunnel{} // some exist once their module is loaded
	}
	switch l := l.(type) {
	case *netlink.Vxlan:
		return Tunnel{policy.UDP, uint16(l.Port)}
	case *netlink.Geneve:
		return Tunnel{policy.UDP, l.Dport}
	case *netlink.Iptun:
		return Tunnel{Protocol: ipInIP}
	case *netlink.Sittun, *netlink.Ip6tnl:
		return Tunnel{Protocol: ipv6InIP}
	case *netlink.Gretun, *netlink.Gretap:
		return Tunnel{Protocol: gre}
	}
	return Tunnel{}
}

// ReadRoutes returns all unicast routes of the network namespace of the calling thread.
func ReadRoutes() ([]Route, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	defer h.Close()
	return readRoutes(h)
}

func readRoutes(h *netlink.Handle) ([]Route, error) {
	var routes []Route
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		found, err := retryInterrupted(func() ([]netlink.Route, error) {
			return h.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
		})
		if err != nil {
			return nil, fmt.Errorf("list the routes: %w", err)
		}
		for _, f := range found {
			routes = append(routes, routesOf(f)...)
		}
	}
	return routes, nil
}

// retryInterrupted repeats a dump that a change interrupted.
func retryInterrupted[T any](list func() ([]T, error)) ([]T, error) {
	const tries = 5
	for try := 1; ; try++ {
		out, err := list()
		if !errors.Is(err, netlink.ErrDumpInterrupted) || try == tries {
			return out, err
		}
	}
}

// routesOf returns a unicast route, once for each interface that it leads to.
func routesOf(r netlink.Route) []Route {
	if r.Type != unix.RTN_UNICAST {
		return nil
	}
	out := Route{Link: r.LinkIndex, Gateway: len(r.Gw) > 0 || r.Via != nil || r.Encap != nil,
		Learned: r.Protocol == unix.RTPROT_RA || r.Protocol == unix.RTPROT_REDIRECT}
	if r.Dst != nil {
		a, _ := netip.AddrFromSlice(r.Dst.IP)
		bits, _ := r.Dst.Mask.Size()
		out.To = netip.PrefixFrom(a.Unmap(), bits)
	} else {
		out.To = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	if len(r.MultiPath) == 0 {
		return []Route{out}
	}
	var all []Route
	for _, hop := range r.MultiPath {
		out.Link, out.Gateway = hop.LinkIndex, true
		all = append(all, out)
	}
	return all
}
