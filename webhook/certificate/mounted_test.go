package certificate

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// write writes the files of a Secret.
func write(t *testing.T, dir string, a issuer, leaf *tls.Certificate) {
	t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(leaf.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{
		"ca.crt":  a.pem(),
		"tls.crt": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Certificate[0]}),
		"tls.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
	} {
		// A file is replaced whole, as kubelet does.
		if err := os.WriteFile(filepath.Join(dir, "next"), text, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "next"), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestMountedFollowsItsFiles(t *testing.T) {
	from, to := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	a := newAuthority(t, "a", from, to)
	dir := t.TempDir()
	write(t, dir, a, a.leaf(t, from, to))
	m, err := NewMountedCertificate(dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Start(ctx) }()
	defer func() { cancel(); <-done }()
	if got, err := m.Authority(ctx); err != nil || string(got) != string(a.pem()) {
		t.Errorf("authority %s, error %v", got, err)
	}
	renewed := a.leaf(t, from, to)
	write(t, dir, a, renewed)
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		got, err := m.GetCertificate(nil)
		if err == nil && string(got.Certificate[0]) == string(renewed.Certificate[0]) {
			return
		}
	}
	t.Error("the renewed certificate is not served")
}

func TestMountedNeedsFiles(t *testing.T) {
	if _, err := NewMountedCertificate(t.TempDir()); err == nil {
		t.Error("no error without files")
	}
}
