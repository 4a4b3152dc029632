//go:build netns

package change

import (
	"encoding/binary"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"
)

// patience is longer than a datagram that arrives takes until it is noted.
const patience = 100 * time.Millisecond

// probe sends a datagram every millisecond, and knows which arrived. Nobody answers, so that each is
// judged as the first of its flow.
type probe struct {
	mu      sync.Mutex
	sent    []time.Time // by sequence number
	arrived []bool
	stop    chan struct{}
	ended   sync.WaitGroup
}

// watch probes a port of the server until the benchmark ends it.
func (n *node) watch(b *testing.B, port uint16) *probe {
	p := &probe{stop: make(chan struct{})}
	to := netip.AddrPortFrom(podAddr(1), port)
	server, client := n.socket(b, true, to), n.socket(b, false, to)
	p.ended.Go(func() { p.receive(server) })
	p.ended.Go(func() {
		p.send(client)
		client.Close()
		server.Close()
	})
	return p
}

func (n *node) socket(b *testing.B, listen bool, to netip.AddrPort) (conn *net.UDPConn) {
	var err error
	if listen {
		err = n.to.Do(func() (err error) {
			conn, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(to))
			return err
		})
	} else {
		err = n.from.Do(func() (err error) {
			conn, err = net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(to))
			return err
		})
	}
	if err != nil {
		b.Fatal(err)
	}
	return conn
}

func (p *probe) send(conn *net.UDPConn) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for n := uint32(0); ; n++ {
		select {
		case <-p.stop:
			return
		case <-tick.C:
		}
		p.mu.Lock()
		p.sent, p.arrived = append(p.sent, time.Now()), append(p.arrived, false)
		p.mu.Unlock()
		_, _ = conn.Write(binary.BigEndian.AppendUint32(nil, n)) // what a rule rejects is an error of a later one
	}
}

func (p *probe) receive(conn *net.UDPConn) {
	word := make([]byte, 4)
	for {
		if _, err := conn.Read(word); err != nil {
			return // closed
		}
		p.mu.Lock()
		p.arrived[binary.BigEndian.Uint32(word)] = true
		p.mu.Unlock()
	}
}

// first is when the first datagram after a moment was sent that met the verdict, once it is sure which did.
func (p *probe) first(after time.Time, arrives bool) (time.Time, bool) {
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if at, ok := p.look(after, arrives, time.Now().Add(-patience)); ok {
			return at, true
		}
	}
	return time.Time{}, false
}

// look looks at what was sent before a moment: it has arrived, or never will.
func (p *probe) look(after time.Time, arrives bool, before time.Time) (time.Time, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	from, _ := slices.BinarySearchFunc(p.sent, after, time.Time.Compare)
	for i := from; i < len(p.sent) && p.sent[i].Before(before); i++ {
		if p.arrived[i] == arrives {
			return p.sent[i], true
		}
	}
	return time.Time{}, false
}

// end ends the probe.
func (p *probe) end() {
	close(p.stop)
	p.ended.Wait()
}
