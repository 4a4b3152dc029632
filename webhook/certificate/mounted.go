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

// MountedCertificate is a certificate in the files tls.crt, tls.key and ca.crt of a mounted Secret, which
// cert-manager maintains. It is reloaded when the files change.
type MountedCertificate struct {
	dir     string
	watcher *certwatcher.CertWatcher
	changed chan struct{}
}

// NewMountedCertificate reads the certificate in dir.
func NewMountedCertificate(dir string) (*MountedCertificate, error) {
	w, err := certwatcher.New(filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"))
	if err != nil {
		return nil, fmt.Errorf("read the certificate in %s: %w", dir, err)
	}
	m := &MountedCertificate{dir: dir, watcher: w.WithWatchInterval(time.Second), changed: make(chan struct{}, 1)}
	w.RegisterCallback(func(tls.Certificate) {
		select {
		case m.changed <- struct{}{}:
		default: // one is waiting already
		}
	})
	return m, nil
}

// Start watches the files until ctx ends.
func (m *MountedCertificate) Start(ctx context.Context) error { return m.watcher.Start(ctx) }

// GetCertificate returns the certificate in the files.
func (m *MountedCertificate) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	return m.watcher.GetCertificate(hello)
}

// Changed receives after the files changed.
func (m *MountedCertificate) Changed() <-chan struct{} { return m.changed }

// Authority returns the contents of ca.crt.
func (m *MountedCertificate) Authority(context.Context) ([]byte, error) {
	pem, err := os.ReadFile(filepath.Join(m.dir, "ca.crt"))
	if err != nil {
		return nil, fmt.Errorf("read the certificate's authority: %w", err)
	}
	if len(bytes.TrimSpace(pem)) == 0 {
		return nil, fmt.Errorf("%s/ca.crt is empty: the issuer names no authority", m.dir)
	}
	return pem, nil
}
