//go:build admission

package admission

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-logr/logr"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/test/apiserver"
	"github.com/tierwall/tierwall/webhook/server"
)

// world is what the tests share: an API server with the chart, and the webhook.
var world struct {
	api   *apiserver.Server
	chart *chart
	// admin may do everything; warnings are what the API server told it.
	admin    client.Client
	clients  kubernetes.Interface
	warnings *warnings
	webhook  *process
	bundles  *shelf
}

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "tierwall-admission-")
	if err != nil {
		return failed("make a directory", err)
	}
	defer os.RemoveAll(dir)
	log := slog.New(slog.NewTextHandler(logFile(dir), nil))
	ctrllog.SetLogger(logr.FromSlogHandler(log.Handler()))
	klog.SetSlogLogger(log)
	world.api, err = apiserver.Start(ctx, apiserver.Options{Dir: dir})
	if world.api != nil {
		defer world.api.Close()
	}
	if err != nil {
		return failed("start the API server", err)
	}
	if err := server.RegisterMetrics(); err != nil {
		return failed("register the metrics", err)
	}
	if err := prepare(ctx); err != nil {
		return failed("prepare the cluster", err)
	}
	if world.bundles, err = newShelf(dir); err != nil {
		return failed("serve bundles", err)
	}
	defer world.bundles.Close()
	if world.webhook, err = startWebhook(ctx, log, ""); err != nil {
		return failed("start the webhook", err)
	}
	defer func() { _ = world.webhook.stop() }()
	return m.Run()
}

func failed(what string, err error) int {
	fmt.Fprintf(os.Stderr, "%s: %v\n", what, err)
	return 1
}

// logFile is where the webhook's log goes: to a file, or to standard error with TIERWALL_TEST_LOG set.
func logFile(dir string) *os.File {
	if os.Getenv("TIERWALL_TEST_LOG") != "" {
		return os.Stderr
	}
	f, err := os.Create(filepath.Join(dir, "webhook.log"))
	if err != nil {
		return os.Stderr
	}
	return f
}

func scheme() *runtime.Scheme {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, policyv1alpha2.Install, v1alpha1.AddToScheme} {
		if err := add(s); err != nil {
			panic(err)
		}
	}
	return s
}

// prepare installs the chart, and a policy that nobody judges yet.
func prepare(ctx context.Context) error {
	config := world.api.Config(apiserver.Admin)
	world.warnings = &warnings{}
	config.WarningHandlerWithContext = world.warnings
	var err error
	if world.admin, err = client.New(config, client.Options{Scheme: scheme()}); err != nil {
		return err
	}
	if world.clients, err = kubernetes.NewForConfig(config); err != nil {
		return err
	}
	if world.chart, err = renderChart(ctx); err != nil {
		return err
	}
	if err := makeNamespace(ctx, systemNamespace); err != nil {
		return err
	}
	if err := world.chart.install(ctx, world.admin); err != nil {
		return err
	}
	if err := makeLegacy(ctx); err != nil {
		return fmt.Errorf("make what was there before: %w", err)
	}
	return retried(ctx, func() error { return world.admin.Create(ctx, older()) })
}

// makeNamespace makes a namespace with the service accounts that pods need,
// which a controller would make.
func makeNamespace(ctx context.Context, name string, accounts ...string) error {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if err := retried(ctx, func() error { return world.admin.Create(ctx, ns.DeepCopy()) }); err != nil {
		return err
	}
	for _, a := range append(accounts, "default") {
		sa := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: a}}
		if err := retried(ctx, func() error { return world.admin.Create(ctx, sa.DeepCopy()) }); err != nil {
			return fmt.Errorf("service account %s/%s: %w", name, a, err)
		}
	}
	return nil
}

// readyEndpoint makes the EndpointSlice of a replica that is ready. Nothing
// connects to its address: the webhooks of the tests have URLs.
func readyEndpoint(ctx context.Context) error {
	ready, port := true, int32(9443)
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: systemNamespace, Name: "tierwall-webhook-1",
			Labels: map[string]string{discoveryv1.LabelServiceName: "tierwall-webhook"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{"192.0.2.1"}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}}},
		Ports:       []discoveryv1.EndpointPort{{Port: &port}},
	}
	return retried(ctx, func() error { return world.admin.Create(ctx, slice.DeepCopy()) })
}

// process is a running webhook.
type process struct {
	cancel        context.CancelFunc
	done          chan error
	metrics, port int
	health        string
}

// startWebhook runs the webhook with the permissions that the chart gives it,
// and waits until the API server asks it. Without a directory of certificates
// it issues its own.
func startWebhook(ctx context.Context, log *slog.Logger, certificates string) (*process, error) {
	ports, err := apiserver.FreePorts(3)
	if err != nil {
		return nil, err
	}
	hooks, err := world.chart.webhooks(ports[0])
	if err != nil {
		return nil, err
	}
	if err := world.chart.pinTo(ctx, world.admin, ports[0]); err != nil {
		return nil, fmt.Errorf("pin the webhooks: %w", err)
	}
	srv, err := server.New(world.api.Config(apiserver.Webhook), server.Options{
		Defaults:  policy.Defaults{Namespaces: defaultActions(), Exempt: []string{"kube-system", systemNamespace}},
		Namespace: systemNamespace, Service: "tierwall-webhook", DNSNames: []string{"localhost"},
		CertificateDir: certificates, AuthoritySecret: "tierwall-webhook-ca", Webhooks: hooks, Validating: "tierwall", Mutating: "tierwall",
		MetricsSecret: "tierwall-enforcer-metrics", MetricsNames: []string{"tierwall-enforcer-metrics.tierwall-system.svc"},
		AwaitEndpoints: true, Host: "127.0.0.1", Port: ports[0], MetricsAddress: fmt.Sprintf("127.0.0.1:%d", ports[1]),
		HealthAddress: fmt.Sprintf("127.0.0.1:%d", ports[2]), Bundle: world.bundles.options(), Log: log,
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	p := &process{cancel: cancel, done: make(chan error, 1), metrics: ports[1], port: ports[0],
		health: fmt.Sprintf("http://127.0.0.1:%d", ports[2])}
	go func() { p.done <- srv.Run(ctx) }()
	if err := p.waitReady(ctx); err != nil {
		return p, errors.Join(err, p.stop())
	}
	if err := readyEndpoint(ctx); err != nil {
		return p, errors.Join(err, p.stop())
	}
	if err := waitActive(ctx, ports[0]); err != nil {
		return p, errors.Join(err, p.stop())
	}
	return p, nil
}

// stop ends the webhook and waits for its end.
func (p *process) stop() error {
	p.cancel()
	err := <-p.done
	p.done <- err
	return err
}

func (p *process) waitReady(ctx context.Context) error {
	return eventually(ctx, func() error {
		select {
		case err := <-p.done:
			p.done <- err
			return fmt.Errorf("the webhook ended: %w", err)
		default:
		}
		answer, err := http.Get(p.health + "/readyz")
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			return fmt.Errorf("readyz: %s", answer.Status)
		}
		return nil
	})
}

// waitActive waits until the configurations name the port.
func waitActive(ctx context.Context, port int) error {
	want := address(port, "/policies")
	return eventually(ctx, func() error {
		v, m := &admissionv1.ValidatingWebhookConfiguration{}, &admissionv1.MutatingWebhookConfiguration{}
		if err := world.admin.Get(ctx, types.NamespacedName{Name: "tierwall"}, v); err != nil {
			return err
		}
		if err := world.admin.Get(ctx, types.NamespacedName{Name: "tierwall"}, m); err != nil {
			return err
		}
		if len(v.Webhooks) == 0 || len(m.Webhooks) == 0 || *v.Webhooks[0].ClientConfig.URL != want {
			return errors.New("the configurations are not filled")
		}
		return asked(ctx)
	})
}

// asked reports whether the API server already asks the webhook: it hears of the
// configurations a moment after they are written.
func asked(ctx context.Context) error {
	bad := &v1alpha1.TierRole{ObjectMeta: metav1.ObjectMeta{Name: "probe"}, Spec: v1alpha1.TierRoleSpec{
		Role: "probe", Namespaces: []string{"probe"},
		PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{v1alpha1.RoleLabel: "x"}},
	}}
	if err := world.admin.Create(ctx, bad, client.DryRunAll); err == nil {
		return errors.New("the API server does not ask the webhook yet")
	}
	return nil
}

func local(c *admissionv1.WebhookClientConfig, port int) {
	url := address(port, *c.Service.Path)
	c.Service, c.URL = nil, &url
}

func address(port int, path string) string { return fmt.Sprintf("https://localhost:%d%s", port, path) }

// eventually tries until it works or two minutes are over.
func eventually(ctx context.Context, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

var _ rest.WarningHandlerWithContext = &warnings{}
