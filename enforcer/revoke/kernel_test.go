//go:build netns

package revoke_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tierwall/tierwall/enforcer/iptables"
	"github.com/tierwall/tierwall/enforcer/nftables"
	"github.com/tierwall/tierwall/enforcer/revoke"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/test/netns"
)

// backend is what puts programs in force.
type backend interface {
	Apply(ctx context.Context, p *policy.Program) error
}

// backends are all that there are.
var backends = map[string]func(context.Context) (backend, error){
	"iptables-nft": func(ctx context.Context) (backend, error) {
		return iptables.New(ctx, iptables.Options{Mode: iptables.NFT})
	},
	"iptables-legacy": func(ctx context.Context) (backend, error) {
		return iptables.New(ctx, iptables.Options{Mode: iptables.Legacy})
	},
	"nftables": func(ctx context.Context) (backend, error) { return nftables.New(ctx, nftables.Options{}) },
}

// node is a node with the rules of a program and a Revoker.
type node struct {
	*netns.Host
	backend backend
	revoker *revoke.Revoker
	reports chan revoke.Report
}

func newNode(t *testing.T, h *netns.Host, name string) *node {
	t.Helper()
	n := &node{Host: h, reports: make(chan revoke.Report, 100)}
	var table *revoke.Conntrack
	if err := h.Do(func() (err error) {
		if n.backend, err = backends[name](t.Context()); err != nil {
			return err
		}
		table, err = revoke.Open()
		return err
	}); err != nil {
		t.Fatal(err)
	}
	n.revoker = revoke.New(table, revoke.Options{Report: func(r revoke.Report) { n.reports <- r }})
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = n.revoker.Start(t.Context())
	}()
	t.Cleanup(func() {
		<-done
		table.Close()
	})
	return n
}

// commit puts a program in force and waits until what it denies is cut.
func (n *node) commit(t *testing.T, p *policy.Program, c *policy.Change) revoke.Report {
	t.Helper()
	err := n.revoker.Commit(p, c, func() error {
		return n.Do(func() error { return n.backend.Apply(t.Context(), p) })
	})
	if err != nil {
		t.Fatal(err)
	}
	r := <-n.reports
	if r.Err != nil {
		t.Fatal(r.Err)
	}
	return r
}

// held is a connection with both of its ends.
type held struct {
	name           string
	client, server net.Conn
}

const port = 7000

// hold opens a connection from one host to another.
func hold(t *testing.T, network string, from, to *netns.Host, family int) held {
	t.Helper()
	return holdBy(t, network, from, to, family, to.Addrs[family])
}

// holdBy opens a connection to a host by an address that is translated to its own.
func holdBy(t *testing.T, network string, from, to *netns.Host, family int, by netip.Addr) held {
	t.Helper()
	h := held{name: fmt.Sprintf("%s from %s to %s", network, from.Addrs[family], by)}
	dial := dialUDP
	if network == "tcp" {
		dial = dialTCP
	}
	var err error
	// An IPv6 address may need a moment before it can be used, and so may a port
	// while a program that is being started still has its socket.
	for range 50 {
		h.client, h.server, err = dial(from, to, from.Addrs[family], to.Addrs[family], by)
		if !errors.Is(err, syscall.EADDRNOTAVAIL) && !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if err != nil {
		t.Fatalf("%s: %v", h.name, err)
	}
	t.Cleanup(func() { h.client.Close(); h.server.Close() })
	if !h.lives() {
		t.Fatalf("%s: carries nothing to begin with", h.name)
	}
	return h
}

func dialTCP(from, to *netns.Host, src, dst, by netip.Addr) (client, server net.Conn, err error) {
	var l net.Listener
	if err := to.Do(func() (err error) {
		l, err = net.Listen("tcp", netip.AddrPortFrom(dst, port).String())
		return err
	}); err != nil {
		return nil, nil, err
	}
	defer l.Close()
	if err := from.Do(func() (err error) {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: src.AsSlice()}, Timeout: time.Minute}
		client, err = d.Dial("tcp", netip.AddrPortFrom(by, port).String())
		return err
	}); err != nil {
		return nil, nil, err
	}
	server, err = l.Accept()
	return client, server, err
}

func dialUDP(from, to *netns.Host, src, dst, by netip.Addr) (client, server net.Conn, err error) {
	if err := from.Do(func() (err error) {
		client, err = net.DialUDP("udp", &net.UDPAddr{IP: src.AsSlice()}, &net.UDPAddr{IP: by.AsSlice(), Port: port})
		return err
	}); err != nil {
		return nil, nil, err
	}
	err = to.Do(func() (err error) {
		d := net.Dialer{LocalAddr: &net.UDPAddr{IP: dst.AsSlice(), Port: port}, Control: sharePort}
		server, err = d.Dial("udp", client.LocalAddr().String())
		return err
	})
	return client, server, err
}

// sharePort lets a server have several connections by one port.
func sharePort(_, _ string, c syscall.RawConn) error {
	var set error
	err := c.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
	return errors.Join(err, set)
}

// forDenied is how long a denied packet may take to arrive, long enough for a TCP
// retransmission. An allowed packet may take a minute.
const forDenied = 500 * time.Millisecond

// concurrentTests is how many tests run at a time. Most of their time is waiting for packets that must not arrive.
const concurrentTests = "12"

func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", concurrentTests); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// lives reports whether the connection carries data in both directions.
func (h held) lives() bool { return carries(h.client, h.server) && carries(h.server, h.client) }

// dead reports whether the connection carries no data, whichever end sends first.
func (h held) dead(first, second net.Conn) bool {
	return carriesNothing(first, second) && carriesNothing(second, first) && carriesNothing(first, second)
}

// concurrently runs a check for each item at once, so that their waits overlap.
func concurrently[T any](items []T, check func(i int, item T)) {
	var wg sync.WaitGroup
	for i, item := range items {
		wg.Go(func() { check(i, item) })
	}
	wg.Wait()
}

func carries(from, to net.Conn) bool { return carriesWithin(from, to, time.Minute) }

func carriesNothing(from, to net.Conn) bool { return !carriesWithin(from, to, forDenied) }

var serial atomic.Uint32

func carriesWithin(from, to net.Conn, d time.Duration) bool {
	word := binary.BigEndian.AppendUint32(nil, serial.Add(1))
	if _, err := from.Write(word); err != nil {
		return false
	}
	b := make([]byte, len(word))
	for {
		_ = to.SetReadDeadline(time.Now().Add(d))
		if _, err := io.ReadFull(to, b); err != nil {
			return false
		}
		if bytes.Equal(b, word) {
			return true
		}
	}
}
