package sctp

import "syscall"

type state int

const (
	cookieWait state = iota
	cookieEchoed
	established
	shutdownSent
	shutdownAckSent
	closed
)

// An association is one side of an SCTP association, as a state machine without
// sockets and clocks: what comes in goes to receive, and what comes out is to
// be sent. Whoever owns it calls tick at a fixed interval.
type association struct {
	state               state
	localTag, remoteTag uint32
	nextTSN             uint32 // of the next message that is sent
	lastTSN             uint32 // of the last message that was received
	sequence            uint16
	unacknowledged      []message
	cookie              []byte // of a client
	owed                bool   // an acknowledgement
	closing             bool   // this side has nothing more to send
	peerClosing         bool   // nor has the other
	silent              int    // ticks since something came
	// deliver takes a message that was received. If it does not, the message
	// will come again.
	deliver func([]byte) bool
	err     error // why it is closed; nil after an orderly end
}

// Ticks without anything from the other side after which it is taken for dead:
// while it owes an answer, and otherwise.
const (
	patience = 10
	idle     = 120
)

// newClient is an association whose handshake begins with what is outstanding.
func newClient(deliver func([]byte) bool) *association {
	return &association{localTag: newTag(), nextTSN: newTag(), deliver: deliver}
}

// newServer is the association that a client's cookie is about.
func newServer(c cookie, deliver func([]byte) bool) *association {
	return &association{
		state:    established,
		localTag: c.localTag, remoteTag: c.remoteTag,
		nextTSN: c.localTSN, lastTSN: c.remoteTSN - 1,
		deliver: deliver,
	}
}

// accepts reports whether the packet is of this association (RFC 9260, section 8.5).
func (a *association) accepts(p packet) bool {
	if len(p.chunks) == 0 {
		return false
	}
	c := p.chunks[0]
	if c.flags&flagReflected != 0 && (c.kind == kindAbort || c.kind == kindShutdownComplete) {
		return p.tag == a.remoteTag && a.remoteTag != 0
	}
	return p.tag == a.localTag
}

// receive takes a packet, and says what to answer. Chunks that cannot be read
// or have no place in this state are ignored.
func (a *association) receive(p packet) []chunk {
	if !a.accepts(p) {
		return nil
	}
	a.silent = 0
	var answer []chunk
	for _, c := range p.chunks {
		if a.state == closed {
			break
		}
		answer = append(answer, a.receiveChunk(c)...)
	}
	return answer
}

func (a *association) receiveChunk(c chunk) []chunk {
	switch c.kind {
	case kindInitAck:
		return a.receiveInitAck(c)
	case kindCookieEcho: // the answer to the first one was lost
		if a.state >= established {
			return []chunk{{kind: kindCookieAck}}
		}
	case kindCookieAck:
		if a.state == cookieEchoed {
			a.state = established
			return a.outstanding()
		}
	case kindData:
		return a.receiveData(c)
	case kindSack:
		return a.receiveAcknowledgement(c)
	case kindHeartbeat:
		return []chunk{{kind: kindHeartbeatAck, body: c.body}}
	case kindShutdown:
		if a.state >= established {
			a.peerClosing = true
			return a.receiveAcknowledgement(c)
		}
	case kindShutdownAck:
		if a.state == shutdownSent || a.state == shutdownAckSent {
			a.end(nil)
			return []chunk{{kind: kindShutdownComplete}}
		}
	case kindShutdownComplete:
		if a.state == shutdownAckSent {
			a.end(nil)
		}
	case kindAbort:
		a.end(a.refusal())
	case kindError:
		if a.state == cookieEchoed {
			a.end(syscall.ECONNREFUSED)
		}
	}
	return nil
}

func (a *association) receiveInitAck(c chunk) []chunk {
	if a.state != cookieWait {
		return nil
	}
	i, err := parseInitiation(c.body)
	if err != nil || i.cookie == nil {
		return nil
	}
	a.state = cookieEchoed
	a.remoteTag, a.lastTSN, a.cookie = i.tag, i.tsn-1, i.cookie
	return a.outstanding()
}

// receiveData takes a message if it is the next one. That is acknowledged when
// it is read, or by the next tick at the latest (RFC 9260, section 6.2): a peer
// that has got an acknowledgement may shut down, and whoever has made an
// association to ask something must get to ask it.
func (a *association) receiveData(c chunk) []chunk {
	if a.state != established && a.state != shutdownSent {
		return nil
	}
	m, err := parseMessage(c)
	if err != nil {
		return a.abort(syscall.EPROTO)
	}
	fresh := m.tsn == a.lastTSN+1 && a.deliver(m.data)
	if fresh {
		a.lastTSN++
	}
	a.owed = true
	if fresh && !a.closing {
		return nil
	}
	return a.acknowledge()
}

// acknowledge says what the last message was, if the other side is owed that. In
// the state SHUTDOWN-SENT it says so with another SHUTDOWN.
func (a *association) acknowledge() []chunk {
	if !a.owed {
		return nil
	}
	a.owed = false
	switch a.state {
	case established:
		return []chunk{sack(a.lastTSN)}
	case shutdownSent:
		return []chunk{shutdown(a.lastTSN)}
	}
	return nil
}

// receiveAcknowledgement forgets what the other side has.
func (a *association) receiveAcknowledgement(c chunk) []chunk {
	tsn, err := acknowledged(c)
	if err != nil || !before(tsn, a.nextTSN) {
		return nil
	}
	for len(a.unacknowledged) > 0 && !before(tsn, a.unacknowledged[0].tsn) {
		a.unacknowledged = a.unacknowledged[1:]
	}
	return a.shutDown()
}

// write sends a message.
func (a *association) write(data []byte) []chunk {
	m := message{tsn: a.nextTSN, sequence: a.sequence, data: data}
	a.nextTSN++
	a.sequence++
	a.unacknowledged = append(a.unacknowledged, m)
	if a.state != established {
		return nil
	}
	return []chunk{m.chunk()}
}

// close ends the association when everything is acknowledged.
func (a *association) close() []chunk {
	a.closing = true
	if a.state < established {
		return a.abort(syscall.ECONNABORTED)
	}
	return append(a.acknowledge(), a.shutDown()...)
}

// shutDown takes the next step to an orderly end (RFC 9260, section 9.2).
func (a *association) shutDown() []chunk {
	switch {
	case len(a.unacknowledged) > 0 || a.state < established || a.state == closed:
		return nil
	case a.peerClosing:
		a.state = shutdownAckSent
		return []chunk{{kind: kindShutdownAck}}
	case a.closing && a.state == established:
		a.state = shutdownSent
		return []chunk{shutdown(a.lastTSN)}
	}
	return nil
}

// tick sends again what has no answer yet, and gives up after a while.
func (a *association) tick() []chunk {
	again := a.outstanding()
	limit := idle
	if a.state >= established && len(again) > 0 {
		limit = patience
	}
	a.silent++
	if a.silent > limit {
		return a.abort(syscall.ETIMEDOUT)
	}
	return append(a.acknowledge(), again...)
}

// outstanding is what the other side has not answered.
func (a *association) outstanding() []chunk {
	switch a.state {
	case cookieWait:
		return []chunk{initiation{tag: a.localTag, tsn: a.nextTSN}.chunk(kindInit)}
	case cookieEchoed:
		return []chunk{{kind: kindCookieEcho, body: a.cookie}}
	case established:
		if len(a.unacknowledged) > 0 { // one at a time, in order
			return []chunk{a.unacknowledged[0].chunk()}
		}
	case shutdownSent:
		return []chunk{shutdown(a.lastTSN)}
	case shutdownAckSent:
		return []chunk{{kind: kindShutdownAck}}
	}
	return nil
}

// abort ends the association at once, and tells the other side.
func (a *association) abort(err error) []chunk {
	known := a.remoteTag != 0 && a.state != closed
	a.end(err)
	if !known {
		return nil
	}
	return []chunk{{kind: kindAbort}}
}

func (a *association) end(err error) {
	if a.state != closed {
		a.state, a.err = closed, err
	}
}

// refusal is what an ABORT means.
func (a *association) refusal() error {
	if a.state < established {
		return syscall.ECONNREFUSED
	}
	return syscall.ECONNRESET
}
