package server

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
)

// ClientOptions restrict who may send requests to the webhook. The zero value allows everybody who reaches its port.
type ClientOptions struct {
	// CAFile has the authorities (PEM) that client certificates must be signed by; empty requires no certificate.
	CAFile string
	// Names are the common names that are accepted; empty accepts every certificate of the authorities.
	Names []string
}

// configureTLS makes a TLS server require client certificates, if CAFile is set.
func (o ClientOptions) configureTLS(c *tls.Config) error {
	if o.CAFile == "" {
		if len(o.Names) > 0 {
			return errors.New("names of clients without an authority that signs their certificates")
		}
		return nil
	}
	read := func() (*x509.CertPool, error) {
		text, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read the authority of clients: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("read the authority of clients: no certificate in %s", o.CAFile)
		}
		return pool, nil
	}
	pool, err := read()
	if err != nil {
		return err
	}
	c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, pool
	c.VerifyConnection = o.verifyName
	c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		pool, err := read() // the file is renewed with its ConfigMap
		if err != nil {
			return nil, err
		}
		now := c.Clone()
		now.GetConfigForClient, now.ClientCAs = nil, pool
		return now, nil
	}
	return nil
}

// verifyName verifies the client's name, also when a session is resumed.
func (o ClientOptions) verifyName(state tls.ConnectionState) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("the client has no certificate")
	}
	name := state.PeerCertificates[0].Subject.CommonName
	if len(o.Names) > 0 && !slices.Contains(o.Names, name) {
		return fmt.Errorf("the client's certificate is for %q, which may not ask", name)
	}
	return nil
}
