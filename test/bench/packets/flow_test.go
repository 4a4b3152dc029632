//go:build netns

package packets

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tierwall/tierwall/test/netns"
)

// flow is traffic from the client to the server.
type flow interface {
	// run makes traffic for about so long, and says what one unit of it cost.
	run(d time.Duration) (time.Duration, error)
	// end closes its sockets.
	end()
}

// datagrams are those of one UDP socket. Their cost is the CPU time of who sends them, the way
// through the node to the server's socket included.
type datagrams struct {
	client, server *net.UDPConn
	raw            syscall.RawConn
}

func newDatagrams(b *testing.B, s *site, from *netns.Host) datagrams {
	f := datagrams{client: dial(b, from), server: s.listen(b)}
	var err error
	if f.raw, err = f.client.SyscallConn(); err != nil {
		b.Fatal(err)
	}
	return f
}

func (f datagrams) end() {
	f.client.Close()
	f.server.Close()
}

func (f datagrams) run(d time.Duration) (time.Duration, error) {
	const batch = 200
	word, sent, start := make([]byte, 18), 0, threadTime()
	var failed error
	err := f.raw.Write(func(fd uintptr) bool {
		for threadTime()-start < d {
			for range batch {
				if _, err := unix.Write(int(fd), word); err != nil {
					failed = err
					return true
				}
			}
			sent += batch
		}
		return true
	})
	return (threadTime() - start) / time.Duration(max(sent, 1)), errors.Join(err, failed)
}

// threadTime is the CPU time of the calling thread, which has to be locked.
func threadTime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		panic(err) // the kernel has this clock
	}
	return time.Duration(t.Nano())
}

// oneWay is a flow that nobody answers, so that to connection tracking every datagram is the first.
func oneWay(b *testing.B, s *site) flow { return s.oneWay(b, s.client) }

// fromElsewhere is such a flow of a pod that is another node's.
func fromElsewhere(b *testing.B, s *site) flow { return s.oneWay(b, s.elsewhere) }

func (s *site) oneWay(b *testing.B, from *netns.Host) flow {
	f := newDatagrams(b, s, from)
	if _, err := f.first(); err != nil {
		b.Fatalf("%s: %v", s.name, err)
	}
	return f
}

// established is a flow that was answered once.
func established(b *testing.B, s *site) flow {
	f := newDatagrams(b, s, s.client)
	from, err := f.first()
	if err == nil {
		_, err = f.server.WriteToUDPAddrPort(make([]byte, 4), from)
	}
	if err == nil {
		_, err = f.client.Read(make([]byte, 4))
	}
	if err != nil {
		b.Fatalf("%s: %v", s.name, err)
	}
	return f
}

// first has one datagram arrive: where it does not, the rules are wrong.
func (f datagrams) first() (netip.AddrPort, error) {
	word, deadline := make([]byte, 4), time.Now().Add(10*time.Second)
	if err := errors.Join(f.server.SetReadDeadline(deadline), f.client.SetReadDeadline(deadline)); err != nil {
		return netip.AddrPort{}, err
	}
	if _, err := f.client.Write(word); err != nil {
		return netip.AddrPort{}, err
	}
	_, from, err := f.server.ReadFromUDPAddrPort(word)
	if err != nil {
		return from, fmt.Errorf("the first datagram: %w", err)
	}
	return from, errors.Join(f.server.SetReadDeadline(time.Time{}), f.client.SetReadDeadline(time.Time{}))
}

// listen has the server take datagrams.
func (s *site) listen(b *testing.B) *net.UDPConn {
	var conn *net.UDPConn
	if err := s.server.Do(func() (err error) {
		conn, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(serverAddr, port)))
		return err
	}); err != nil {
		b.Fatal(err)
	}
	return conn
}

// dial is a socket to the server.
func dial(b *testing.B, from *netns.Host) *net.UDPConn {
	var conn *net.UDPConn
	if err := from.Do(func() (err error) {
		conn, err = net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(serverAddr, port)))
		return err
	}); err != nil {
		b.Fatal(err)
	}
	return conn
}

// connections are TCP connections of the client to the server, one after the other, which end at once.
// Their cost is the time that they take.
type connections struct {
	s     *site
	to    netip.AddrPort
	close func()
}

func (f connections) end() { f.close() }

func (f connections) run(d time.Duration) (time.Duration, error) {
	made, start := 0, time.Now()
	err := f.s.client.Do(func() error {
		for time.Since(start) < d {
			if err := connect(f.to); err != nil {
				return err
			}
			made++
		}
		return nil
	})
	return time.Since(start) / time.Duration(max(made, 1)), err
}

// connect makes a connection and resets it, so that its port is free at once.
func connect(to netip.AddrPort) error {
	c, err := net.DialTCP("tcp4", nil, net.TCPAddrFromAddrPort(to))
	if err != nil {
		return err
	}
	defer c.Close()
	return c.SetLinger(0)
}

func newConnections(b *testing.B, s *site) flow {
	var l net.Listener
	to := netip.AddrPortFrom(serverAddr, port)
	if err := s.server.Do(func() (err error) {
		l, err = net.Listen("tcp4", to.String())
		return err
	}); err != nil {
		b.Fatal(err)
	}
	done := make(chan struct{})
	go func() { // ends with the listener
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, c)
			c.Close()
		}
	}()
	return connections{s, to, func() { l.Close(); <-done }}
}
