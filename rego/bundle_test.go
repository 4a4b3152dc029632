package rego

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
	"testing"

	"github.com/open-policy-agent/opa/v1/bundle"

	"github.com/tierwall/tierwall/api/v1alpha1"
)

// signer signs bundles.
type signer struct{ private, public string }

func newSigner(t *testing.T) signer {
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
	return signer{string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}))}
}

func (s signer) keys(t *testing.T) Keys {
	t.Helper()
	keys, err := NewKeys(s.public, "ES256")
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// files are those of a bundle, with a manifest of the revision.
func bundleFiles(revision string, files map[string]string) map[string]string {
	out := maps.Clone(files)
	out[".manifest"] = fmt.Sprintf(`{"revision": %q}`, revision)
	return out
}

// sign is the text of .signatures.json, as "opa sign" writes it.
func (s signer) sign(t *testing.T, files map[string]string) string {
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

// pack is files as a tar.gz file.
func pack(t *testing.T, files map[string]string) []byte {
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

func (s signer) packed(t *testing.T, revision string, files map[string]string) []byte {
	t.Helper()
	all := bundleFiles(revision, files)
	all[".signatures.json"] = s.sign(t, all)
	return pack(t, all)
}

const (
	noTelnet     = "package tierwall.guardrails.no_telnet\n\nimport data.tierwall.lib\n\ndeny contains \"no\" if {\n\tsome row in input.effect.added\n\tlib.covers(row, \"TCP\", lib.parameter(\"port\", 5432))\n}\n"
	noTelnetTest = "package tierwall.guardrails.no_telnet_test\n\nimport data.tierwall.guardrails.no_telnet\n\ntest_it if count(no_telnet.deny) == 0 with input as {\"effect\": {\"added\": []}}\n"
)

func TestAGuardrailOfABundle(t *testing.T) {
	s := newSigner(t)
	b, err := ReadBundle(t.Context(), s.packed(t, "7", map[string]string{"no_telnet.rego": noTelnet, "no_telnet_test.rego": noTelnetTest}), s.keys(t))
	if err != nil {
		t.Fatal(err)
	}
	if b.Revision != 7 || !slices.Equal(b.Names(), []string{"no-telnet"}) {
		t.Errorf("revision %d of %v", b.Revision, b.Names())
	}
	g := &v1alpha1.Guardrail{Spec: v1alpha1.GuardrailSpec{Bundle: "no-telnet"}}
	g.Name = "mine"
	p, err := Prepare(t.Context(), g, b)
	if err != nil {
		t.Fatal(err)
	}
	if r := judge(t, EngineOf([]*Prepared{p}), example); said(r.Denials) != "mine: no" {
		t.Errorf("denied:\n%s", said(r.Denials))
	}
	for want, from := range map[string]*Bundle{"there is no bundle": nil, `no "other" in revision 7; there are no-telnet`: b} {
		g.Spec.Bundle = map[bool]string{true: "no-telnet", false: "other"}[from == nil]
		if _, err := Prepare(t.Context(), g, from); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %s", err, want)
		}
	}
}

func TestHostileBundles(t *testing.T) {
	s, other := newSigner(t), newSigner(t)
	good := map[string]string{"no_telnet.rego": noTelnet}
	signed := s.packed(t, "7", good)
	with := func(name, text string) []byte {
		return s.packed(t, "7", map[string]string{"no_telnet.rego": noTelnet, name: text})
	}
	tampered := bundleFiles("7", good)
	tampered[".signatures.json"] = s.sign(t, tampered)
	tampered["no_telnet.rego"] = strings.Replace(noTelnet, "deny", "warn", 1)
	added := bundleFiles("7", good)
	added[".signatures.json"] = s.sign(t, added)
	added["more.rego"] = strings.Replace(noTelnet, "no_telnet", "more", 1)
	removed := bundleFiles("7", map[string]string{"no_telnet.rego": noTelnet, "more.rego": noTelnet})
	removed[".signatures.json"] = s.sign(t, removed)
	delete(removed, "more.rego")
	renumbered := bundleFiles("7", good)
	renumbered[".signatures.json"] = s.sign(t, renumbered)
	renumbered[".manifest"] = `{"revision": "8"}`
	unverified := bundleFiles("7", good)
	unverified[".signatures.json"] = `{"signatures": ["e30.e30."]}`
	delta := map[string]string{"patch.json": `{"data": []}`, ".manifest": `{"revision": "7"}`}
	for name, c := range map[string]struct {
		packed []byte
		want   string
	}{
		"nothing":                   {nil, "no tar.gz"},
		"no archive":                {[]byte("<html>404</html>"), "no tar.gz"},
		"unsigned":                  {pack(t, bundleFiles("7", good)), "missing .signatures.json"},
		"signed by somebody else":   {other.packed(t, "7", good), "failed to verify JWT signature"},
		"signed by nobody":          {pack(t, unverified), "failed to verify JWT signature"},
		"tampered":                  {pack(t, tampered), "no_telnet.rego: digest mismatch"},
		"a file more":               {pack(t, added), "more.rego not included in bundle signature"},
		"a file less":               {pack(t, removed), "not found in the target bundle"},
		"another revision":          {pack(t, renumbered), ".manifest: digest mismatch"},
		"truncated":                 {signed[:len(signed)/2], "damaged"},
		"a delta":                   {pack(t, delta), "missing .signatures.json"},
		"no revision":               {s.packed(t, "", good), "want a whole number"},
		"a revision that is no one": {s.packed(t, "v7", good), "want a whole number"},
		"too large a file":          {with("big.rego", noTelnet+strings.Repeat("# x\n", 1<<19)), "exceeded max size"},
		"a bomb":                    {with("zeros", strings.Repeat("\x00", 40<<20)), "bytes unpacked"},
		"no Rego":                   {with("bad.rego", "this is none"), "bad.rego:1:"},
		"does not compile":          {with("bad.rego", "package tierwall.guardrails.bad\n\ndeny contains x"), "bad.rego:3:15: var x is unsafe"},
		"loops":                     {with("bad.rego", "package tierwall.guardrails.bad\n\n"+endless), "guardrail bad: judging an example: it took too long"},
		"wrong type":                {with("bad.rego", "package tierwall.guardrails.bad\n\ndeny contains 1"), "guardrail bad: judging an example: deny has an element"},
		"reaches the network":       {with("bad.rego", "package tierwall.guardrails.bad\n\ndeny contains \"x\" if http.send({})"), "undefined function http.send"},
		"shadows the library":       {with("bad.rego", "package tierwall.lib\n\nopens(_) := false"), "package is tierwall.lib; that of a guardrail"},
		"another guardrail again":   {with("bad.rego", noTelnet), "second file of guardrail no-telnet"},
		"reads another":             {with("bad.rego", "package tierwall.guardrails.bad\n\ndeny contains \"x\" if data.tierwall.guardrails.no_telnet.deny"), "is not for this guardrail"},
		"fails its tests":           {with("t.rego", strings.Replace(noTelnetTest, "== 0", "== 1", 1)), "t.rego:5:1: test_it failed"},
		"tests of nothing":          {with("t.rego", strings.ReplaceAll(noTelnetTest, "no_telnet", "other")), "tests of other, but no such guardrail"},
	} {
		if b, err := ReadBundle(t.Context(), c.packed, s.keys(t)); err == nil || b != nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %s", name, err, c.want)
		}
	}
}

func TestKeysThatAreNone(t *testing.T) {
	s := newSigner(t)
	for _, c := range [][2]string{{"", "ES256"}, {"secret", "HS256"}, {s.public, "HS256"}, {s.public, "none"}, {s.private, "ES256"}} {
		if _, err := NewKeys(c[0], c[1]); err == nil {
			t.Errorf("%.30q with %s are keys", c[0], c[1])
		}
	}
}

func FuzzReadBundle(f *testing.F) {
	f.Add([]byte{})
	keys, err := NewKeys("-----BEGIN PUBLIC KEY-----", "RS256")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, packed []byte) {
		if b, err := ReadBundle(t.Context(), packed, keys); err == nil {
			t.Fatalf("read %v without a key", b.Names())
		}
	})
}
