// Package certificate provides the webhook's serving certificate, and the CA bundle that the API server
// verifies it by. Certificates are mounted as files (cert-manager) or issued by the replicas themselves.
package certificate

import (
	"context"
	"crypto/tls"
)

// CertificateSource issues and renews a serving certificate.
type CertificateSource interface {
	// Start renews the certificate until ctx ends.
	Start(ctx context.Context) error
	// GetCertificate returns the newest certificate, or an error if there is none yet.
	GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// Authority returns the authority that signed that certificate, as PEM, or an error if there is none yet.
	Authority(ctx context.Context) ([]byte, error)
	// Changed receives after Authority may have changed. It has one reader.
	Changed() <-chan struct{}
}
