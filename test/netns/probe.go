package netns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/tierwall/tierwall/policy"
)

// Probe reports whether a flow from one host to another passes: a TCP connection
// with data both ways, a datagram and its answer, an echo and its reply, or an SCTP
// INIT that arrives. It gives up when the context ends.
func (l *Lab) Probe(ctx context.Context, f policy.Flow) (bool, error) {
	from, to := l.ByAddr(f.Source), l.ByAddr(f.Destination)
	if from == nil {
		return false, fmt.Errorf("no host has the address %s", f.Source)
	}
	var passed bool
	err := from.Do(func() (err error) {
		switch f.Protocol {
		case policy.TCP, policy.UDP:
			passed, err = exchange(ctx, f)
		case policy.SCTP:
			passed, err = initiate(ctx, f, to)
		case policy.ICMP, policy.ICMPv6:
			passed, err = echo(ctx, f)
		default:
			err = fmt.Errorf("no probe for protocol %s", f.Protocol)
		}
		return err
	})
	return passed, err
}

// serial numbers probes, so that none is taken for another.
var serial atomic.Uint32

// exchange sends a word and waits for it to come back. Datagrams are sent again
// until then: one alone may be lost to address resolution.
func exchange(ctx context.Context, f policy.Flow) (bool, error) {
	d := net.Dialer{}
	to := netip.AddrPortFrom(f.Destination, f.DestinationPort).String()
	network := "udp"
	d.LocalAddr = &net.UDPAddr{IP: f.Source.AsSlice()}
	if f.Protocol == policy.TCP {
		network, d.LocalAddr = "tcp", &net.TCPAddr{IP: f.Source.AsSlice()}
	}
	c, err := d.DialContext(ctx, network, to)
	if err != nil {
		return false, ended(ctx, err)
	}
	defer c.Close()
	if network == "tcp" {
		_ = c.(*net.TCPConn).SetLinger(0) // no TIME_WAIT, which would use up ports
	}
	return answered(ctx, c, network == "udp")
}

func answered(ctx context.Context, c net.Conn, again bool) (bool, error) {
	word := binary.BigEndian.AppendUint32(nil, serial.Add(1))
	got := make([]byte, len(word))
	for ctx.Err() == nil {
		if _, err := c.Write(word); err != nil {
			return false, ended(ctx, err)
		}
		deadline, _ := ctx.Deadline()
		if soon := time.Now().Add(100 * time.Millisecond); again && soon.Before(deadline) {
			deadline = soon
		}
		if err := c.SetReadDeadline(deadline); err != nil {
			return false, err
		}
		if _, err := io.ReadFull(c, got); err == nil {
			return string(got) == string(word), nil
		} else if !again {
			return false, ended(ctx, err)
		}
	}
	return false, nil
}

// ended is nil for the errors of a flow that does not pass.
func ended(ctx context.Context, err error) error {
	var timeout net.Error
	if ctx.Err() != nil || errors.As(err, &timeout) && timeout.Timeout() {
		return nil
	}
	if errors.Is(err, syscall.ETIMEDOUT) {
		return nil
	}
	return err
}

// initiate sends an SCTP INIT (RFC 9260, section 3.3.2) until it arrives.
func initiate(ctx context.Context, f policy.Flow, to *Host) (bool, error) {
	c, err := net.ListenPacket(raw(f.Source, "132", "132"), f.Source.String())
	if err != nil {
		return false, err
	}
	defer c.Close()
	tag := serial.Add(1)
	for ctx.Err() == nil {
		if _, err := c.WriteTo(sctpInit(f, tag), &net.IPAddr{IP: f.Destination.AsSlice()}); err != nil {
			return false, ended(ctx, err)
		}
		again, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		came := to.wait(again, tag)
		cancel()
		if came {
			return true, nil
		}
	}
	return false, nil
}

// raw is the network of raw sockets of a protocol.
func raw(a netip.Addr, four, six string) string {
	if a.Is6() {
		return "ip6:" + six
	}
	return "ip4:" + four
}

const sctpHeader = 12

func sctpInit(f policy.Flow, tag uint32) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(10000+tag%50000))
	b = binary.BigEndian.AppendUint16(b, f.DestinationPort)
	b = append(b, 0, 0, 0, 0) // verification tag
	b = append(b, 0, 0, 0, 0) // checksum
	b = append(b, 1, 0, 0, 20)
	b = binary.BigEndian.AppendUint32(b, tag)
	b = binary.BigEndian.AppendUint32(b, 1<<16)
	b = append(b, 0, 1, 0, 1)
	b = binary.BigEndian.AppendUint32(b, tag)
	binary.LittleEndian.PutUint32(b[8:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	return b
}

// sctpTag is the initiate tag of an INIT.
func sctpTag(b []byte) (uint32, bool) {
	if len(b) < sctpHeader+8 || b[sctpHeader] != 1 {
		return 0, false
	}
	return binary.BigEndian.Uint32(b[sctpHeader+4:]), true
}

// echo sends echo requests until one is replied to.
func echo(ctx context.Context, f policy.Flow) (bool, error) {
	c, err := net.ListenPacket(raw(f.Source, "1", "58"), f.Source.String())
	if err != nil {
		return false, err
	}
	defer c.Close()
	request, reply := byte(8), byte(0)
	if f.Source.Is6() {
		request, reply = 128, 129
	}
	id := uint16(serial.Add(1))
	message := []byte{request, 0, 0, 0, byte(id >> 8), byte(id), 0, 1}
	if f.Source.Is4() { // of ICMPv6 the kernel fills it in
		binary.BigEndian.PutUint16(message[2:], checksum(message))
	}
	for ctx.Err() == nil {
		if _, err := c.WriteTo(message, &net.IPAddr{IP: f.Destination.AsSlice()}); err != nil {
			return false, ended(ctx, err)
		}
		if replied(c, reply, id, f.Destination) {
			return true, nil
		}
	}
	return false, nil
}

// checksum is the Internet checksum (RFC 1071).
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

// replied reads for a moment.
func replied(c net.PacketConn, kind byte, id uint16, from netip.Addr) bool {
	b := make([]byte, 512)
	_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	for {
		n, peer, err := c.ReadFrom(b)
		if err != nil {
			return false
		}
		a, _ := netip.AddrFromSlice(peer.(*net.IPAddr).IP)
		if n >= 8 && b[0] == kind && binary.BigEndian.Uint16(b[4:]) == id && a.Unmap() == from {
			return true
		}
	}
}
