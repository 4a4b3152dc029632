package sctp

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
)

// protocol is the number of SCTP among the protocols of IP.
const protocol = "132"

// DialSCTP makes an association with raddr from laddr, which may be nil. It waits
// until it is established, refused, or, after a minute, taken for unreachable.
func DialSCTP(network string, laddr, raddr *SCTPAddr) (*SCTPConn, error) {
	c, err := dial(laddr, raddr)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Addr: raddr, Err: err}
	}
	return c, nil
}

func dial(laddr, raddr *SCTPAddr) (*SCTPConn, error) {
	local, err := laddr.addrPort()
	if err != nil {
		return nil, err
	}
	remote, err := raddr.addrPort()
	if err != nil {
		return nil, err
	}
	if !remote.Addr().IsValid() || remote.Port() == 0 {
		return nil, fmt.Errorf("SCTP address %s: %w", raddr, syscall.EADDRNOTAVAIL)
	}
	port := local.Port()
	if port == 0 {
		port = ephemeralPort()
	}
	socket, err := connect(netip.AddrPortFrom(local.Addr(), port), remote.Addr())
	if err != nil {
		return nil, err
	}
	own, _ := netip.AddrFromSlice(socket.LocalAddr().(*net.IPAddr).IP)
	d := &dialed{socket: socket}
	d.conn = newConn(path{local: netip.AddrPortFrom(own.Unmap(), port), remote: remote}, d.write)
	return d.establish()
}

// connect opens a raw socket that gets packets from one address to one port
// alone, and learns of ICMP errors.
func connect(local netip.AddrPort, remote netip.Addr) (*net.IPConn, error) {
	var from *net.IPAddr
	if local.Addr().IsValid() {
		from = ipAddr(local.Addr())
	}
	socket, err := net.DialIP(family(remote)+":"+protocol, from, ipAddr(remote))
	if err != nil {
		return nil, err
	}
	if err := filter(socket, remote.Is4(), local.Port()); err != nil {
		return nil, errors.Join(err, socket.Close())
	}
	return socket, nil
}

func family(a netip.Addr) string {
	if a.Is4() {
		return "ip4"
	}
	return "ip6"
}

// ephemeralPort is a random port of those that Linux gives to clients. Others
// may have it too; the verification tag tells their packets apart.
func ephemeralPort() uint16 { return uint16(32768 + rand.IntN(28232)) }

// dialed is the client's side with its socket.
type dialed struct {
	conn    *SCTPConn
	socket  *net.IPConn
	failure atomic.Pointer[error] // an ICMP error
}

// establish starts the association. Its two goroutines end with it: closing the
// socket ends the reader.
func (d *dialed) establish() (*SCTPConn, error) {
	failed := make(chan struct{})
	go d.read(failed)
	go func() {
		defer d.socket.Close()
		d.conn.run(newClient(d.conn.deliver), failed)
	}()
	<-d.conn.ready
	select {
	case <-d.conn.ended:
		if failure := d.failure.Load(); failure != nil {
			return nil, *failure
		}
		if d.conn.err != nil {
			return nil, d.conn.err
		}
	default:
	}
	return d.conn, nil // perhaps with an orderly end already
}

// strikes is how many ICMP errors end an association. One alone may be about another
// association with the same address: the kernel tells them to all raw sockets.
const strikes = 2

// read gives the association its packets until the socket fails or is closed.
func (d *dialed) read(failed chan<- struct{}) {
	defer close(failed)
	b := make([]byte, 1<<16)
	for failures := 0; ; {
		n, _, err := d.socket.ReadFromIP(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			if failures++; failures < strikes {
				continue
			}
			d.failure.Store(&err)
			return
		}
		p, err := parse(b[:n])
		if err == nil && p.source == d.conn.path.remote.Port() && p.destination == d.conn.path.local.Port() {
			d.conn.offer(p)
		}
	}
}

// write sends a packet. One that cannot be sent is lost: it is sent again, and
// an ICMP error is the reader's.
func (d *dialed) write(p packet) { _, _ = d.socket.Write(p.marshal()) }
