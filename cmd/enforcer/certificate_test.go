package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
)

func TestTheMetricsCertificateFollowsItsFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "none")
	own, err := selfSigned()
	if err != nil {
		t.Fatal(err)
	}
	c := &metricsCertificate{dir: dir, selfSigned: own, log: slog.New(slog.DiscardHandler)}
	serves := func(what string, want tls.Certificate) {
		t.Helper()
		got, err := c.GetCertificate(nil)
		if err != nil || !bytes.Equal(got.Certificate[0], want.Certificate[0]) {
			t.Errorf("%s: another certificate is served; %v", what, err)
		}
	}
	serves("no folder", own)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	serves("an empty folder", own)
	first := writePair(t, dir)
	serves("the first", first)
	second := writePair(t, dir)
	serves("the second", second)
	if err := os.WriteFile(filepath.Join(dir, "tls.key"), []byte("none"), 0o600); err != nil {
		t.Fatal(err)
	}
	serves("a spoilt key", second)
	if err := os.Remove(filepath.Join(dir, "tls.crt")); err != nil {
		t.Fatal(err)
	}
	serves("no certificate any more", second)
	third := writePair(t, dir)
	serves("the third", third)
}

// writePair writes a new certificate as a Secret's volume would show it.
func writePair(t *testing.T, dir string) tls.Certificate {
	t.Helper()
	pair, err := selfSigned()
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{
		"tls.crt": {Type: "CERTIFICATE", Bytes: pair.Certificate[0]}, "tls.key": {Type: "PRIVATE KEY", Bytes: key},
	} {
		if err := os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return pair
}
