// Package certificate provides the webhook's serving certificate and the bundle
// of authorities by which the API server knows it: issued by cert-manager and
// mounted as files, or issued by the replicas themselves.
package certificate

import (
	"context"
	"crypto/tls"
)

// CertificateSource issues and renews a serving certificate.
type CertificateSource interface {
	// Start keeps the certificate fresh until ctx ends.
	Start(ctx context.Context) error
	// GetCertificate is the newest certificate; an error where there is none yet.
	GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// Authority is the authority that GetCertificate's certificate is signed by, as PEM;
	// an error where there is none yet.
	Authority(ctx context.Context) ([]byte, error)
	// Changed receives after Authority may have changed. It has one reader.
	Changed() <-chan struct{}
}
