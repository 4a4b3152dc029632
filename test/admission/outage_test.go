//go:build admission

package admission

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	certutil "k8s.io/client-go/util/cert"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/test/apiserver"
)

// restart starts the webhook again, at another port.
func restart(t *testing.T, certificates string) {
	t.Helper()
	p, err := startWebhook(context.Background(), slog.New(slog.DiscardHandler), certificates)
	if err != nil {
		t.Fatalf("start the webhook again: %v", err)
	}
	world.webhook = p
}

func TestAnOutageOfTheWebhook(t *testing.T) {
	if err := makeNamespace(t.Context(), "kube-system"); err != nil {
		t.Fatal(err)
	}
	shop(t, "outage")
	before := pod("outage", "before", "default")
	create(t, before)
	labelled := podsFor(t, "outage", "web", forgeries)
	standing := toTier("outage", "standing", "data", fromTier("backend"))
	create(t, standing)
	going := &v1alpha1.TierRole{ObjectMeta: metav1.ObjectMeta{Name: "outage-going"},
		Spec: v1alpha1.TierRoleSpec{Role: "x", Namespaces: []string{"nowhere"}}}
	create(t, going)
	if err := world.webhook.stop(); err != nil {
		t.Fatal(err)
	}
	late := pod("outage", "late", "web", v1alpha1.RoleLabel+"=data")
	t.Run("pods start", func(t *testing.T) {
		if err := world.admin.Create(t.Context(), late); err != nil {
			t.Fatal(err)
		}
		if err := bind(map[string]string{"topology.kubernetes.io/zone": "a"})(t.Context(), late); err != nil {
			t.Errorf("the scheduler's binding: %v", err)
		}
		status := []byte(`{"status":{"phase":"Running"}}`)
		if err := world.admin.Status().Patch(t.Context(), late.DeepCopy(), client.RawPatch(types.MergePatchType, status)); err != nil {
			t.Errorf("the kubelet's status: %v", err)
		}
	})
	t.Run("role labels stay", func(t *testing.T) { tryMoves(t, labelled, "frontend", forgeries) })
	t.Run("bound labels stay", func(t *testing.T) {
		for _, m := range detours {
			if m.refusal == "" {
				continue
			}
			if err := m.try(t.Context(), before); err == nil {
				t.Errorf("%s: admitted", m.name)
			}
		}
	})
	t.Run("all other labels stay too", func(t *testing.T) {
		for _, m := range []move{{"label", patch(`"version":"2"`), ""}, {"status", patch(`"version":"2"`, "status"), ""},
			{"binding", bind(map[string]string{"version": "2"}), ""}} {
			unasked(t, m.name, m.try(t.Context(), before))
		}
	})
	t.Run("policies wait", func(t *testing.T) {
		unasked(t, "create", world.admin.Create(t.Context(), toTier("outage", "x", "data", fromTier("backend"))))
		unasked(t, "annotate", world.admin.Patch(t.Context(), standing.DeepCopy(), annotation))
		unasked(t, "delete", world.admin.Delete(t.Context(), standing))
	})
	t.Run("TierRoles wait", func(t *testing.T) {
		unasked(t, "annotate", world.admin.Patch(t.Context(), going.DeepCopy(), annotation))
		unasked(t, "delete", world.admin.Delete(t.Context(), going))
	})
	t.Run("labels of namespaces stay", func(t *testing.T) {
		for _, m := range namespaceMoves {
			unasked(t, m.name, m.try(t.Context()))
		}
		stays(t)
	})
	t.Run("pods start whatever they claim", func(t *testing.T) { tryBirths(t, "outage", false) })
	t.Run("templates are told of", func(t *testing.T) { tellsOfTemplates(t, "outage") })
	t.Run("what is not guarded goes on", func(t *testing.T) {
		create(t, toTier("kube-system", "outage", "data", fromTier("backend")))
		create(t, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "outage", Name: "x"}})
		if err := world.admin.Patch(t.Context(), namespaceObject("outage"), annotation); err != nil {
			t.Errorf("annotate a namespace: %v", err)
		}
		if err := makeNamespace(t.Context(), "made-in-an-outage"); err != nil {
			t.Errorf("make a namespace: %v", err)
		}
		if err := world.admin.Delete(t.Context(), namespaceObject("made-in-an-outage")); err != nil {
			t.Errorf("delete a namespace: %v", err)
		}
		relabel := []byte(`{"metadata":{"labels":{"outage":"yes"}}}`)
		if err := world.admin.Patch(t.Context(), namespaceObject("kube-system"), client.RawPatch(types.MergePatchType, relabel)); err != nil {
			t.Errorf("label an exempt namespace: %v", err)
		}
		metadata := []byte(`{"metadata":{"annotations":{"a":"b"},"finalizers":["example.com/x"],"ownerReferences":[{"apiVersion":"v1","kind":"ConfigMap","name":"x","uid":"1"}]}}`)
		for _, change := range []client.Patch{client.RawPatch(types.MergePatchType, metadata), client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`))} {
			if err := world.admin.Patch(t.Context(), late.DeepCopy(), change); err != nil {
				t.Errorf("change a pod's metadata: %v", err)
			}
		}
		exempt := pod("kube-system", "outage", "default", "a=b")
		create(t, exempt)
		if err := patch(`"a":"c"`)(t.Context(), exempt); err != nil {
			t.Errorf("label a pod of an exempt namespace: %v", err)
		}
		remove(t, labelled[0])
	})
	restart(t, "")
	becomes(t, "repaired after the outage", func() error {
		if got := role(t, late); got != "frontend" {
			return fmt.Errorf("role label %q, want frontend", got)
		}
		return nil
	})
	becomes(t, "repaired whatever they claimed", func() error { return trueRoles(t.Context(), "outage") })
	if err := world.admin.DeleteAllOf(t.Context(), &corev1.Pod{}, client.InNamespace("outage"), client.GracePeriodSeconds(0)); err != nil {
		t.Error(err)
	}
}

// trueRoles checks the labels of the pods of births.
func trueRoles(ctx context.Context, namespace string) error {
	list := &corev1.PodList{}
	if err := world.admin.List(ctx, list, client.InNamespace(namespace)); err != nil {
		return err
	}
	found := 0
	for _, p := range list.Items {
		if !strings.HasPrefix(p.Name, "birth-") {
			continue
		}
		found++
		want := map[string]string{"web": "frontend", "postgres": "data"}[p.Spec.ServiceAccountName]
		if p.Labels[v1alpha1.RoleLabel] != want {
			return fmt.Errorf("pod %s of %q has role label %q, want %q", p.Name, p.Spec.ServiceAccountName, p.Labels[v1alpha1.RoleLabel], want)
		}
	}
	if found != len(births) {
		return fmt.Errorf("%d pods, want %d", found, len(births))
	}
	return nil
}

var annotation = client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"annotations":{"a":"b"}}}`))

// unasked checks that the API server refused because it could not ask.
func unasked(t *testing.T, what string, err error) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), "failed calling webhook") {
		t.Errorf("%s: got error %v, want one that says that the webhook cannot be called", what, err)
	}
}

func configurations(t *testing.T) (*admissionv1.ValidatingWebhookConfiguration, *admissionv1.MutatingWebhookConfiguration) {
	t.Helper()
	v, m := &admissionv1.ValidatingWebhookConfiguration{}, &admissionv1.MutatingWebhookConfiguration{}
	for _, o := range []client.Object{v, m} {
		if err := world.admin.Get(t.Context(), types.NamespacedName{Name: "tierwall"}, o); err != nil {
			t.Fatal(err)
		}
	}
	return v, m
}

func TestTheConfigurationsAreMended(t *testing.T) {
	v, m := configurations(t)
	hooks, policy := len(v.Webhooks), admissionv1.Ignore
	v.Webhooks[0].FailurePolicy = &policy
	v.Webhooks = v.Webhooks[:2]
	m.Webhooks = nil
	for _, o := range []client.Object{v, m} {
		if err := world.admin.Update(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	becomes(t, "mended", func() error {
		v, m := configurations(t)
		if len(v.Webhooks) != hooks || *v.Webhooks[0].FailurePolicy != admissionv1.Fail || len(m.Webhooks) != 1 {
			return fmt.Errorf("%d validating webhooks, the first %s; %d mutating", len(v.Webhooks), *v.Webhooks[0].FailurePolicy, len(m.Webhooks))
		}
		return nil
	})
}

// What the file says is what the API server stores: nothing is written again and again.
func TestTheConfigurationsAreAtRest(t *testing.T) {
	v, m := configurations(t)
	want, err := world.chart.webhooks(world.webhook.port)
	if err != nil {
		t.Fatal(err)
	}
	for i := range want.Validating {
		want.Validating[i].ClientConfig.CABundle = v.Webhooks[i].ClientConfig.CABundle
	}
	for i := range want.Mutating {
		want.Mutating[i].ClientConfig.CABundle = m.Webhooks[i].ClientConfig.CABundle
	}
	if diff := cmp.Diff(want.Validating, v.Webhooks); diff != "" {
		t.Errorf("validating webhooks: %s", diff)
	}
	if diff := cmp.Diff(want.Mutating, m.Webhooks); diff != "" {
		t.Errorf("mutating webhooks: %s", diff)
	}
}

func TestUninstallationIsNotUndone(t *testing.T) {
	v, m := configurations(t)
	for _, o := range []client.Object{v, m} {
		if err := world.admin.Delete(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	defer func() {
		v.ResourceVersion, v.UID, m.ResourceVersion, m.UID = "", "", "", ""
		v.Webhooks, m.Webhooks = nil, nil
		for _, o := range []client.Object{v, m} {
			if err := world.admin.Create(t.Context(), o); err != nil {
				t.Error(err)
			}
		}
		becomes(t, "active again", func() error { return asked(t.Context()) })
	}()
	// Without the configurations nobody asks: an invalid TierRole gets in.
	becomes(t, "inactive", func() error {
		if asked(t.Context()) == nil {
			return errors.New("the webhook is still asked")
		}
		return nil
	})
	err := world.admin.Get(t.Context(), types.NamespacedName{Name: "tierwall"}, &admissionv1.ValidatingWebhookConfiguration{})
	if !apierrors.IsNotFound(err) {
		t.Errorf("got %v, want the configuration to stay away", err)
	}
	webhook, err := client.New(world.api.Config(apiserver.Webhook), client.Options{Scheme: scheme()})
	if err != nil {
		t.Fatal(err)
	}
	again := &admissionv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "tierwall"}}
	if err := webhook.Create(t.Context(), again); !apierrors.IsForbidden(err) {
		t.Errorf("the webhook's account makes a configuration: got error %v", err)
	}
}

// A new authority is published before certificates of it are served: requests
// go through all the while.
func TestTheAuthorityRotatesWithoutLosingARequest(t *testing.T) {
	shop(t, "rotation")
	secret := &corev1.Secret{}
	key := types.NamespacedName{Namespace: systemNamespace, Name: "tierwall-webhook-ca"}
	if err := world.admin.Get(t.Context(), key, secret); err != nil {
		t.Fatal(err)
	}
	before := string(secret.Data["tls.crt"])
	if before == "" {
		t.Fatal("the Secret has no authority")
	}
	secret.Data = nil
	if err := world.admin.Update(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	load, published := startLoad(t, "rotation"), false
	becomes(t, "rotated", func() error {
		if err := world.admin.Get(t.Context(), key, secret); err != nil {
			return err
		}
		now := string(secret.Data["tls.crt"])
		if now == "" || now == before {
			return errors.New("the authority is the same")
		}
		v, m := configurations(t)
		bundle := string(v.Webhooks[0].ClientConfig.CABundle)
		published = published || strings.Contains(bundle, now) && strings.Contains(bundle, before) && string(m.Webhooks[0].ClientConfig.CABundle) == bundle
		if !published {
			return errors.New("the new authority is not published beside the old one")
		}
		return serves(now)
	})
	load.stop(t)
}

// load is requests that the webhook is to refuse, one after the other from several users.
type load struct {
	ctx     context.Context
	end     context.CancelFunc
	users   sync.WaitGroup
	judged  atomic.Int64
	lost    sync.Map // errors that are no refusals
	enough  int64
	refusal string
}

func startLoad(t *testing.T, namespace string) *load {
	l := &load{enough: 50, refusal: "Guardrail data-tier-inside"}
	l.ctx, l.end = context.WithCancel(context.Background())
	t.Cleanup(l.end)
	for range 4 {
		l.users.Go(func() {
			for l.ctx.Err() == nil {
				err := world.admin.Create(context.Background(), toTier(namespace, "open", "data", fromBlock("0.0.0.0/0")), client.DryRunAll)
				if !contains(err, l.refusal) {
					l.lost.Store(fmt.Sprint(err), true)
				}
				l.judged.Add(1)
			}
		})
	}
	return l
}

// stop ends the load, once there was enough of it, and checks that every request was judged.
func (l *load) stop(t *testing.T) {
	t.Helper()
	after := l.judged.Load() + l.enough
	becomes(t, "judged", func() error {
		if n := l.judged.Load(); n < after {
			return fmt.Errorf("only %d requests were judged, want %d", n, after)
		}
		return nil
	})
	l.end()
	l.users.Wait()
	l.lost.Range(func(err, _ any) bool {
		t.Errorf("a request was lost: %v", err)
		return true
	})
}

// cert-manager's certificates come as files, and are replaced as files. A new
// authority and a certificate of it come together: the webhook publishes the one
// before it shows the other.
func TestCertificatesOfFilesAreFollowed(t *testing.T) {
	shop(t, "files")
	dir := t.TempDir()
	mount(t, dir)
	if err := world.webhook.stop(); err != nil {
		t.Fatal(err)
	}
	restart(t, dir)
	defer func() {
		if err := world.webhook.stop(); err != nil {
			t.Error(err)
		}
		restart(t, "")
	}()
	judged := func() {
		open := toTier("files", "open", "data", fromBlock("0.0.0.0/0"))
		refusedWith(t, world.admin.Create(t.Context(), open, client.DryRunAll), "Guardrail data-tier-inside")
	}
	judged()
	next := mount(t, dir)
	becomes(t, "followed", func() error {
		judged()
		return serves(next)
	})
	judged()
}

// mount writes the files of a Secret with a new authority, which it gives back.
func mount(t *testing.T, dir string) string {
	t.Helper()
	chain, key, err := certutil.GenerateSelfSignedCertKey("localhost", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	certs, err := certutil.ParseCertsPEM(chain)
	if err != nil {
		t.Fatal(err)
	}
	authority, err := certutil.EncodeCertificates(certs[len(certs)-1])
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{"ca.crt": authority, "tls.crt": chain, "tls.key": key} {
		if err := os.WriteFile(filepath.Join(dir, ".next"), text, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, ".next"), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return string(authority)
}

// serves reports whether the webhook shows a certificate of the authority.
func serves(authority string) error {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(authority)) {
		return errors.New("the authority is no certificate")
	}
	conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", world.webhook.port), &tls.Config{RootCAs: pool, ServerName: "localhost"})
	if err != nil {
		return err
	}
	return conn.Close()
}

func TestMetricsAreForThoseWhoMayReadThem(t *testing.T) {
	for user, want := range map[string]int{
		apiserver.Admin: http.StatusOK, apiserver.Webhook: http.StatusForbidden, "": http.StatusUnauthorized,
		"nobody": http.StatusUnauthorized, // the API server knows no such token
	} {
		t.Run("user "+user, func(t *testing.T) {
			status, body := metrics(t, user)
			if status != want {
				t.Errorf("status %d, want %d: %s", status, want, body)
			}
			for _, name := range []string{"tierwall_guardrails", "controller_runtime_webhook_requests_total"} {
				if has := strings.Contains(body, name); has != (want == http.StatusOK) {
					t.Errorf("metric %s is there: %v", name, has)
				}
			}
		})
	}
}

func metrics(t *testing.T, token string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("https://127.0.0.1:%d/metrics", world.webhook.metrics), nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	insecure := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer insecure.CloseIdleConnections()
	answer, err := insecure.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(body)
}
