//go:build netns

package revoke_test

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/test/netns"
)

// A client that has asked, and a server whose answers are still on their way, do not
// come together after all.
func TestAConnectionThatIsBeingOpenedIsCut(t *testing.T) {
	t.Parallel()
	forBackends(t, func(t *testing.T, l *netns.Lab, n *node) {
		n.commit(t, rules{}.program(), nil)
		s := host(l, "server")
		late := []string{"-p", "tcp", "--sport", "80", "-j", "DROP"}
		for _, tool := range []string{"iptables-nft", "ip6tables-nft"} {
			s.Run(t, tool, append([]string{"-A", "OUTPUT"}, late...)...)
		}
		ctx, cancel := context.WithCancel(t.Context())
		opened := make(chan error, 2)
		for family := range 2 {
			go func() {
				opened <- host(l, "client").Do(func() error {
					d := net.Dialer{LocalAddr: &net.TCPAddr{IP: client.Addrs[family].AsSlice()}}
					c, err := d.DialContext(ctx, "tcp", netip.AddrPortFrom(server.Addrs[family], 80).String())
					if err == nil {
						c.Close()
					}
					return err
				})
			}()
		}
		cut := 0
		for cut < 2 { // until both have asked
			for f := range trackedBy(t, n) {
				if f.DestinationPort == 80 {
					cut++
				}
			}
			if cut < 2 {
				cut = 0
			}
		}
		if r := n.commit(t, rules{ingress: only(server, other.Addrs)}.program(), nil); r.Cut[policy.TCP] != 2 {
			t.Errorf("cut: %+v", r)
		}
		for _, tool := range []string{"iptables-nft", "ip6tables-nft"} {
			s.Run(t, tool, append([]string{"-D", "OUTPUT"}, late...)...)
		}
		time.AfterFunc(4*time.Second, cancel) // both send again after 1 and 3 s
		for range 2 {
			if err := <-opened; !errors.Is(err, context.Canceled) && !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("the connection: %v", err)
			}
		}
	})
}

// wire sends and gets packets of SCTP, which the kernel has no sockets for.
type wire struct {
	net.PacketConn
	last atomic.Uint32 // the word of the last packet
}

func newWire(t *testing.T, h *netns.Host, family int) *wire {
	t.Helper()
	w := &wire{}
	if err := h.Do(func() (err error) {
		w.PacketConn, err = net.ListenPacket([2]string{"ip4:132", "ip6:132"}[family], h.Addrs[family].String())
		return err
	}); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for b := make([]byte, 1500); ; {
			n, _, err := w.ReadFrom(b)
			if err != nil {
				return
			}
			if n >= 16 {
				w.last.Store(binary.BigEndian.Uint32(b[n-4:]))
			}
		}
	}()
	t.Cleanup(func() { w.Close(); <-done })
	return w
}

// The chunks of RFC 9260, section 3.2, that matter here.
const (
	chunkData, chunkInit, chunkInitAck, chunkHeartbeat, chunkCookieEcho, chunkCookieAck = 0, 1, 2, 4, 10, 11
)

// passes reports whether a packet with one chunk arrives.
func (w *wire) passes(t *testing.T, to *wire, srcPort, dstPort uint16, chunk byte, within time.Duration) bool {
	t.Helper()
	word := serial.Add(1)
	b := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, srcPort), dstPort)
	tag := uint32(7)
	if chunk == chunkInit {
		tag = 0
	}
	b = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, tag), 0)
	b = append(b, chunk, 3, 0, 20) // a whole message, if it is data
	b = binary.BigEndian.AppendUint32(b, 7)
	b = append(b, 0, 0, 0, 1, 0, 1, 0, 1)
	b = binary.BigEndian.AppendUint32(b, word)
	binary.LittleEndian.PutUint32(b[8:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	if _, err := w.WriteTo(b, &net.IPAddr{IP: net.ParseIP(to.LocalAddr().String())}); err != nil {
		t.Error(err)
		return false
	}
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if to.last.Load() == word {
			return true
		}
	}
	return false
}

// association is an SCTP association between a client and a server.
type association struct{ client, server *wire }

const sctpClientPort, sctpServerPort = 40000, 7000

// asks reports whether a chunk of the client arrives at the server.
func (a association) asks(t *testing.T, chunk byte, within time.Duration) bool {
	return a.client.passes(t, a.server, sctpClientPort, sctpServerPort, chunk, within)
}

// answers reports whether a chunk of the server arrives at the client.
func (a association) answers(t *testing.T, chunk byte, within time.Duration) bool {
	return a.server.passes(t, a.client, sctpServerPort, sctpClientPort, chunk, within)
}

func TestAnSCTPAssociationIsCut(t *testing.T) {
	t.Parallel()
	for order, clientFirst := range map[string]bool{"the client speaks first": true, "the server speaks first": false} {
		t.Run(order, func(t *testing.T) {
			t.Parallel()
			forBackends(t, func(t *testing.T, l *netns.Lab, n *node) {
				n.commit(t, rules{}.program(), nil)
				var cut []association
				for family := range 2 {
					a := association{newWire(t, host(l, "client"), family), newWire(t, host(l, "server"), family)}
					if !a.asks(t, chunkInit, time.Minute) || !a.answers(t, chunkInitAck, time.Minute) ||
						!a.asks(t, chunkCookieEcho, time.Minute) || !a.answers(t, chunkCookieAck, time.Minute) ||
						!a.asks(t, chunkData, time.Minute) || !a.answers(t, chunkData, time.Minute) {
						t.Fatal("no association")
					}
					cut = append(cut, a)
				}
				if r := n.commit(t, rules{ingress: only(server, other.Addrs)}.program(), nil); r.Cut[policy.SCTP] != len(cut) {
					t.Errorf("cut: %+v", r)
				}
				concurrently(cut, func(_ int, a association) {
					first, second := a.asks, a.answers
					if !clientFirst {
						first, second = second, first
					}
					for _, chunk := range []byte{chunkData, chunkHeartbeat} {
						if first(t, chunk, forDenied) || second(t, chunk, forDenied) || first(t, chunk, forDenied) {
							t.Errorf("chunk %d passes", chunk)
						}
					}
					if !a.answers(t, chunkInit, time.Minute) {
						t.Error("the server cannot open an association of its own")
					}
				})
			})
		})
	}
}
