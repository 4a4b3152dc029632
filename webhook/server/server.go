package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"

	"github.com/go-logr/logr"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/tierwall/tierwall/clustercache"
	"github.com/tierwall/tierwall/internal/delegated"
	"github.com/tierwall/tierwall/rego"
	"github.com/tierwall/tierwall/webhook/admit"
	"github.com/tierwall/tierwall/webhook/audit"
	"github.com/tierwall/tierwall/webhook/bundle"
	"github.com/tierwall/tierwall/webhook/certificate"
	"github.com/tierwall/tierwall/webhook/controllers"
	"github.com/tierwall/tierwall/webhook/guardrails"
	"github.com/tierwall/tierwall/webhook/registration"
	"github.com/tierwall/tierwall/webhook/snapshot"
)

// Server is an assembled webhook.
type Server struct {
	options           Options
	manager           manager.Manager
	watcher           *clustercache.Watcher
	broadcaster       *snapshot.SnapshotBroadcaster // what watcher knows
	guardrailStore    *guardrails.GuardrailStore
	certificateSource certificate.CertificateSource
	poller            *bundle.Poller // nil without a bundle
}

// New assembles a webhook for the API server of the config.
func New(config *rest.Config, o Options) (*Server, error) {
	watcher, err := clustercache.New(config, o.Defaults, o.Log)
	if err != nil {
		return nil, err
	}
	s := &Server{options: o, watcher: watcher, broadcaster: snapshot.NewSnapshotBroadcaster(watcher)}
	serving := &certificate.ServingCertificate{}
	if s.manager, err = newManager(config, o, serving.GetCertificate); err != nil {
		return nil, err
	}
	s.guardrailStore = guardrails.NewGuardrailStore(s.manager.GetCache(), o.Log)
	if s.certificateSource, err = newCertificateSource(config, s.manager.GetAPIReader(), o); err != nil {
		return nil, err
	}
	if s.poller, err = newPoller(o, s.guardrailStore, s.manager.GetCache()); err != nil {
		return nil, err
	}
	serving.Source = s.certificateSource
	serving.Published = func(ctx context.Context) ([]byte, error) {
		return registration.PublishedCABundle(ctx, s.manager.GetCache(), o.Validating)
	}
	if err := s.addRunnables(s.registerHandlers()); err != nil {
		return nil, err
	}
	return s, s.addChecks()
}

// RegisterMetrics adds the webhook's metrics to those that its manager serves.
// It is called once in a process.
func RegisterMetrics() error {
	return errors.Join(admit.RegisterMetrics(), guardrails.RegisterMetrics(), controllers.RegisterMetrics(), audit.RegisterMetrics(), bundle.RegisterMetrics())
}

// Run serves until ctx ends. It returns an error if the webhook cannot continue.
func (s *Server) Run(ctx context.Context) error { return s.manager.Start(ctx) }

func newScheme() (*runtime.Scheme, error) {
	out := clustercache.Scheme()
	for _, add := range []func(*runtime.Scheme) error{admissionv1.AddToScheme, discoveryv1.AddToScheme} {
		if err := add(out); err != nil {
			return nil, err
		}
	}
	return out, nil
}

type getCertificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)

func newManager(config *rest.Config, o Options, certificate getCertificate) (manager.Manager, error) {
	known, err := newScheme()
	if err != nil {
		return nil, err
	}
	reviews, err := newEndpoint(o, certificate)
	if err != nil {
		return nil, err
	}
	tlsOptions := []func(*tls.Config){func(c *tls.Config) {
		c.GetCertificate, c.MinVersion = certificate, tls.VersionTLS12
	}}
	m, err := manager.New(config, manager.Options{
		Scheme: known,
		Logger: logr.FromSlogHandler(o.Log.Handler()),
		// The watcher caches the objects that policy depends on; this cache holds the other kinds.
		Cache: cache.Options{DefaultTransform: cache.TransformStripManagedFields(), ByObject: map[client.Object]cache.ByObject{
			&admissionv1.ValidatingWebhookConfiguration{}: byNameSelector(o.Validating),
			&admissionv1.MutatingWebhookConfiguration{}:   byNameSelector(o.Mutating),
		}},
		LeaderElection: true, LeaderElectionID: o.Service, LeaderElectionNamespace: o.Namespace,
		LeaderElectionReleaseOnCancel: true,
		Metrics: metricsserver.Options{
			BindAddress: o.MetricsAddress, SecureServing: true,
			FilterProvider: filterMetrics(o.Log), TLSOpts: tlsOptions,
		},
		HealthProbeBindAddress: o.HealthAddress,
		WebhookServer:          reviews,
	})
	if err != nil {
		return nil, fmt.Errorf("make the manager: %w", err)
	}
	return m, nil
}

// filterMetrics allows the metrics to clients that the API server authenticates and authorizes.
func filterMetrics(log *slog.Logger) func(*rest.Config, *http.Client) (metricsserver.Filter, error) {
	return func(config *rest.Config, _ *http.Client) (metricsserver.Filter, error) {
		g, err := delegated.New(config, log)
		if err != nil {
			return nil, err
		}
		return func(_ logr.Logger, next http.Handler) (http.Handler, error) { return g.Handler(next), nil }, nil
	}
}

func byNameSelector(name string) cache.ByObject {
	return cache.ByObject{Field: fields.OneTermEqualSelector("metadata.name", name)}
}

func newCertificateSource(config *rest.Config, reader client.Reader, o Options) (certificate.CertificateSource, error) {
	if o.CertificateDir != "" {
		return certificate.NewMountedCertificate(o.CertificateDir)
	}
	secret := types.NamespacedName{Namespace: o.Namespace, Name: o.AuthoritySecret}
	return certificate.NewSelfIssuedCertificate(config, reader, secret, o.names(), o.Log), nil
}

// newPoller returns nil if no bundle is configured.
func newPoller(o Options, store *guardrails.GuardrailStore, reader client.Reader) (*bundle.Poller, error) {
	if o.Bundle.Place == "" {
		return nil, nil
	}
	source, err := bundle.NewBundleSource(o.Bundle.Place)
	if err != nil {
		return nil, fmt.Errorf("find the bundle: %w", err)
	}
	text, err := os.ReadFile(o.Bundle.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("read the key of the bundle: %w", err)
	}
	keys, err := rego.NewKeys(string(text), o.Bundle.Algorithm)
	if err != nil {
		return nil, fmt.Errorf("read the key of the bundle %s: %w", o.Bundle.KeyFile, err)
	}
	return &bundle.Poller{Source: source, Keys: keys, Interval: o.Bundle.Interval, Use: store.UseBundle, Changed: store.Notify,
		Floor: guardrails.NewestBundle(reader), File: o.Bundle.File, Log: o.Log}, nil
}

// bundleState returns a function that reads the bundle's status, or nil if no bundle is configured.
func (s *Server) bundleState() func() bundle.PollState {
	if s.poller == nil {
		return nil
	}
	return s.poller.State
}

// everyReplica is a Runnable that runs on every replica, not only on the leader.
type everyReplica func(context.Context) error

func (f everyReplica) Start(ctx context.Context) error { return f(ctx) }

func (everyReplica) NeedLeaderElection() bool { return false }

func (s *Server) addRunnables(reviewer *admit.Reviewer) error {
	o := s.options
	others, err := audit.NewOtherEngines(s.manager.GetConfig(), o.Log)
	if err != nil {
		return err
	}
	runnables := []manager.Runnable{
		s.watcher,
		s.broadcaster,
		everyReplica(s.certificateSource.Start),
		s.guardrailStore,
		&admit.Rechecker{Reviewer: reviewer, Recorder: s.manager.GetEventRecorder("tierwall-webhook")},
		&controllers.Reconciler{
			Snapshots: s.broadcaster, States: s.guardrailStore, GuardrailsChanged: s.guardrailStore.Changed(), Bundle: s.bundleState(),
			Cache: s.manager.GetCache(), Client: s.manager.GetClient(),
			Recorder: s.manager.GetEventRecorder("tierwall-webhook"), Log: o.Log,
		},
		&audit.Auditor{
			Snapshots: s.broadcaster, Guardrails: s.guardrailStore, Client: s.manager.GetClient(), Reader: s.manager.GetAPIReader(),
			Recorder: s.manager.GetEventRecorder("tierwall-audit"), Log: o.Log,
		},
		others,
		&registration.Reconciler{
			Webhooks: o.Webhooks, Validating: o.Validating, Mutating: o.Mutating,
			Cache: s.manager.GetCache(), Client: s.manager.GetClient(),
			Source: s.certificateSource, Ready: s.checkReachable, Log: o.Log,
		},
	}
	if o.MetricsSecret != "" {
		runnables = append(runnables, &certificate.SharedCertificate{
			Secret:   types.NamespacedName{Namespace: o.Namespace, Name: o.MetricsSecret},
			DNSNames: o.MetricsNames, Reader: s.manager.GetAPIReader(), Client: s.manager.GetClient(), Log: o.Log,
		})
	}
	if s.poller != nil {
		runnables = append(runnables, s.poller)
	}
	for _, r := range runnables {
		if err := s.manager.Add(r); err != nil {
			return fmt.Errorf("add %T: %w", r, err)
		}
	}
	return nil
}
