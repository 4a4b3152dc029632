package main

import (
	"bytes"
	"crypto/tls"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
)

// metricsCertificate is the certificate of the metrics: that in a folder, which another program keeps, or a
// self-signed one while there is none. Nobody who verifies takes the latter.
type metricsCertificate struct {
	dir        string
	selfSigned tls.Certificate
	log        *slog.Logger

	mu     sync.Mutex
	text   []byte // of the files that current is from
	latest *tls.Certificate
}

// GetCertificate reads the files anew, which are small, and parses them where they changed.
func (c *metricsCertificate) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if c.dir == "" {
		return &c.selfSigned, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	cert, err := os.ReadFile(filepath.Join(c.dir, "tls.crt"))
	if err != nil {
		return c.loadedCertificate(), nil // not there yet
	}
	key, err := os.ReadFile(filepath.Join(c.dir, "tls.key"))
	if err != nil {
		return c.loadedCertificate(), nil
	}
	if text := append(bytes.Clone(cert), key...); !bytes.Equal(text, c.text) {
		c.text = text
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			c.log.Warn("the certificate of the metrics cannot be used; keeping the one before", "dir", c.dir, "err", err)
			return c.loadedCertificate(), nil
		}
		c.latest = &pair
	}
	return c.loadedCertificate(), nil
}

// loadedCertificate is the latest certificate that could be read.
func (c *metricsCertificate) loadedCertificate() *tls.Certificate {
	if c.latest == nil {
		return &c.selfSigned
	}
	return c.latest
}
