package sctp

import (
	"errors"
	"net/netip"
	"slices"
	"syscall"
	"testing"
)

var testPath = path{netip.MustParseAddrPort("192.0.2.1:9003"), netip.MustParseAddrPort("192.0.2.2:40000")}

// A talk is a client and a server, between which packets can be lost.
type talk struct {
	client, server *association
	seal           *seal
	atClient       []string
	atServer       []string
	wire           int           // packets so far
	lost           map[int]bool  // which of them do not arrive
	sent           map[kind]bool // what the wire has seen
}

func newTalk(lost ...int) *talk {
	t := &talk{seal: newSeal(), lost: map[int]bool{}, sent: map[kind]bool{}}
	for _, n := range lost {
		t.lost[n] = true
	}
	t.client = newClient(keep(&t.atClient))
	return t
}

func keep(messages *[]string) func([]byte) bool {
	return func(b []byte) bool {
		*messages = append(*messages, string(b))
		return true
	}
}

// toServer carries chunks to the server, and what it answers back, and so on.
func (t *talk) toServer(chunks []chunk) {
	for _, c := range chunks {
		p, arrives := t.carry(t.client.remoteTag, c)
		if !arrives {
			continue
		}
		switch {
		case c.kind == kindInit:
			if answer, ok := t.seal.welcome(testPath, p); ok {
				t.toClientAs(answer.tag, answer.chunks)
			}
			continue
		case c.kind == kindCookieEcho && t.server == nil:
			if known, err := t.seal.parse(c.body, testPath); err == nil {
				t.server = newServer(known, keep(&t.atServer))
			}
		}
		if t.server != nil {
			t.toClientAs(t.server.remoteTag, t.server.receive(p))
		}
	}
}

func (t *talk) toClientAs(tag uint32, chunks []chunk) {
	for _, c := range chunks {
		if p, arrives := t.carry(tag, c); arrives {
			t.toServer(t.client.receive(p))
		}
	}
}

func (t *talk) carry(tag uint32, c chunk) (packet, bool) {
	t.wire++
	t.sent[c.kind] = true
	p, err := parse(packet{source: 1, destination: 2, tag: tag, chunks: []chunk{c}}.marshal())
	return p, err == nil && !t.lost[t.wire]
}

// until lets time pass until something is so.
func (t *talk) until(is func() bool) bool {
	for range 4 * patience {
		if is() {
			return true
		}
		t.toServer(t.client.tick())
		if t.server != nil {
			t.toClientAs(t.server.remoteTag, t.server.tick())
		}
	}
	return is()
}

// whole is a client that says hostname, and a server that answers with its name
// and closes.
func (t *talk) whole(tt *testing.T) {
	tt.Helper()
	t.toServer(t.client.outstanding())
	if !t.until(func() bool { return t.server != nil && t.client.state == established }) {
		tt.Fatalf("no association: client %+v, server %+v", t.client, t.server)
	}
	t.toServer(t.client.write([]byte("hostname")))
	if !t.until(func() bool { return len(t.atServer) > 0 }) {
		tt.Fatal("the server got nothing")
	}
	t.toClientAs(t.server.remoteTag, t.server.write([]byte("node-1")))
	t.toClientAs(t.server.remoteTag, t.server.close())
	t.toServer(t.client.close())
	t.until(func() bool { return t.client.state == closed && t.server.state == closed })
	if !slices.Equal(t.atServer, []string{"hostname"}) || !slices.Equal(t.atClient, []string{"node-1"}) {
		tt.Errorf("the server got %q, the client %q", t.atServer, t.atClient)
	}
	if t.client.state != closed || t.server.state != closed {
		tt.Errorf("not at an end: client %+v, server %+v", t.client, t.server)
	}
}

func TestWholeConversation(t *testing.T) {
	talk := newTalk()
	talk.whole(t)
	if talk.client.err != nil || talk.server.err != nil {
		t.Errorf("errors %v, %v", talk.client.err, talk.server.err)
	}
	for _, k := range []kind{kindInit, kindInitAck, kindCookieEcho, kindCookieAck, kindData, kindSack,
		kindShutdown, kindShutdownAck, kindShutdownComplete} {
		if !talk.sent[k] {
			t.Errorf("no chunk of kind %d was sent", k)
		}
	}
	if talk.sent[kindAbort] {
		t.Error("an ABORT was sent")
	}
}

// Whichever two packets are lost, what was said arrives once.
func TestLostPackets(t *testing.T) {
	whole := newTalk()
	whole.whole(t)
	for first := 1; first <= whole.wire; first++ {
		for second := first; second <= whole.wire+1; second++ {
			newTalk(first, second).whole(t)
			if t.Failed() {
				t.Fatalf("packets %d and %d of %d were lost", first, second, whole.wire)
			}
		}
	}
}

func TestUnansweredClientGivesUp(t *testing.T) {
	a := newClient(nil)
	for range idle {
		if sent := a.tick(); len(sent) != 1 || sent[0].kind != kindInit {
			t.Fatalf("it sends %v", sent)
		}
	}
	if sent := a.tick(); sent != nil || a.state != closed || !errors.Is(a.err, syscall.ETIMEDOUT) {
		t.Errorf("after %d ticks: sends %v, state %d, error %v", idle, sent, a.state, a.err)
	}
}

func TestSilentPeerIsAborted(t *testing.T) {
	a := newServer(cookie{localTag: 1, remoteTag: 2, localTSN: 3, remoteTSN: 4}, nil)
	a.write([]byte("x"))
	for range patience {
		a.tick()
	}
	if sent := a.tick(); len(sent) != 1 || sent[0].kind != kindAbort || !errors.Is(a.err, syscall.ETIMEDOUT) {
		t.Errorf("sends %v, error %v", sent, a.err)
	}
}

func TestAbort(t *testing.T) {
	abort := chunk{kind: kindAbort}
	reflected := chunk{kind: kindAbort, flags: flagReflected}
	for _, c := range []struct {
		name string
		tag  uint32
		with chunk
		want error
	}{
		{"with our tag", 1, abort, syscall.ECONNRESET},
		{"with their tag, reflected", 2, reflected, syscall.ECONNRESET},
		{"with their tag", 2, abort, nil},
		{"with our tag, reflected", 1, reflected, nil},
		{"with another tag", 7, abort, nil},
	} {
		a := newServer(cookie{localTag: 1, remoteTag: 2}, nil)
		if sent := a.receive(packet{tag: c.tag, chunks: []chunk{c.with}}); sent != nil || !errors.Is(a.err, c.want) {
			t.Errorf("%s: answers %v, error %v; want %v", c.name, sent, a.err, c.want)
		}
	}
	client := newClient(nil)
	client.receive(packet{tag: client.localTag, chunks: []chunk{abort}})
	if !errors.Is(client.err, syscall.ECONNREFUSED) {
		t.Errorf("a client whose INIT is answered with ABORT: %v", client.err)
	}
}

// A message is taken once and in order, and is not acknowledged if nobody takes it.
// One that is new is acknowledged by the next tick.
func TestMessagesInOrder(t *testing.T) {
	var got []string
	room := true
	a := newServer(cookie{localTag: 1, remoteTag: 2, remoteTSN: 10}, func(b []byte) bool {
		if room {
			got = append(got, string(b))
		}
		return room
	})
	for _, c := range []struct {
		tsn   uint32
		room  bool
		acked uint32
		fresh bool
	}{
		{11, true, 9, false}, {10, false, 9, false}, {10, true, 10, true},
		{10, true, 10, false}, {11, true, 11, true}, {9, true, 11, false},
	} {
		room = c.room
		m := message{tsn: c.tsn, data: []byte{byte('a' + c.tsn)}}
		sent := a.receive(packet{tag: 1, chunks: []chunk{m.chunk()}})
		if c.fresh && len(sent) == 0 {
			sent = a.tick()
		}
		if len(sent) != 1 {
			t.Fatalf("TSN %d: sends %v", c.tsn, sent)
		}
		if acked, err := acknowledged(sent[0]); err != nil || sent[0].kind != kindSack || acked != c.acked {
			t.Errorf("TSN %d: acknowledges %d, error %v; want %d", c.tsn, acked, err, c.acked)
		}
	}
	if !slices.Equal(got, []string{"k", "l"}) {
		t.Errorf("got %q", got)
	}
}

func TestCookieIsForOnePath(t *testing.T) {
	s, c := newSeal(), cookie{1, 2, 3, 4}
	b := s.marshal(c, testPath)
	if got, err := s.parse(b, testPath); err != nil || got != c {
		t.Errorf("%+v, error %v", got, err)
	}
	other := path{testPath.local, netip.MustParseAddrPort("192.0.2.2:40001")}
	if _, err := s.parse(b, other); err == nil {
		t.Error("another client may use it")
	}
	if _, err := newSeal().parse(b, testPath); err == nil {
		t.Error("another server takes it")
	}
	for i := range b {
		b[i]++
		if _, err := s.parse(b, testPath); err == nil {
			t.Errorf("byte %d may be changed", i)
		}
		b[i]--
	}
}

// A server that says its word and closes does not keep a client from asking.
func TestServerThatIsFaster(t *testing.T) {
	talk := newTalk()
	talk.toServer(talk.client.outstanding())
	talk.toClientAs(talk.server.remoteTag, talk.server.write([]byte("node-1")))
	talk.toClientAs(talk.server.remoteTag, talk.server.close())
	if talk.client.state != established || talk.client.peerClosing {
		t.Fatalf("the client is %+v", talk.client)
	}
	talk.toServer(talk.client.write([]byte("hostname")))
	talk.toServer(talk.client.acknowledge()) // it has read
	talk.toServer(talk.client.close())
	if talk.client.state != closed || talk.client.err != nil || talk.server.state != closed || talk.server.err != nil {
		t.Errorf("without a tick: client %+v, server %+v", talk.client, talk.server)
	}
}

// Whatever comes, an association does not panic, and what it sends can be read.
func FuzzReceive(f *testing.F) {
	for _, b := range captured(f) {
		f.Add(b[headerSize:], byte(0))
		f.Add(b[headerSize:], byte(1))
	}
	f.Fuzz(func(t *testing.T, chunks []byte, as byte) {
		p, err := parse(reseal(append(make([]byte, headerSize), chunks...)))
		if err != nil {
			return
		}
		take := func([]byte) bool { return true }
		a := newClient(take)
		if as&1 == 1 {
			a = newServer(cookie{localTag: 1, remoteTag: 2}, take)
			a.write([]byte("x"))
		}
		p.tag = a.localTag
		for range 2 {
			for _, c := range append(a.receive(p), a.tick()...) {
				if _, err := parse(packet{chunks: []chunk{c}}.marshal()); err != nil {
					t.Errorf("it sends %+v: %v", c, err)
				}
			}
		}
		a.close()
	})
}
