//go:build netns

package dataplane

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tierwall/tierwall/enforcer/ipt"
	"github.com/tierwall/tierwall/enforcer/nft"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/test/netns"
)

// loads are what the rules are made for.
var loads = []load{
	{10, 0, false}, {54, 0, false}, {250, 0, false}, {500, 0, false},
	{54, 10, false}, {54, 100, false}, {54, 1000, false}, {54, 100, true}, {54, 1000, true},
}

// site is a node with a client and a server.
type site struct {
	node, client, server *netns.Host
}

// backend puts a program in force.
type backend interface {
	Apply(ctx context.Context, p *policy.Program) error
}

// newSite is a node on which nothing tracks connections.
func newSite(b *testing.B) site {
	b.Helper()
	lab := netns.NewLab(b, []policy.Host{{Name: "node", Addrs: []netip.Addr{nodeAddr}}})
	s := site{node: lab.Nodes["node"]}
	s.client, s.server = lab.AddPod(b, "node", "client", clientAddr), lab.AddPod(b, "node", "server", serverAddr)
	s.node.Run(b, "nft", "flush", "ruleset")
	return s
}

// apply puts a load's program in force.
func (s site) apply(b *testing.B, l load, open func(context.Context) (backend, error)) {
	b.Helper()
	if err := s.node.Do(func() error {
		k, err := open(b.Context())
		if err != nil {
			return err
		}
		return k.Apply(b.Context(), l.program())
	}); err != nil {
		b.Fatal(err)
	}
}

// eachFirewall measures without any, with connection tracking alone, which is the floor, and
// with each backend under each load.
func eachFirewall(b *testing.B, measure func(b *testing.B, s site)) {
	b.Run("nothing", func(b *testing.B) { measure(b, newSite(b)) })
	b.Run("tracking", func(b *testing.B) {
		s := newSite(b)
		s.node.Run(b, "nft", "add table inet floor; add chain inet floor forward { type filter hook forward priority 0; }; "+
			"add rule inet floor forward ct state established,related accept")
		measure(b, s)
	})
	for name, open := range map[string]func(context.Context) (backend, error){
		"nftables": func(ctx context.Context) (backend, error) { return nft.New(ctx, nft.Options{}) },
		"iptables": func(ctx context.Context) (backend, error) { return ipt.New(ctx, ipt.Options{Mode: ipt.NFT}) },
	} {
		for _, l := range loads {
			b.Run(name+"/"+l.String(), func(b *testing.B) {
				s := newSite(b)
				s.apply(b, l, open)
				measure(b, s)
			})
		}
	}
}

// Nobody answers, so that to connection tracking every datagram is the first of its flow.
func BenchmarkOneWayUDP(b *testing.B) {
	eachFirewall(b, func(b *testing.B, s site) {
		s.listen(b)
		s.send(b, s.dial(b))
	})
}

func BenchmarkEstablishedUDP(b *testing.B) {
	eachFirewall(b, func(b *testing.B, s site) {
		trap, conn := s.listen(b), s.dial(b)
		s.answer(b, trap, conn)
		s.send(b, conn)
	})
}

func BenchmarkTCPConnections(b *testing.B) {
	eachFirewall(b, func(b *testing.B, s site) {
		to := s.accept(b)
		err := s.client.Do(func() error {
			for b.Loop() {
				if err := connect(to); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	})
}

// listen has the server take datagrams, and read none.
func (s site) listen(b *testing.B) *net.UDPConn {
	b.Helper()
	var conn *net.UDPConn
	if err := s.server.Do(func() (err error) {
		conn, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(serverAddr, port)))
		return err
	}); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close() })
	return conn
}

// dial is the client's socket. The server gets the first datagram, or the rules are wrong.
func (s site) dial(b *testing.B) *net.UDPConn {
	b.Helper()
	var conn *net.UDPConn
	if err := s.client.Do(func() (err error) {
		conn, err = net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(serverAddr, port)))
		return err
	}); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close() })
	return conn
}

// answer makes the flow an established one.
func (s site) answer(b *testing.B, server, client *net.UDPConn) {
	b.Helper()
	word := make([]byte, 4)
	deadline := time.Now().Add(10 * time.Second)
	err := errors.Join(server.SetReadDeadline(deadline), client.SetReadDeadline(deadline))
	if err == nil {
		_, err = client.Write(word)
	}
	if err == nil {
		var from netip.AddrPort
		if _, from, err = server.ReadFromUDPAddrPort(word); err == nil {
			_, err = server.WriteToUDPAddrPort(word, from)
		}
	}
	if err == nil {
		_, err = client.Read(word)
	}
	if err != nil {
		b.Fatal(err)
	}
}

// send sends datagrams, one an operation, and sees that they arrive.
func (s site) send(b *testing.B, conn *net.UDPConn) {
	b.Helper()
	raw, err := conn.SyscallConn()
	if err != nil {
		b.Fatal(err)
	}
	runtime.LockOSThread() // whose time is measured
	defer runtime.UnlockOSThread()
	word, before, sent, start := make([]byte, 18), s.received(b), 0, threadTime(b)
	var failed error
	if err := raw.Write(func(fd uintptr) bool {
		for b.Loop() {
			if _, err := unix.Write(int(fd), word); err != nil {
				failed = err
				return true
			}
			sent++
		}
		return true
	}); err != nil || failed != nil {
		b.Fatal(err, failed)
	}
	b.ReportMetric(float64((threadTime(b)-start).Nanoseconds())/float64(sent), "cpu-ns/packet")
	time.Sleep(10 * time.Millisecond)
	if arrived := s.received(b) - before; arrived < sent*9/10 {
		b.Fatalf("%d of %d datagrams arrived", arrived, sent)
	}
}

// threadTime is the time that the calling thread has used, the way of its packets through
// the node included.
func threadTime(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// received is how many packets came to the server.
func (s site) received(b *testing.B) int {
	b.Helper()
	packets := -1
	err := s.server.Do(func() error {
		file, err := os.Open("/proc/thread-self/net/dev")
		if err != nil {
			return err
		}
		defer file.Close()
		for lines := bufio.NewScanner(file); lines.Scan(); {
			if rest, ok := strings.CutPrefix(strings.TrimSpace(lines.Text()), "eth0:"); ok {
				var bytes int
				_, err = fmt.Sscan(rest, &bytes, &packets)
			}
		}
		return err
	})
	if err != nil || packets < 0 {
		b.Fatal("reading the server's interface: ", err)
	}
	return packets
}

// accept has the server take connections and wait for their end.
func (s site) accept(b *testing.B) netip.AddrPort {
	b.Helper()
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
	b.Cleanup(func() { l.Close(); <-done })
	return to
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
