package rego

import (
	"slices"
	"strings"
	"testing"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/rego/bundletest"
)

func keysOf(t *testing.T, s bundletest.Signer) Keys {
	t.Helper()
	keys, err := NewKeys(s.Public, "ES256")
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

const (
	noTelnet     = "package tierwall.guardrails.no_telnet\n\nimport data.tierwall.lib\n\ndeny contains \"no\" if {\n\tsome row in input.effect.added\n\tlib.covers(row, \"TCP\", lib.parameter(\"port\", 5432))\n}\n"
	noTelnetTest = "package tierwall.guardrails.no_telnet_test\n\nimport data.tierwall.guardrails.no_telnet\n\ntest_it if count(no_telnet.deny) == 0 with input as {\"effect\": {\"added\": []}}\n"
)

func TestAGuardrailOfABundle(t *testing.T) {
	s := bundletest.NewSigner(t)
	b, err := ReadBundle(t.Context(), s.Packed(t, "7", map[string]string{"no_telnet.rego": noTelnet, "no_telnet_test.rego": noTelnetTest}), keysOf(t, s))
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

func TestTheSharedPackageOfABundleIsNotUsed(t *testing.T) {
	s := bundletest.NewSigner(t)
	b, err := ReadBundle(t.Context(), s.Packed(t, "7", map[string]string{"no_telnet.rego": noTelnet,
		"lib.rego": "package tierwall.lib\n\ncovers(_, _, _) := false\n\nparameter(_, _) := 0\n"}), keysOf(t, s))
	if err != nil {
		t.Fatal(err)
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
}

func TestHostileBundles(t *testing.T) {
	s, other := bundletest.NewSigner(t), bundletest.NewSigner(t)
	good := map[string]string{"no_telnet.rego": noTelnet}
	signed := s.Packed(t, "7", good)
	with := func(name, text string) []byte {
		return s.Packed(t, "7", map[string]string{"no_telnet.rego": noTelnet, name: text})
	}
	tampered := bundletest.Files("7", good)
	tampered[".signatures.json"] = s.Sign(t, tampered)
	tampered["no_telnet.rego"] = strings.Replace(noTelnet, "deny", "warn", 1)
	added := bundletest.Files("7", good)
	added[".signatures.json"] = s.Sign(t, added)
	added["more.rego"] = strings.Replace(noTelnet, "no_telnet", "more", 1)
	removed := bundletest.Files("7", map[string]string{"no_telnet.rego": noTelnet, "more.rego": noTelnet})
	removed[".signatures.json"] = s.Sign(t, removed)
	delete(removed, "more.rego")
	renumbered := bundletest.Files("7", good)
	renumbered[".signatures.json"] = s.Sign(t, renumbered)
	renumbered[".manifest"] = `{"revision": "8"}`
	unverified := bundletest.Files("7", good)
	unverified[".signatures.json"] = `{"signatures": ["e30.e30."]}`
	delta := map[string]string{"patch.json": `{"data": []}`, ".manifest": `{"revision": "7"}`}
	for name, c := range map[string]struct {
		packed []byte
		want   string
	}{
		"nothing":                   {nil, "no tar.gz"},
		"no archive":                {[]byte("<html>404</html>"), "no tar.gz"},
		"unsigned":                  {bundletest.Pack(t, bundletest.Files("7", good)), "missing .signatures.json"},
		"signed by somebody else":   {other.Packed(t, "7", good), "failed to verify JWT signature"},
		"signed by nobody":          {bundletest.Pack(t, unverified), "failed to verify JWT signature"},
		"tampered":                  {bundletest.Pack(t, tampered), "no_telnet.rego: digest mismatch"},
		"a file more":               {bundletest.Pack(t, added), "more.rego not included in bundle signature"},
		"a file less":               {bundletest.Pack(t, removed), "not found in the target bundle"},
		"another revision":          {bundletest.Pack(t, renumbered), ".manifest: digest mismatch"},
		"truncated":                 {signed[:len(signed)/2], "damaged"},
		"a delta":                   {bundletest.Pack(t, delta), "missing .signatures.json"},
		"no revision":               {s.Packed(t, "", good), "want a whole number"},
		"a revision that is no one": {s.Packed(t, "v7", good), "want a whole number"},
		"too large a file":          {with("big.rego", noTelnet+strings.Repeat("# x\n", 1<<19)), "exceeded max size"},
		"a bomb":                    {with("zeros", strings.Repeat("\x00", 40<<20)), "bytes unpacked"},
		"no Rego":                   {with("bad.rego", "this is none"), "bad.rego:1:"},
		"does not compile":          {with("bad.rego", "package tierwall.guardrails.bad\n\ndeny contains x"), "bad.rego:3:15: var x is unsafe"},
		"loops":                     {with("bad.rego", "package tierwall.guardrails.bad\n\n"+endless), "guardrail bad: judging an example: it took too long"},
		"wrong type":                {with("bad.rego", "package tierwall.guardrails.bad\n\ndeny contains 1"), "guardrail bad: judging an example: deny has an element"},
		"reaches the network":       {with("bad.rego", "package tierwall.guardrails.bad\n\ndeny contains \"x\" if http.send({})"), "undefined function http.send"},
		"shadows a package":         {with("bad.rego", "package tierwall.lib.more\n\nopens(_) := false"), "package is tierwall.lib.more; that of a guardrail"},
		"another guardrail again":   {with("bad.rego", noTelnet), "second file of guardrail no-telnet"},
		"reads another":             {with("bad.rego", "package tierwall.guardrails.bad\n\ndeny contains \"x\" if data.tierwall.guardrails.no_telnet.deny"), "is not for this guardrail"},
		"fails its tests":           {with("t.rego", strings.Replace(noTelnetTest, "== 0", "== 1", 1)), "t.rego:5:1: test_it failed"},
		"tests of nothing":          {with("t.rego", strings.ReplaceAll(noTelnetTest, "no_telnet", "other")), "tests of other, but no such guardrail"},
	} {
		if b, err := ReadBundle(t.Context(), c.packed, keysOf(t, s)); err == nil || b != nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %s", name, err, c.want)
		}
	}
}

func TestKeysThatAreNone(t *testing.T) {
	s := bundletest.NewSigner(t)
	for _, c := range [][2]string{{"", "ES256"}, {"secret", "HS256"}, {s.Public, "HS256"}, {s.Public, "none"}, {"PRIVATE KEY", "ES256"}} {
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
