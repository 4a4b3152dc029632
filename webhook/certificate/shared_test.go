package certificate

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// secretStore is an API server with one Secret.
type secretStore struct {
	client.Client

	secret  corev1.Secret
	updates int
	down    bool
}

func (s *secretStore) Get(_ context.Context, _ client.ObjectKey, o client.Object, _ ...client.GetOption) error {
	if s.down {
		return errors.New("away")
	}
	s.secret.DeepCopyInto(o.(*corev1.Secret))
	return nil
}

func (s *secretStore) Update(_ context.Context, o client.Object, _ ...client.UpdateOption) error {
	s.updates++
	o.(*corev1.Secret).DeepCopyInto(&s.secret)
	return nil
}

// verify verifies the Secret's certificate as a client of the name would.
func (s *secretStore) verify(t *testing.T, roots []byte, name string, now time.Time) error {
	t.Helper()
	pair, err := tls.X509KeyPair(s.secret.Data["tls.crt"], s.secret.Data["tls.key"])
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(roots)
	_, err = leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: name, CurrentTime: now})
	return err
}

func TestASharedCertificateIsKept(t *testing.T) {
	const name = "tierwall-enforcer-metrics.tierwall-system.svc"
	store := &secretStore{}
	s := &SharedCertificate{Secret: types.NamespacedName{Namespace: "tierwall-system", Name: "x"}, DNSNames: []string{name},
		Reader: store, Client: store, Log: slog.New(slog.DiscardHandler)}
	now := time.Now()
	keep := func(updates int) {
		t.Helper()
		if err := s.renewIfDue(t.Context(), now); err != nil {
			t.Fatal(err)
		}
		if store.updates != updates {
			t.Fatalf("%d updates, want %d", store.updates, updates)
		}
		if err := store.verify(t, store.secret.Data["ca.crt"], name, now); err != nil {
			t.Fatal(err)
		}
	}
	keep(1)
	keep(1)
	if err := store.verify(t, store.secret.Data["ca.crt"], "tierwall-webhook.tierwall-system.svc", now); err == nil {
		t.Error("the certificate is good for another name")
	}
	old := store.secret.DeepCopy()

	now = now.Add(sharedDuration - sharedRenewal + time.Minute)
	keep(2)
	previous := secretStore{secret: *old}
	if err := previous.verify(t, store.secret.Data["ca.crt"], name, now); err != nil {
		t.Errorf("a server that has the old certificate yet is not verified: %v", err)
	}
	for what, spoil := range map[string]func(map[string][]byte){
		"no key":            func(d map[string][]byte) { delete(d, "tls.key") },
		"no certificate":    func(d map[string][]byte) { d["tls.crt"] = []byte("none") },
		"no authority":      func(d map[string][]byte) { d["ca.crt"] = []byte("none") },
		"another authority": func(d map[string][]byte) { d["ca.crt"] = foreignAuthority(t, now) },
		"nothing":           func(d map[string][]byte) { clear(d) },
	} {
		before := store.updates
		spoil(store.secret.Data)
		keep(before + 1)
		if store.updates != before+1 {
			t.Errorf("%s: not renewed", what)
		}
	}
	s.DNSNames = []string{name, "localhost"}
	keep(store.updates + 1)
	store.down = true
	if err := s.renewIfDue(t.Context(), now); err == nil || !strings.Contains(err.Error(), "away") {
		t.Errorf("error %v", err)
	}
}

// The authority's key is nowhere: the Secret's key signs for nobody.
func TestTheKeyOfASharedCertificateSignsNothing(t *testing.T) {
	authority, cert, key, err := issueShared([]string{"a.example"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tls.X509KeyPair(cert, key); err != nil {
		t.Error(err)
	}
	if _, err := tls.X509KeyPair(authority, key); err == nil {
		t.Error("the key is the authority's")
	}
	block, _ := pem.Decode(cert)
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil || leaf.IsCA || leaf.KeyUsage&x509.KeyUsageCertSign != 0 {
		t.Errorf("the certificate may sign: %v", err)
	}
}

func foreignAuthority(t *testing.T, now time.Time) []byte {
	t.Helper()
	authority, _, _, err := issueShared([]string{"other.example"}, now)
	if err != nil {
		t.Fatal(err)
	}
	return authority
}
