package certificate

import (
	"crypto/tls"
	"crypto/x509"
	"sync"
	"time"
)

// Serving is the certificate that is shown to the API server: the newest that
// it can verify. After a change of authority the old certificate is served
// until the new authority is published, so that no request is lost.
type Serving struct {
	Source Source
	// Published is the bundle by which the API server verifies at present; empty
	// while it asks nothing of the webhook.
	Published func() []byte

	mu      sync.Mutex
	serving *tls.Certificate
}

// GetCertificate is for tls.Config.
func (s *Serving) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	newest, err := s.Source.GetCertificate(hello)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if newest != s.serving && (s.outlived(time.Now()) || verifies(s.Published(), newest)) {
		s.serving = newest
	}
	return s.serving, nil
}

// outlived says whether there is nothing to go on serving.
func (s *Serving) outlived(now time.Time) bool {
	return s.serving == nil || !now.Before(s.serving.Leaf.NotAfter)
}

func verifies(bundle []byte, c *tls.Certificate) bool {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(bundle) {
		return true // nobody verifies anything
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
