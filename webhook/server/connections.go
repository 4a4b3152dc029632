package server

import (
	"net"
	"net/netip"
	"sync"

	"github.com/tierwall/tierwall/webhook/peer"
)

// maxConnections bounds the open connections. Each API server needs a few.
const maxConnections = 256

// fairListener bounds the open connections, and shares them among the peers' addresses. A peer that opens too many
// loses its own connections, not those of an API server.
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

// Accept waits for a connection. At the limit, it closes the oldest connection of the peer with the most.
func (l *fairListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &fairConn{Conn: conn, listener: l, peer: peer.NetworkOf(conn.RemoteAddr().String())}
	if victim := l.addConn(c); victim != nil {
		_ = victim.Close() // its peer notices
	}
	return c, nil
}

// addConn adds a connection. It returns the connection to close, or nil.
func (l *fairListener) addConn(c *fairConn) *fairConn {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.byPeer[c.peer] = append(l.byPeer[c.peer], c)
	if l.total++; l.total <= l.limit {
		return nil
	}
	most := c.peer // at equal counts, the peer loses its own connection
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
