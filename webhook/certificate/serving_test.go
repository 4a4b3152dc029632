package certificate

import (
	"context"
	"crypto/tls"
	"errors"
	"slices"
	"testing"
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
	source := &fixed{}
	s := &Serving{Source: source, Published: func() []byte { return published }}
	if c, err := s.GetCertificate(nil); err == nil {
		t.Errorf("got %v before there is a certificate", c)
	}
	for _, step := range []struct {
		name         string
		newest, want *tls.Certificate
		published    []byte
	}{
		{"first", oldLeaf, oldLeaf, nil},
		{"published", oldLeaf, oldLeaf, old.pem()},
		{"renewed by the same authority", renewed, renewed, old.pem()},
		{"rotated, not published yet", newLeaf, renewed, old.pem()},
		{"rotated and published", newLeaf, newLeaf, slices.Concat(now.pem(), old.pem())},
		{"the old one is gone", newLeaf, newLeaf, now.pem()},
	} {
		source.cert, published = step.newest, step.published
		got, err := s.GetCertificate(nil)
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
	s := &Serving{Source: source, Published: old.pem}
	if _, err := s.GetCertificate(nil); err != nil {
		t.Fatal(err)
	}
	source.cert = fresh
	if got, err := s.GetCertificate(nil); err != nil || got != fresh {
		t.Errorf("got the certificate that is over (error %v)", err)
	}
}
