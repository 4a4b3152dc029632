package bundle

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/tierwall/tierwall/rego"
	"github.com/tierwall/tierwall/rego/bundletest"
)

// guardrail is the Rego of one whose name is the word.
func guardrail(name string) map[string]string {
	return map[string]string{name + ".rego": "package tierwall.guardrails." + name + "\n\ndeny contains \"no\" if false\n"}
}

// shelf is an HTTP server with a bundle.
type shelf struct {
	*httptest.Server
	packed []byte
	status int
	// promised is how many bytes it says that there are, where that is not how many.
	promised    int
	unchanged   int // how often it said that nothing changed
	withoutETag bool
}

func serve(t *testing.T) *shelf {
	t.Helper()
	s := &shelf{status: http.StatusOK}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tag := fmt.Sprintf("\"%x\"", sha256.Sum256(s.packed))
		if !s.withoutETag {
			w.Header().Set("ETag", tag)
		}
		if r.Header.Get("If-None-Match") == tag && s.status == http.StatusOK && !s.withoutETag {
			s.unchanged++
			w.WriteHeader(http.StatusNotModified)
			return
		}
		if s.promised != 0 {
			w.Header().Set("Content-Length", fmt.Sprint(s.promised))
		}
		w.WriteHeader(s.status)
		_, _ = w.Write(s.packed)
	}))
	t.Cleanup(s.Close)
	return s
}

// scene is a Poller and what it put into force.
type scene struct {
	*Poller
	used    []string
	changes int
	floor   int64
}

func play(t *testing.T, signer bundletest.Signer, place string) *scene {
	t.Helper()
	keys, err := rego.NewKeys(signer.Public, "ES256")
	if err != nil {
		t.Fatal(err)
	}
	source, err := NewBundleSource(place)
	if err != nil {
		t.Fatal(err)
	}
	s := &scene{}
	s.Poller = &Poller{Source: source, Keys: keys, Interval: time.Hour, File: filepath.Join(t.TempDir(), "bundle.tar.gz"), Log: slog.New(slog.DiscardHandler),
		Use: func(b *rego.Bundle) {
			s.used = append(s.used, fmt.Sprintf("%d %s", b.Revision, strings.Join(b.Names(), ",")))
		},
		Changed: func() { s.changes++ },
		Floor:   func(context.Context) (int64, error) { return s.floor, nil }}
	return s
}

// polls asks once, and checks what is in force and what is wrong.
func (s *scene) polls(t *testing.T, revision int64, wrong string) {
	t.Helper()
	s.pollOnce(t.Context())
	got := s.State()
	switch {
	case !got.Polled || got.Revision != revision:
		t.Errorf("state %+v, want revision %d", got, revision)
	case (got.Err == nil) != (wrong == ""):
		t.Errorf("error %v, want %q", got.Err, wrong)
	case got.Err != nil && !strings.Contains(got.Err.Error(), wrong):
		t.Errorf("error %v, want %q", got.Err, wrong)
	}
}

func TestANewerBundleTakesThePlaceOfTheOneBefore(t *testing.T) {
	signer, s := bundletest.NewSigner(t), serve(t)
	p := play(t, signer, s.URL)
	s.packed = signer.Packed(t, "7", guardrail("a"))
	p.polls(t, 7, "")
	p.polls(t, 7, "")
	if s.unchanged != 1 {
		t.Errorf("asked for it again as if it had changed")
	}
	s.packed = signer.Packed(t, "12", guardrail("longer"))
	p.polls(t, 12, "")
	if want := []string{"7 a", "12 longer"}; !slices.Equal(p.used, want) {
		t.Errorf("in force came %q, want %q", p.used, want)
	}
}

func TestTheLastGoodBundleStays(t *testing.T) {
	signer, other, s := bundletest.NewSigner(t), bundletest.NewSigner(t), serve(t)
	p := play(t, signer, s.URL)
	good := signer.Packed(t, "7", guardrail("a"))
	s.packed = good
	p.polls(t, 7, "")
	s.withoutETag = true
	for name, c := range map[string]struct {
		packed []byte
		wrong  string
	}{
		"unsigned":               {bundletest.Pack(t, bundletest.Files("8", guardrail("a"))), "missing .signatures.json"},
		"signed by another":      {other.Packed(t, "8", guardrail("a")), "failed to verify JWT signature"},
		"truncated":              {good[:len(good)-20], "damaged"},
		"replayed":               {signer.Packed(t, "6", guardrail("a")), "revision 6 is older than 7"},
		"the revision again":     {signer.Packed(t, "7", guardrail("b")), "revision 7 again, with other contents"},
		"one that does not work": {signer.Packed(t, "8", map[string]string{"b.rego": "package tierwall.guardrails.b\n\ndeny contains x"}), "b.rego:3:15"},
		"too large":              {make([]byte, rego.MaxBundle+1), "more than"},
		"no bundle":              {[]byte("<html>sign in</html>"), "no tar.gz"},
	} {
		s.packed = c.packed
		t.Run(name, func(t *testing.T) { p.polls(t, 7, c.wrong) })
		t.Run(name+" again", func(t *testing.T) { p.polls(t, 7, c.wrong) })
	}
	s.packed, s.status = good, http.StatusInternalServerError
	p.polls(t, 7, "500 Internal Server Error")
	s.status, s.promised = http.StatusOK, len(good)+100
	p.polls(t, 7, "unexpected EOF")
	s.promised = 0
	p.polls(t, 7, "")
	s.Close()
	p.polls(t, 7, "connection refused")
	if want := []string{"7 a"}; !slices.Equal(p.used, want) {
		t.Errorf("in force came %q, want %q", p.used, want)
	}
	before := p.changes
	p.polls(t, 7, "connection refused")
	if before == 0 || p.changes != before {
		t.Errorf("%d changes, then %d", before, p.changes)
	}
}

// What is refused must be refused again, whatever ETag it has.
func TestARefusedBundleIsNotTakenForTheOneInForce(t *testing.T) {
	signer, s := bundletest.NewSigner(t), serve(t)
	p := play(t, signer, s.URL)
	s.packed = bundletest.Pack(t, bundletest.Files("8", guardrail("a")))
	p.polls(t, 0, "missing .signatures.json")
	p.polls(t, 0, "missing .signatures.json")
	if s.unchanged != 0 {
		t.Error("the ETag of a refused bundle was kept")
	}
}

func TestARestartCannotBeGivenAnOldBundle(t *testing.T) {
	signer, s := bundletest.NewSigner(t), serve(t)
	p := play(t, signer, s.URL)
	p.floor = 7
	s.packed = signer.Packed(t, "6", guardrail("a"))
	p.polls(t, 0, "revision 6 is older than 7")
	s.packed = signer.Packed(t, "7", guardrail("a"))
	p.polls(t, 7, "")
	p.Floor = func(context.Context) (int64, error) { return 0, errors.New("not known") }
	s.packed = signer.Packed(t, "12", guardrail("a"))
	p.polls(t, 7, "not known")
}

func TestARestartWhileTheServerIsAway(t *testing.T) {
	signer, s := bundletest.NewSigner(t), serve(t)
	first := play(t, signer, s.URL)
	s.packed = signer.Packed(t, "7", guardrail("a"))
	first.polls(t, 7, "")
	s.Close()
	second := play(t, signer, s.URL)
	second.File, second.floor = first.File, 7
	second.loadKeptBundle(t.Context())
	second.polls(t, 7, "connection refused")
	for name, change := range map[string]func(){
		"tampered":       func() { overwrite(t, first.File, bundletest.Pack(t, bundletest.Files("9", guardrail("b")))) },
		"old":            func() { overwrite(t, first.File, signer.Packed(t, "6", guardrail("b"))) },
		"empty":          func() { overwrite(t, first.File, nil) },
		"no file at all": func() { _ = os.Remove(first.File) },
	} {
		t.Run(name, func(t *testing.T) {
			third := play(t, signer, s.URL)
			third.File, third.floor = first.File, 7
			change()
			third.loadKeptBundle(t.Context())
			third.polls(t, 0, "connection refused")
		})
	}
}

func overwrite(t *testing.T, file string, with []byte) {
	t.Helper()
	if err := os.WriteFile(file, with, 0o600); err != nil {
		t.Fatal(err)
	}
}

// oci writes an OCI layout with an image for each reference.
func oci(t *testing.T, images map[string][]byte, kind types.MediaType) string {
	t.Helper()
	dir := t.TempDir()
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	for reference, packed := range images {
		image, err := mutate.AppendLayers(mutate.MediaType(empty.Image, types.OCIManifestSchema1), static.NewLayer(packed, kind))
		if err != nil {
			t.Fatal(err)
		}
		if err := path.AppendImage(image, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": reference})); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestABundleInAnOCILayout(t *testing.T) {
	signer := bundletest.NewSigner(t)
	packed := signer.Packed(t, "7", guardrail("a"))
	two := map[string][]byte{"latest": packed, "next": signer.Packed(t, "8", guardrail("b"))}
	one := map[string][]byte{"latest": packed}
	for name, c := range map[string]struct {
		place    string
		revision int64
		wrong    string
	}{
		"one image":          {"oci:" + oci(t, one, types.OCILayer), 7, ""},
		"one of two":         {"oci:" + oci(t, two, types.OCILayer) + "#next", 8, ""},
		"which of two":       {"oci:" + oci(t, two, types.OCILayer), 0, "2 images"},
		"none of that name":  {"oci:" + oci(t, one, types.OCILayer) + "#next", 0, "0 images"},
		"another media type": {"oci:" + oci(t, one, "text/plain"), 0, "text/plain"},
		"no layout":          {"oci:" + t.TempDir(), 0, "read the OCI layout"},
		"too large":          {"oci:" + oci(t, map[string][]byte{"x": make([]byte, rego.MaxBundle+1)}, types.OCILayer), 0, "more than"},
		"unsigned":           {"oci:" + oci(t, map[string][]byte{"x": bundletest.Pack(t, bundletest.Files("8", guardrail("a")))}, types.OCILayer), 0, "missing .signatures.json"},
	} {
		t.Run(name, func(t *testing.T) {
			p := play(t, signer, c.place)
			p.polls(t, c.revision, c.wrong)
			p.polls(t, c.revision, c.wrong)
			if len(p.used) > 1 {
				t.Errorf("in force came %q", p.used)
			}
		})
	}
}

func TestNoMessageHasThePassword(t *testing.T) {
	signer, s := bundletest.NewSigner(t), serve(t)
	s.status = http.StatusForbidden
	p := play(t, signer, strings.Replace(s.URL, "http://", "http://reader:secret@", 1))
	p.polls(t, 0, "reader:xxxxx@")
	s.Close()
	p.polls(t, 0, "connection refused")
	if err := p.State().Err; strings.Contains(err.Error(), "secret") {
		t.Error(err)
	}
}

func TestPlacesThatAreNone(t *testing.T) {
	for _, place := range []string{"", "oci:", "/etc/bundle", "ftp://example.com/b", "http://", "https:/x", "://"} {
		if _, err := NewBundleSource(place); err == nil {
			t.Errorf("%q is a place", place)
		}
	}
}

func TestThePollerEnds(t *testing.T) {
	signer, s := bundletest.NewSigner(t), serve(t)
	s.packed = signer.Packed(t, "7", guardrail("a"))
	p := play(t, signer, s.URL)
	ctx, cancel := context.WithCancel(t.Context())
	p.Use = func(*rego.Bundle) { cancel() }
	if err := p.Start(ctx); err != nil {
		t.Error(err)
	}
}
