package sctp

import (
	"errors"
	"net"
	"net/netip"
	"sync"
)

// SCTPListener takes the associations that clients make with a port.
type SCTPListener struct {
	port     uint16
	addr     *SCTPAddr
	seal     *seal
	sockets  []*socket
	accepted chan *SCTPConn
	stop     chan struct{} // closed by halt
	halt     func()
	close    sync.Once
	running  sync.WaitGroup // readers and associations

	mu    sync.Mutex
	conns map[path]*SCTPConn
}

// ListenSCTP listens on an address, or on all addresses of both families.
func ListenSCTP(network string, laddr *SCTPAddr) (*SCTPListener, error) {
	at, err := laddr.addrPort()
	if err == nil && at.Port() == 0 {
		err = errors.New("the port must be given")
	}
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: network, Addr: laddr, Err: err}
	}
	l := &SCTPListener{
		port: at.Port(), addr: laddr, seal: newSeal(),
		accepted: make(chan *SCTPConn, backlog), stop: make(chan struct{}), conns: map[path]*SCTPConn{},
	}
	l.halt = sync.OnceFunc(func() { close(l.stop) })
	if l.sockets, err = openSockets(at); err != nil {
		return nil, &net.OpError{Op: "listen", Net: network, Addr: laddr, Err: err}
	}
	for _, s := range l.sockets {
		l.running.Go(func() { l.serve(s) })
	}
	return l, nil
}

// AcceptSCTP waits for the next association.
func (l *SCTPListener) AcceptSCTP() (*SCTPConn, error) {
	select {
	case <-l.stop:
	default:
		select {
		case c := <-l.accepted:
			return c, nil
		case <-l.stop:
		}
	}
	return nil, &net.OpError{Op: "accept", Net: "sctp", Addr: l.addr, Err: net.ErrClosed}
}

// Accept is [SCTPListener.AcceptSCTP].
func (l *SCTPListener) Accept() (net.Conn, error) { return l.AcceptSCTP() }

// Addr is the address that the listener was given.
func (l *SCTPListener) Addr() net.Addr { return l.addr }

// Close ends the listener with all its associations.
func (l *SCTPListener) Close() error {
	var err error
	l.close.Do(func() {
		l.halt()
		l.mu.Lock()
		conns := make([]*SCTPConn, 0, len(l.conns))
		for _, c := range l.conns {
			conns = append(conns, c)
		}
		l.mu.Unlock()
		for _, c := range conns {
			<-c.ended // its ABORT is sent
		}
		for _, s := range l.sockets {
			err = errors.Join(err, s.close())
		}
		l.running.Wait()
	})
	return err
}

// serve takes the packets of a socket until it is closed. One that fails ends
// the listener.
func (l *SCTPListener) serve(s *socket) {
	defer l.halt()
	b := make([]byte, 1<<16)
	for {
		n, local, remote, err := s.read(b)
		if err != nil {
			return
		}
		p, err := parse(b[:n])
		if err != nil || p.destination != l.port || len(p.chunks) == 0 || !local.IsValid() {
			continue
		}
		at := path{netip.AddrPortFrom(local, p.destination), netip.AddrPortFrom(remote, p.source)}
		l.handle(at, p, s.sender(at))
	}
}

// handle gives a packet to its association, or answers it where there is none.
func (l *SCTPListener) handle(at path, p packet, send func(packet)) {
	switch p.chunks[0].kind {
	case kindInit:
		if answer, ok := l.seal.welcome(at, p); ok {
			send(answer)
		}
		return
	case kindCookieEcho:
		if c, err := l.seal.parse(p.chunks[0].body, at); err == nil && c.localTag == p.tag {
			l.admit(at, c, send)
		}
	}
	l.mu.Lock()
	c := l.conns[at]
	l.mu.Unlock()
	if c != nil {
		c.offer(p)
	} else if answer, ok := outOfTheBlue(p); ok {
		send(answer)
	}
}

// admit makes the association that a cookie is about, in place of one that the
// client has forgotten (RFC 9260, section 5.2.4). If too many wait to be accepted,
// the client is to try again.
func (l *SCTPListener) admit(at path, c cookie, send func(packet)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if old := l.conns[at]; old != nil && old.tag == c.localTag {
		return
	}
	conn := newConn(at, send)
	conn.tag = c.localTag
	select {
	case <-l.stop:
		return
	case l.accepted <- conn:
	default:
		return
	}
	l.conns[at] = conn
	l.running.Go(func() {
		conn.run(newServer(c, conn.deliver), l.stop)
		l.forget(at, conn)
	})
}

func (l *SCTPListener) forget(at path, c *SCTPConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conns[at] == c {
		delete(l.conns, at)
	}
}

// welcome answers an INIT with a cookie, and keeps nothing.
func (s *seal) welcome(at path, p packet) (packet, bool) {
	i, err := parseInitiation(p.chunks[0].body)
	if err != nil || p.tag != 0 || len(p.chunks) != 1 {
		return packet{}, false
	}
	c := cookie{localTag: newTag(), localTSN: newTag(), remoteTag: i.tag, remoteTSN: i.tsn}
	own := initiation{tag: c.localTag, tsn: c.localTSN, cookie: s.marshal(c, at)}
	return answerTo(p, i.tag, own.chunk(kindInitAck)), true
}

// outOfTheBlue answers a packet that no association has (RFC 9260, section 8.4).
func outOfTheBlue(p packet) (packet, bool) {
	switch p.chunks[0].kind {
	case kindAbort, kindShutdownComplete, kindCookieEcho, kindError:
		return packet{}, false
	case kindShutdownAck:
		return answerTo(p, p.tag, chunk{kind: kindShutdownComplete, flags: flagReflected}), true
	default:
		return answerTo(p, p.tag, chunk{kind: kindAbort, flags: flagReflected}), true
	}
}

func answerTo(p packet, tag uint32, c chunk) packet {
	return packet{source: p.destination, destination: p.source, tag: tag, chunks: []chunk{c}}
}
