package certificate

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"sync"
	"time"
)

// publishedTimeout bounds how long a handshake waits for Published.
const publishedTimeout = time.Second

// ServingCertificate selects the newest certificate that the API server can verify. After a change of
// authority, the old certificate is served until the new authority is published, so that no request fails.
type ServingCertificate struct {
	Source CertificateSource
	// Published returns the CA bundle that the API server verifies by; empty means that it sends no requests
	// yet. If Published fails, the current certificate stays in use.
	Published func(context.Context) ([]byte, error)

	mu      sync.Mutex
	serving *tls.Certificate
}

// GetCertificate implements tls.Config.GetCertificate.
func (s *ServingCertificate) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	newest, err := s.Source.GetCertificate(hello)
	if err != nil {
		return nil, err
	}
	serving := s.currentCertificate()
	if newest == serving || !isExpired(serving, time.Now()) && !s.isVerifiable(hello.Context(), newest) {
		return serving, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serving = newest
	return newest, nil
}

func (s *ServingCertificate) currentCertificate() *tls.Certificate {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.serving
}

// isVerifiable reports whether the API server would verify a certificate.
func (s *ServingCertificate) isVerifiable(ctx context.Context, c *tls.Certificate) bool {
	ctx, cancel := context.WithTimeout(ctx, publishedTimeout)
	defer cancel()
	bundle, err := s.Published(ctx)
	return err == nil && isSignedBy(bundle, c)
}

// isExpired reports whether a certificate is missing or expired.
func isExpired(c *tls.Certificate, now time.Time) bool {
	return c == nil || !now.Before(c.Leaf.NotAfter)
}

func isSignedBy(bundle []byte, c *tls.Certificate) bool {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(bundle) {
		return true // the API server sends no requests yet
	}
	intermediates := x509.NewCertPool()
	for _, der := range c.Certificate[1:] {
		if i, err := x509.ParseCertificate(der); err == nil {
			intermediates.AddCert(i)
		}
	}
	_, err := c.Leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates})
	return err == nil
}
