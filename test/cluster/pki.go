package cluster

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"
)

// certLifetime is how long the lab's certificates are valid. A lab lives for
// hours; a forgotten one for days.
const certLifetime = 30 * 24 * time.Hour

// An authority signs certificates (RFC 5280) and writes them to its directory.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  crypto.Signer
}

// identity says what a certificate is for.
type identity struct {
	file         string // base name; .crt and .key are added
	name         string // common name: the user, to the API server
	organization string // the user's group, to the API server
	dns          []string
	ips          []netip.Addr
}

// newAuthority makes a certificate authority and writes <file>.crt and
// <file>.key to dir.
func newAuthority(dir, file string) (*authority, error) {
	template := certificate("tierwall lab " + file)
	template.IsCA = true
	template.BasicConstraintsValid = true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	a := &authority{dir: dir, cert: template, key: key}
	a.cert, err = a.sign(template, key, file)
	return a, err
}

// issue makes a certificate for clients and servers alike.
func (a *authority) issue(id identity) error {
	key, err := newKey()
	if err != nil {
		return err
	}
	template := certificate(id.name)
	if id.organization != "" {
		template.Subject.Organization = []string{id.organization}
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	template.DNSNames = id.dns
	for _, ip := range id.ips {
		template.IPAddresses = append(template.IPAddresses, net.IP(ip.AsSlice()))
	}
	_, err = a.sign(template, key, id.file)
	return err
}

// sign signs the template for key and writes certificate and key.
func (a *authority) sign(template *x509.Certificate, key crypto.Signer, file string) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return nil, fmt.Errorf("sign certificate %s: %w", file, err)
	}
	if err := writePEM(filepath.Join(a.dir, file+".crt"), "CERTIFICATE", der, 0o644); err != nil {
		return nil, err
	}
	if err := writeKey(filepath.Join(a.dir, file+".key"), key); err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func certificate(name string) *x509.Certificate {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		panic(err) // crypto/rand does not fail
	}
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.Add(certLifetime),
	}
}

func newKey() (crypto.Signer, error) {
	return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
}

func writeKey(path string, key crypto.Signer) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("encode key %s: %w", path, err)
	}
	return writePEM(path, "PRIVATE KEY", der, 0o600)
}

func writePEM(path, kind string, der []byte, mode os.FileMode) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), mode)
}
