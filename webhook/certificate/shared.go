package certificate

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	// sharedDuration is the validity of a shared certificate; sharedRenewal before its end, it is renewed.
	sharedDuration, sharedRenewal = 90 * 24 * time.Hour, 30 * 24 * time.Hour
	// sharedInterval is the time between checks.
	sharedInterval = time.Hour
	// sharedRetry is the time between a check that failed and the next.
	sharedRetry = 10 * time.Second

	authorityKey = "ca.crt"
)

// SharedCertificate renews a serving certificate in a Secret, for servers that cannot issue their own. The Secret has
// tls.crt, tls.key, and in ca.crt the current and the previous authority. An authority signs one certificate, and its
// key is discarded.
type SharedCertificate struct {
	// Secret must exist; it may be empty.
	Secret types.NamespacedName
	// DNSNames are the names that the certificate is for.
	DNSNames []string
	// Reader reads the Secret, and Client updates it.
	Reader client.Reader
	Client client.Client
	Log    *slog.Logger
}

// NeedLeaderElection returns true: only the leader renews.
func (*SharedCertificate) NeedLeaderElection() bool { return true }

// Start renews the certificate until ctx ends.
func (s *SharedCertificate) Start(ctx context.Context) error {
	for {
		wait := sharedInterval
		if err := s.renewIfDue(ctx, time.Now()); err != nil {
			s.Log.WarnContext(ctx, "renewing a shared certificate failed; retrying", "secret", s.Secret.String(), "err", err)
			wait = sharedRetry
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// renewIfDue renews the certificate unless it is current.
func (s *SharedCertificate) renewIfDue(ctx context.Context, now time.Time) error {
	secret := &corev1.Secret{}
	if err := s.Reader.Get(ctx, s.Secret, secret); err != nil {
		return fmt.Errorf("read Secret %s: %w", s.Secret, err)
	}
	if s.isCurrent(secret, now) {
		return nil
	}
	authority, cert, key, err := issueShared(s.DNSNames, now)
	if err != nil {
		return fmt.Errorf("issue a certificate for %v: %w", s.DNSNames, err)
	}
	// Clients may read the new authority before servers read the new certificate.
	bundle, err := AuthorityBundle(authority, secret.Data[authorityKey], now)
	if err != nil {
		bundle = authority // the old contents are no authority
	}
	secret.Data = map[string][]byte{corev1.TLSCertKey: cert, corev1.TLSPrivateKeyKey: key, authorityKey: bundle}
	if err := s.Client.Update(ctx, secret); err != nil {
		return fmt.Errorf("update Secret %s: %w", s.Secret, err)
	}
	s.Log.InfoContext(ctx, "shared certificate renewed", "secret", s.Secret.String())
	return nil
}

// isCurrent reports whether the Secret has a certificate for the names that its authority signed and that is not due
// for renewal.
func (s *SharedCertificate) isCurrent(secret *corev1.Secret, now time.Time) bool {
	block, _ := pem.Decode(secret.Data[corev1.TLSCertKey])
	if block == nil || len(secret.Data[corev1.TLSPrivateKeyKey]) == 0 {
		return false
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil || !slices.Equal(cert.DNSNames, s.DNSNames) || now.Add(sharedRenewal).After(cert.NotAfter) {
		return false
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(secret.Data[authorityKey])
	_, err = cert.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	return err == nil
}

// issueShared returns a new authority, a certificate for the names that it signed, and the certificate's key, as PEM.
func issueShared(names []string, now time.Time) (authority, cert, key []byte, err error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, nil, nil, err
	}
	root := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: "tierwall metrics " + serial.Text(16)[:8]},
		NotBefore: now.Add(-time.Minute), NotAfter: now.Add(sharedDuration), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, PermittedDNSDomainsCritical: true, PermittedDNSDomains: names}
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, nil, err
	}
	rootDER, err := x509.CreateCertificate(rand.Reader, root, root, &rootKey.PublicKey, rootKey)
	if err != nil {
		return nil, nil, nil, err
	}
	leaf := &x509.Certificate{SerialNumber: new(big.Int).Add(serial, big.NewInt(1)), Subject: pkix.Name{CommonName: "tierwall metrics"},
		DNSNames: names, NotBefore: root.NotBefore, NotAfter: root.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, nil, err
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, root, &leafKey.PublicKey, rootKey)
	if err != nil {
		return nil, nil, nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(leafKey)
	encode := func(kind string, der []byte) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	}
	return encode("CERTIFICATE", rootDER), encode("CERTIFICATE", leafDER), encode("PRIVATE KEY", keyDER), err
}
