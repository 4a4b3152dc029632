package sctp

import (
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

const (
	// interval is how long an answer may take before something is sent again.
	interval = 500 * time.Millisecond
	// backlog is how many packets, messages or associations wait to be taken.
	backlog = 64
)

// SCTPConn is one side of an association.
type SCTPConn struct {
	path    path
	tag     uint32 // of a server: which of the associations of this path
	send    func(packet)
	packets chan packet   // from the socket
	writes  chan []byte   // from Write
	inbox   chan []byte   // to Read; closed after the last message
	read    chan struct{} // holds a token after a Read
	ready   chan struct{} // closed when the association is established, or has ended
	closing chan struct{} // closed by Close
	ended   chan struct{} // closed when the association has ended
	err     error         // why, once it has

	close   sync.Once
	reading sync.Mutex
	rest    []byte // of a message that was read in part
}

func newConn(p path, send func(packet)) *SCTPConn {
	return &SCTPConn{
		path: p, send: send,
		packets: make(chan packet, backlog), writes: make(chan []byte), inbox: make(chan []byte, backlog),
		read: make(chan struct{}, 1), ready: make(chan struct{}), closing: make(chan struct{}), ended: make(chan struct{}),
	}
}

// deliver puts a message into the inbox, unless it is full.
func (c *SCTPConn) deliver(data []byte) bool {
	select {
	case c.inbox <- data:
		return true
	default:
		return false
	}
}

// offer gives a packet to the association, which loses it if it is busy.
func (c *SCTPConn) offer(p packet) {
	select {
	case c.packets <- p:
	default:
	}
}

// run keeps the association until it has ended, or stop is closed.
func (c *SCTPConn) run(a *association, stop <-chan struct{}) {
	clock := time.NewTicker(interval)
	defer clock.Stop()
	closing, ready := c.closing, c.ready
	c.emit(a, a.outstanding())
	for a.state != closed {
		if a.state >= established && ready != nil {
			close(ready)
			ready = nil
		}
		select {
		case p := <-c.packets:
			c.emit(a, a.receive(p))
		case data := <-c.writable(a):
			c.emit(a, a.write(data))
		case <-c.read:
			c.emit(a, a.acknowledge())
		case <-closing:
			closing = nil
			c.emit(a, a.close())
		case <-clock.C:
			c.emit(a, a.tick())
		case <-stop:
			c.emit(a, a.abort(net.ErrClosed))
		}
	}
	c.err = a.err
	close(c.inbox)
	close(c.ended) // before ready, which alone means success
	if ready != nil {
		close(ready)
	}
}

// writable is where messages come from while the association takes some.
func (c *SCTPConn) writable(a *association) <-chan []byte {
	if a.state != established || a.closing || a.peerClosing || len(a.unacknowledged) >= backlog {
		return nil
	}
	return c.writes
}

// emit sends chunks, each in a packet of its own.
func (c *SCTPConn) emit(a *association, chunks []chunk) {
	for _, one := range chunks {
		c.send(packet{
			source: c.path.local.Port(), destination: c.path.remote.Port(),
			tag: a.remoteTag, chunks: []chunk{one},
		})
	}
}

// Read reads from one message, of which the rest is for the next Read. After
// the last it returns [io.EOF], or why the association has ended.
func (c *SCTPConn) Read(b []byte) (int, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	if len(c.rest) == 0 {
		data, ok := <-c.inbox
		if !ok {
			<-c.ended
			return 0, orElse(c.err, io.EOF)
		}
		c.rest = data
		select {
		case c.read <- struct{}{}:
		default: // a token is there
		}
	}
	n := copy(b, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// Write sends one message of at most 1,024 bytes.
func (c *SCTPConn) Write(b []byte) (int, error) {
	if len(b) == 0 || len(b) > maxMessage {
		return 0, syscall.EMSGSIZE
	}
	select {
	case <-c.closing:
		return 0, net.ErrClosed
	default:
	}
	select {
	case c.writes <- append([]byte(nil), b...):
		return len(b), nil
	case <-c.closing:
		return 0, net.ErrClosed
	case <-c.ended:
		return 0, orElse(c.err, syscall.EPIPE)
	}
}

// Close ends the association in an orderly way, and waits until it has ended
// or the other side is taken for dead.
func (c *SCTPConn) Close() error {
	c.close.Do(func() { close(c.closing) })
	<-c.ended
	return nil
}

// SCTPRemoteAddr is the address of the other side. The id must be 0.
func (c *SCTPConn) SCTPRemoteAddr(id int) (*SCTPAddr, error) {
	if id != 0 {
		return nil, syscall.EINVAL
	}
	return sctpAddr(c.path.remote), nil
}

// LocalAddr is the address of this side.
func (c *SCTPConn) LocalAddr() net.Addr { return sctpAddr(c.path.local) }

// RemoteAddr is the address of the other side.
func (c *SCTPConn) RemoteAddr() net.Addr { return sctpAddr(c.path.remote) }

// SetDeadline is not supported.
func (c *SCTPConn) SetDeadline(time.Time) error { return syscall.EOPNOTSUPP }

// SetReadDeadline is not supported.
func (c *SCTPConn) SetReadDeadline(time.Time) error { return syscall.EOPNOTSUPP }

// SetWriteDeadline is not supported.
func (c *SCTPConn) SetWriteDeadline(time.Time) error { return syscall.EOPNOTSUPP }

func orElse(err, otherwise error) error {
	if err == nil {
		return otherwise
	}
	return err
}
