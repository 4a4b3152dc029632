package certificate

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/certwatcher"
)

// Mounted is a certificate in the files of a Secret that cert-manager keeps:
// tls.crt, tls.key and ca.crt. It is read again when the files change.
type Mounted struct {
	dir     string
	watcher *certwatcher.CertWatcher
	changed chan struct{}
}

// NewMounted reads the certificate in dir.
func NewMounted(dir string) (*Mounted, error) {
	w, err := certwatcher.New(filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"))
	if err != nil {
		return nil, fmt.Errorf("read the certificate in %s: %w", dir, err)
	}
	m := &Mounted{dir: dir, watcher: w.WithWatchInterval(time.Second), changed: make(chan struct{}, 1)}
	w.RegisterCallback(func(tls.Certificate) {
		select {
		case m.changed <- struct{}{}:
		default: // one is waiting already
		}
	})
	return m, nil
}

// Start follows the files until ctx ends.
func (m *Mounted) Start(ctx context.Context) error { return m.watcher.Start(ctx) }

// GetCertificate is the certificate in the files.
func (m *Mounted) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	return m.watcher.GetCertificate(hello)
}

// Changed receives after the files changed.
func (m *Mounted) Changed() <-chan struct{} { return m.changed }

// Authority is ca.crt.
func (m *Mounted) Authority(context.Context) ([]byte, error) {
	pem, err := os.ReadFile(filepath.Join(m.dir, "ca.crt"))
	if err != nil {
		return nil, fmt.Errorf("read the certificate's authority: %w", err)
	}
	if len(bytes.TrimSpace(pem)) == 0 {
		return nil, fmt.Errorf("%s/ca.crt is empty: the issuer names no authority", m.dir)
	}
	return pem, nil
}
