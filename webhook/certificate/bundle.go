package certificate

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"time"
)

// Overlap is how long a new authority is published together with those before it.
const Overlap = time.Hour

// AuthorityBundle returns the authorities to publish, as PEM. Until Overlap after the current authority
// began, they include the valid ones that were published before, since a replica may still serve a certificate
// that one of those signed.
func AuthorityBundle(current, published []byte, now time.Time) ([]byte, error) {
	authorities, err := parseCertificates(current)
	if err != nil {
		return nil, fmt.Errorf("read the authority: %w", err)
	}
	if now.Before(authorities[0].NotBefore.Add(Overlap)) {
		// A published bundle that cannot be parsed is dropped.
		before, _ := parseCertificates(published)
		for _, c := range before {
			if now.Before(c.NotAfter) && !containsCertificate(authorities, c) {
				authorities = append(authorities, c)
			}
		}
	}
	var out bytes.Buffer
	for _, c := range authorities {
		if err := pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), nil
}

func containsCertificate(list []*x509.Certificate, c *x509.Certificate) bool {
	for _, have := range list {
		if have.Equal(c) {
			return true
		}
	}
	return false
}

// parseCertificates parses one or more certificates in PEM.
func parseCertificates(bundle []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for block, rest := pem.Decode(bundle); block != nil; block, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no certificate in %d bytes", len(bundle))
	}
	return out, nil
}
