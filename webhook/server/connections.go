package server

import (
	"net"
	"net/netip"
	"sync"

	"github.com/tierwall/tierwall/webhook/peer"
)

// maxConnections are open at a time. Each API server needs a few.
const maxConnections = 256

// fairListener bounds the connections that are open at a time, and shares them among the peers' addresses. A peer that
// opens connections without end loses its own, and takes none from an API server.
type fairListener struct {
	net.Listener
	limit int

	mu     sync.Mutex
	total  int
	byPeer map[netip.Prefix][]*fairConn // oldest first
}

func newFairListener(l net.Listener, limit int) *fairListener {
	return &fairListener{Listener: l, limit: limit, byPeer: map[netip.Prefix][]*fairConn{}}
}

// Accept waits for a connection. At the limit it closes the oldest one of the peer that has most.
func (l *fairListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &fairConn{Conn: conn, listener: l, peer: peer.NetworkOf(conn.RemoteAddr().String())}
	if victim := l.addConn(c); victim != nil {
		_ = victim.Close() // its peer sees the end
	}
	return c, nil
}

// addConn returns the connection that has to make room, or nil.
func (l *fairListener) addConn(c *fairConn) *fairConn {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.byPeer[c.peer] = append(l.byPeer[c.peer], c)
	if l.total++; l.total <= l.limit {
		return nil
	}
	most := c.peer // a peer that has as many as any other replaces its own
	for peer, conns := range l.byPeer {
		if len(conns) > len(l.byPeer[most]) {
			most = peer
		}
	}
	return l.byPeer[most][0]
}

func (l *fairListener) removeConn(c *fairConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, other := range l.byPeer[c.peer] {
		if other != c {
			continue
		}
		l.byPeer[c.peer] = append(l.byPeer[c.peer][:i:i], l.byPeer[c.peer][i+1:]...)
		l.total--
		break
	}
	if len(l.byPeer[c.peer]) == 0 {
		delete(l.byPeer, c.peer)
	}
}

// fairConn is a connection that a fairListener counts.
type fairConn struct {
	net.Conn
	listener *fairListener
	peer     netip.Prefix
	once     sync.Once
}

func (c *fairConn) Close() error {
	c.once.Do(func() { c.listener.removeConn(c) })
	return c.Conn.Close()
}
