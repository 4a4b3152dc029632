//go:build netns

package netns

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// sniffer sees every packet that arrives at eth0 of a host, whatever its protocol.
type sniffer struct {
	fd   int
	seen [][]byte
}

// sniff opens a sniffer that closes with the test.
func (h *Host) sniff(t *testing.T) *sniffer {
	t.Helper()
	s := &sniffer{}
	if err := h.Do(func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return err
		}
		s.fd = fd
		eth0, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		all := uint16(unix.ETH_P_ALL)
		return errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 1<<22),
			unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all<<8 | all>>8, Ifindex: eth0.Index}))
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(s.fd) })
	return s
}

// saw reports whether a packet with these bytes in it has arrived.
func (s *sniffer) saw(marker []byte) bool {
	buffer := make([]byte, 1<<16)
	for {
		n, from, err := unix.Recvfrom(s.fd, buffer, 0)
		if err != nil {
			break
		}
		if l, ok := from.(*unix.SockaddrLinklayer); ok && l.Pkttype != unix.PACKET_OUTGOING {
			s.seen = append(s.seen, bytes.Clone(buffer[:n]))
		}
	}
	if len(s.seen) > 4096 {
		s.seen = s.seen[len(s.seen)-4096:]
	}
	return slices.ContainsFunc(s.seen, func(b []byte) bool { return bytes.Contains(b, marker) })
}

// marker is what tells the packets of one attempt from all others.
func marker() []byte {
	return binary.BigEndian.AppendUint32([]byte("tierwall"), serial.Add(1))
}

// hardwareAddress is that of an interface of the host.
func (h *Host) hardwareAddress(t *testing.T, link string) net.HardwareAddr {
	t.Helper()
	_, rest, _ := strings.Cut(h.Run(t, "ip", "-oneline", "link", "show", "dev", link), "link/ether ")
	mac, err := net.ParseMAC(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return mac
}

// gateway is the node's interface that a pod or the machine elsewhere sends to.
func (l *Lab) gateway(t *testing.T, from *Host) net.HardwareAddr {
	t.Helper()
	if from.Node == nil {
		return l.Nodes["node"].hardwareAddress(t, "eth0")
	}
	return from.Node.hardwareAddress(t, l.linkOf(t, from.Addrs[0]))
}

// crosses reports whether packets that a host sends by way of the node arrive elsewhere.
func (l *Lab) crosses(t *testing.T, from *Host, to *sniffer, packets func(marker []byte) [][]byte, patience time.Duration) bool {
	t.Helper()
	gateway := l.gateway(t, from)
	mark := marker()
	return within(patience, func() bool {
		for _, p := range packets(mark) {
			if err := from.Do(func() error { return transmit(p, gateway) }); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(30 * time.Millisecond)
		return to.saw(mark)
	})
}
