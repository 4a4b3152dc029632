//go:build admission

package admission

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/rego/bundletest"
	"github.com/tierwall/tierwall/test/apiserver"
	"github.com/tierwall/tierwall/webhook/server"
)

// shelf is an HTTP server with a bundle on it, or none.
type shelf struct {
	*httptest.Server
	dir    string
	signer bundletest.Signer

	mu     sync.Mutex
	packed []byte
}

// must ends the tests where there is none to fail yet.
type must struct{}

func (must) Helper()        {}
func (must) Fatal(a ...any) { panic(fmt.Sprint(a...)) }

func newShelf(dir string) (*shelf, error) {
	s := &shelf{dir: dir, signer: bundletest.NewSigner(must{})}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.packed == nil {
			w.WriteHeader(http.StatusNotFound)
		}
		_, _ = w.Write(s.packed)
	}))
	return s, os.WriteFile(filepath.Join(dir, "bundle.pem"), []byte(s.signer.Public), 0o600)
}

func (s *shelf) options() server.BundleOptions {
	return server.BundleOptions{Place: s.URL, KeyFile: filepath.Join(s.dir, "bundle.pem"), Algorithm: "ES256", Interval: time.Second,
		File: filepath.Join(s.dir, "bundle.tar.gz")}
}

func (s *shelf) put(packed []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.packed = packed
}

// forbidding are the files of a bundle whose guardrail forbids policies of a name.
func forbidding(name string) map[string]string {
	return map[string]string{
		"names.rego": "package tierwall.guardrails.names\n\ndeny contains \"this name is taken\" if input.request.name == \"" + name + "\"\n",
		"names_test.rego": "package tierwall.guardrails.names_test\n\nimport data.tierwall.guardrails.names\n\n" +
			"test_it if count(names.deny) == 1 with input as {\"request\": {\"name\": \"" + name + "\"}}\n",
	}
}

// bundle checks what the status of the Guardrail says of its bundle.
func bundle(t *testing.T, revision int64, status metav1.ConditionStatus, says string) error {
	t.Helper()
	g := &v1alpha1.Guardrail{}
	if err := world.admin.Get(t.Context(), types.NamespacedName{Name: "bundled"}, g); err != nil {
		return err
	}
	c := meta.FindStatusCondition(g.Status.Conditions, "BundleCurrent")
	if c == nil || c.Status != status || !strings.Contains(c.Message, says) || g.Status.BundleRevision != revision {
		return fmt.Errorf("revision %d, condition %+v; want %d, %s, %q", g.Status.BundleRevision, c, revision, status, says)
	}
	return nil
}

// forbidden reports whether policies of the name are refused.
func forbidden(t *testing.T, name string) error {
	t.Helper()
	err := world.admin.Create(t.Context(), toTier("bundled", name, "backend", fromTier("frontend")), client.DryRunAll)
	if err == nil || !strings.Contains(err.Error(), "this name is taken (Guardrail bundled") {
		return fmt.Errorf("policy %s is answered %w", name, errors.Join(errors.New("otherwise"), err))
	}
	return nil
}

func TestGuardrailsOfABundle(t *testing.T) {
	shop(t, "bundled")
	s, signer := world.bundles, world.bundles.signer
	g := &v1alpha1.Guardrail{ObjectMeta: metav1.ObjectMeta{Name: "bundled"}, Spec: v1alpha1.GuardrailSpec{Bundle: "names", Namespaces: []string{"bundled"}}}
	refusedWith(t, world.admin.Create(t.Context(), g.DeepCopy()), "spec.bundle", "there is no bundle")
	s.put(signer.Packed(t, "7", forbidding("secret")))
	becomes(t, "there", func() error { return world.admin.Create(t.Context(), g.DeepCopy(), client.DryRunAll) })
	create(t, g)
	becomes(t, "in force", func() error { return forbidden(t, "secret") })
	becomes(t, "reported", func() error { return bundle(t, 7, metav1.ConditionTrue, "revision 7") })

	s.put(bundletest.Pack(t, bundletest.Files("8", forbidding("other"))))
	becomes(t, "refused", func() error {
		return bundle(t, 7, metav1.ConditionFalse, "revision 7 stays in force: read the bundle: bundle missing .signatures.json")
	})
	if err := forbidden(t, "secret"); err != nil {
		t.Error(err)
	}

	s.put(signer.Packed(t, "9", forbidding("public")))
	becomes(t, "renewed", func() error { return forbidden(t, "public") })
	becomes(t, "without the old one", func() error {
		return world.admin.Create(t.Context(), toTier("bundled", "secret", "backend", fromTier("frontend")), client.DryRunAll)
	})
	becomes(t, "reported", func() error { return bundle(t, 9, metav1.ConditionTrue, "revision 9") })

	s.put(signer.Packed(t, "7", forbidding("secret")))
	becomes(t, "not older", func() error {
		return bundle(t, 9, metav1.ConditionFalse, "revision 9 stays in force: the bundle's revision 7 is older than 9")
	})
	s.put(nil)
	becomes(t, "away", func() error { return bundle(t, 9, metav1.ConditionFalse, "404 Not Found") })
	if err := forbidden(t, "public"); err != nil {
		t.Error(err)
	}
	if status, body := metrics(t, apiserver.Admin); status != http.StatusOK || !strings.Contains(body, "tierwall_bundle_revision 9") {
		t.Errorf("metrics: status %d, no revision 9", status)
	}
}
