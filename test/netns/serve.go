package netns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// arrivals are the probes that came by SCTP and UDP, by their tags. The kernel has no
// SCTP sockets, so that arriving is all that can be seen of those.
type arrivals struct {
	mu   sync.Mutex
	seen map[uint32]chan struct{}
}

// came is closed once a probe with the tag has come.
func (a *arrivals) came(tag uint32) chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.seen == nil {
		a.seen = map[uint32]chan struct{}{}
	}
	if a.seen[tag] == nil {
		a.seen[tag] = make(chan struct{})
	}
	return a.seen[tag]
}

func (a *arrivals) note(tag uint32) {
	ch := a.came(tag)
	a.mu.Lock()
	defer a.mu.Unlock()
	select {
	case <-ch:
	default:
		close(ch)
	}
}

// serve answers on Ports until the test ends, and notes what comes by SCTP and UDP.
func (h *Host) serve(t testing.TB) {
	t.Helper()
	var wait sync.WaitGroup
	var open []io.Closer
	t.Cleanup(func() {
		for _, c := range open {
			c.Close()
		}
		wait.Wait()
	})
	err := h.Do(func() error {
		for _, port := range Ports {
			l, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
			if err != nil {
				return err
			}
			p, err := net.ListenPacket("udp", fmt.Sprintf(":%d", port))
			if err != nil {
				return err
			}
			if err := replyFromSameAddress(p.(*net.UDPConn)); err != nil {
				return err
			}
			open = append(open, l, p)
			wait.Go(func() { acceptAll(l) })
			wait.Go(func() { h.echoAll(p.(*net.UDPConn)) })
		}
		for _, network := range []string{"ip4:132", "ip6:132"} {
			raw, err := net.ListenPacket(network, "")
			if err != nil {
				return err
			}
			open = append(open, raw)
			wait.Go(func() { h.noteAll(raw) })
		}
		return nil
	})
	if err != nil {
		t.Fatalf("serving on %s: %v", h.Name, err)
	}
}

// acceptAll echoes what comes by TCP connections.
func acceptAll(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() { // ends with its connection
			defer c.Close()
			_, _ = io.Copy(c, c)
		}()
	}
}

// replyFromSameAddress asks for the address that a datagram was sent to.
func replyFromSameAddress(c *net.UDPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) {
		set = errors.Join(unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1),
			unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1))
	})
	return errors.Join(err, set)
}

// echoAll answers datagrams, from the address that they were sent to, and notes their tags.
func (h *Host) echoAll(c *net.UDPConn) {
	b, control := make([]byte, 2048), make([]byte, 512)
	for {
		n, m, _, from, err := c.ReadMsgUDPAddrPort(b, control)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue
		}
		if n == 4 {
			h.note(binary.BigEndian.Uint32(b))
		}
		_, _, _ = c.WriteMsgUDPAddrPort(b[:n], source(control[:m]), from)
	}
}

// source is control data that has a datagram sent from the address that
// another came to.
func source(control []byte) []byte {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return nil
	}
	for _, m := range messages {
		if m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_PKTINFO {
			var info unix.Inet6Pktinfo
			copy(info.Addr[:], m.Data)
			return unix.PktInfo6(&info)
		}
	}
	return nil
}

// noteAll notes the tags of SCTP packets.
func (h *Host) noteAll(raw net.PacketConn) {
	b := make([]byte, 2048)
	for {
		n, _, err := raw.ReadFrom(b)
		if err != nil {
			return
		}
		if tag, ok := sctpTag(b[:n]); ok {
			h.note(tag)
		}
	}
}

// wait reports whether a probe came before the context ended.
func (a *arrivals) wait(ctx context.Context, tag uint32) bool {
	select {
	case <-a.came(tag):
		return true
	case <-ctx.Done():
		return false
	}
}
