package sctp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// A socket is a raw socket of a server. It knows at which of the machine's
// addresses a packet has come in, and can answer from it.
type socket struct {
	read  func(b []byte) (n int, local, remote netip.Addr, err error)
	write func(b []byte, local, remote netip.Addr) error
	close func() error
}

// openSockets opens a socket for an address, or, for no address, one for each
// family that the machine has.
func openSockets(at netip.AddrPort) ([]*socket, error) {
	any := !at.Addr().IsValid()
	var sockets []*socket
	var errs []error
	for _, family := range []struct {
		wanted bool
		open   func(netip.AddrPort) (*socket, error)
	}{
		{any || at.Addr().Is4(), open4}, {any || at.Addr().Is6(), open6},
	} {
		if !family.wanted {
			continue
		}
		s, err := family.open(at)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		sockets = append(sockets, s)
	}
	if len(sockets) == 0 {
		return nil, errors.Join(errs...)
	}
	return sockets, nil
}

func open4(at netip.AddrPort) (*socket, error) {
	conn, err := net.ListenPacket("ip4:"+protocol, host(at.Addr()))
	if err != nil {
		return nil, err
	}
	raw := ipv4.NewPacketConn(conn)
	if err := raw.SetControlMessage(ipv4.FlagDst, true); err != nil {
		return nil, fmt.Errorf("learn destination addresses: %w", errors.Join(err, conn.Close()))
	}
	if err := filter(conn, true, at.Port()); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return &socket{
		read: func(b []byte) (int, netip.Addr, netip.Addr, error) {
			n, control, from, err := raw.ReadFrom(b)
			if err != nil || control == nil {
				return 0, netip.Addr{}, netip.Addr{}, err
			}
			return n, ipOf(&net.IPAddr{IP: control.Dst}), ipOf(from), nil
		},
		write: func(b []byte, local, remote netip.Addr) error {
			_, err := raw.WriteTo(b, &ipv4.ControlMessage{Src: local.AsSlice()}, ipAddr(remote))
			return err
		},
		close: conn.Close,
	}, nil
}

func open6(at netip.AddrPort) (*socket, error) {
	conn, err := net.ListenPacket("ip6:"+protocol, host(at.Addr()))
	if err != nil {
		return nil, err
	}
	raw := ipv6.NewPacketConn(conn)
	if err := raw.SetControlMessage(ipv6.FlagDst, true); err != nil {
		return nil, fmt.Errorf("learn destination addresses: %w", errors.Join(err, conn.Close()))
	}
	if err := filter(conn, false, at.Port()); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return &socket{
		read: func(b []byte) (int, netip.Addr, netip.Addr, error) {
			n, control, from, err := raw.ReadFrom(b)
			if err != nil || control == nil {
				return 0, netip.Addr{}, netip.Addr{}, err
			}
			return n, ipOf(&net.IPAddr{IP: control.Dst}), ipOf(from), nil
		},
		write: func(b []byte, local, remote netip.Addr) error {
			_, err := raw.WriteTo(b, &ipv6.ControlMessage{Src: local.AsSlice()}, ipAddr(remote))
			return err
		},
		close: conn.Close,
	}, nil
}

// sender sends packets of a path. One that cannot be sent is lost: it is sent again.
func (s *socket) sender(at path) func(packet) {
	return func(p packet) { _ = s.write(p.marshal(), at.local.Addr(), at.remote.Addr()) }
}

func host(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

func ipOf(a net.Addr) netip.Addr {
	ip, ok := a.(*net.IPAddr)
	if !ok {
		return netip.Addr{}
	}
	addr, _ := netip.AddrFromSlice(ip.IP)
	return addr.Unmap().WithZone(ip.Zone)
}
