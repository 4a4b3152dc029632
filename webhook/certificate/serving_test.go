package certificate

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// fixed is a Source with one certificate.
type fixed struct{ cert *tls.Certificate }

func (f *fixed) Start(context.Context) error { return nil }

func (f *fixed) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if f.cert == nil {
		return nil, errors.New("none yet")
	}
	return f.cert, nil
}

func (f *fixed) Authority(context.Context) ([]byte, error) { return nil, errors.New("not asked") }

func (f *fixed) Changed() <-chan struct{} { return nil }

func TestTheNewCertificateIsServedOnceItsAuthorityIsPublished(t *testing.T) {
	from, to := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	old, now := newAuthority(t, "old", from, to), newAuthority(t, "new", from, to)
	oldLeaf, renewed, newLeaf := old.leaf(t, from, to), old.leaf(t, from, to), now.leaf(t, from, to)
	var published []byte
	var unknown error
	source := &fixed{}
	s := &ServingCertificate{Source: source, Published: func(context.Context) ([]byte, error) { return published, unknown }}
	if c, err := s.GetCertificate(hello(t)); err == nil {
		t.Errorf("got %v before there is a certificate", c)
	}
	for _, step := range []struct {
		name         string
		newest, want *tls.Certificate
		published    []byte
		unknown      error
	}{
		{"first", oldLeaf, oldLeaf, nil, nil},
		{"published", oldLeaf, oldLeaf, old.pem(), nil},
		{"renewed by the same authority", renewed, renewed, old.pem(), nil},
		{"rotated, not published yet", newLeaf, renewed, old.pem(), nil},
		{"rotated, and what is published cannot be told", newLeaf, renewed, nil, errors.New("away")},
		{"rotated and published", newLeaf, newLeaf, slices.Concat(now.pem(), old.pem()), nil},
		{"the old one is gone", newLeaf, newLeaf, now.pem(), nil},
	} {
		source.cert, published, unknown = step.newest, step.published, step.unknown
		got, err := s.GetCertificate(hello(t))
		if err != nil || got != step.want {
			t.Errorf("%s: got another certificate (error %v)", step.name, err)
		}
	}
}

func TestACertificateThatIsOverIsReplacedInAnyCase(t *testing.T) {
	from := time.Now().Add(-time.Hour)
	old, now := newAuthority(t, "old", from, from.Add(time.Hour*2)), newAuthority(t, "new", from, from.Add(time.Hour*2))
	over, fresh := old.leaf(t, from, from.Add(time.Minute)), now.leaf(t, from, from.Add(time.Hour*2))
	source := &fixed{cert: over}
	s := &ServingCertificate{Source: source, Published: func(context.Context) ([]byte, error) { return old.pem(), nil }}
	if _, err := s.GetCertificate(hello(t)); err != nil {
		t.Fatal(err)
	}
	source.cert = fresh
	if got, err := s.GetCertificate(hello(t)); err != nil || got != fresh {
		t.Errorf("got the certificate that is over (error %v)", err)
	}
}

// handshake has the server choose a certificate; it does not go further.
func handshake(t *testing.T, limit time.Duration, choose func(*tls.ClientHelloInfo)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	client, server := net.Pipe()
	done := make(chan struct{})
	go func() {
		_ = tls.Client(client, &tls.Config{ServerName: "webhook"}).HandshakeContext(t.Context())
		close(done)
	}()
	asked := false
	_ = tls.Server(server, &tls.Config{GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
		asked = true
		choose(h)
		return nil, errors.New("enough")
	}}).HandshakeContext(ctx)
	server.Close()
	<-done
	if !asked {
		t.Fatal("no certificate was asked for")
	}
}

// hello is what a client says at the beginning of a handshake.
func hello(t *testing.T) *tls.ClientHelloInfo {
	t.Helper()
	var out *tls.ClientHelloInfo
	handshake(t, time.Minute, func(h *tls.ClientHelloInfo) { out = h })
	return out
}

// A handshake waits for what is published no longer than it lasts itself, nor than a glance.
func TestAHandshakeDoesNotWaitForNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from, to := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		authority := newAuthority(t, "a", from, to)
		first, next := authority.leaf(t, from, to), authority.leaf(t, from, to)
		source := &fixed{cert: first}
		s := &ServingCertificate{Source: source, Published: func(ctx context.Context) ([]byte, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}}
		if _, err := s.GetCertificate(hello(t)); err != nil {
			t.Fatal(err)
		}
		source.cert = next
		for lasts, want := range map[time.Duration]time.Duration{time.Millisecond: time.Millisecond, time.Minute: publishedTimeout} {
			handshake(t, lasts, func(h *tls.ClientHelloInfo) {
				start := time.Now()
				got, err := s.GetCertificate(h)
				if took := time.Since(start); err != nil || got != first || took != want {
					t.Errorf("a handshake of %v: the certificate so far: %v, error %v, after %v, want %v", lasts, got == first, err, took, want)
				}
			})
		}
	})
}
