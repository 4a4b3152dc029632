// Package bundletest makes signed bundles for tests.
package bundletest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/bundle"
)

// TB is what of testing.TB is needed.
type TB interface {
	Helper()
	Fatal(args ...any)
}

// Signer signs bundles.
type Signer struct {
	private string
	// Public is its public key in PEM form, for ES256.
	Public string
}

// NewSigner has a new key.
func NewSigner(t TB) Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return Signer{string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}))}
}

// Files are those of a bundle, with a manifest of the revision.
func Files(revision string, files map[string]string) map[string]string {
	out := maps.Clone(files)
	out[".manifest"] = fmt.Sprintf(`{"revision": %q}`, revision)
	return out
}

// Sign is the text of .signatures.json, as "opa sign" writes it.
func (s Signer) Sign(t TB, files map[string]string) string {
	t.Helper()
	var infos []bundle.FileInfo
	for name, text := range files {
		hasher, err := bundle.NewSignatureHasher(bundle.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		var value any = []byte(text)
		if bundle.IsStructuredDoc(name) {
			value = map[string]any{"revision": strings.Split(text, `"`)[3]}
		}
		hash, err := hasher.HashFile(value)
		if err != nil {
			t.Fatal(err)
		}
		infos = append(infos, bundle.NewFile(name, fmt.Sprintf("%x", hash), string(bundle.SHA256)))
	}
	token, err := bundle.GenerateSignedToken(infos, bundle.NewSigningConfig(s.private, "ES256", ""), "")
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`{"signatures": [%q]}`, token)
}

// Pack is files as a tar.gz file.
func Pack(t TB, files map[string]string) []byte {
	t.Helper()
	var out bytes.Buffer
	zipped := gzip.NewWriter(&out)
	tarred := tar.NewWriter(zipped)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := tarred.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(files[name]))}); err != nil {
			t.Fatal(err)
		}
		if _, err := tarred.Write([]byte(files[name])); err != nil {
			t.Fatal(err)
		}
	}
	if err := tarred.Close(); err != nil {
		t.Fatal(err)
	}
	if err := zipped.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// Packed is a signed bundle of files.
func (s Signer) Packed(t TB, revision string, files map[string]string) []byte {
	t.Helper()
	all := Files(revision, files)
	all[".signatures.json"] = s.Sign(t, all)
	return Pack(t, all)
}
