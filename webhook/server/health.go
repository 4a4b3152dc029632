package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	discoveryv1 "k8s.io/api/discovery/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
)

// addChecks adds the checks of /healthz, which reports that the process runs, and of /readyz, which reports that
// it can answer reviews.
func (s *Server) addChecks() error {
	checks := map[string]healthz.Checker{
		"certificate": func(*http.Request) error { return s.checkCertificate() },
		"cluster":     func(*http.Request) error { return s.checkSynced() },
		"guardrails":  func(*http.Request) error { return s.checkGuardrails() },
		"bundle":      func(*http.Request) error { return s.checkBundlePolled() },
		"server":      s.checkPort,
	}
	for name, check := range checks {
		if err := s.manager.AddReadyzCheck(name, check); err != nil {
			return fmt.Errorf("add the readiness check %s: %w", name, err)
		}
	}
	return s.manager.AddHealthzCheck("ping", healthz.Ping)
}

func (s *Server) checkCertificate() error {
	_, err := s.certificateSource.GetCertificate(nil)
	return err
}

func (s *Server) checkSynced() error {
	if !s.broadcaster.Synced() {
		return errors.New("not in sync yet")
	}
	return nil
}

func (s *Server) checkGuardrails() error {
	if !s.guardrailStore.Loaded() {
		return errors.New("not loaded yet")
	}
	return nil
}

// checkBundlePolled returns an error until the bundle was polled once. It does not wait for a source that is
// unavailable: then only guardrails from the bundle refuse changes.
func (s *Server) checkBundlePolled() error {
	if s.poller != nil && !s.poller.State().Polled {
		return errors.New("not asked for yet")
	}
	return nil
}

// checkPort connects to the webhook's own port, once there is a certificate.
func (s *Server) checkPort(req *http.Request) error {
	if err := s.checkCertificate(); err != nil {
		return err
	}
	return s.manager.GetWebhookServer().StartedChecker()(req)
}

// checkReachable returns why requests of the API server would not be answered, or nil.
func (s *Server) checkReachable(ctx context.Context) error {
	for _, err := range []error{s.checkSynced(), s.checkGuardrails(), s.checkPort(nil)} {
		if err != nil {
			return err
		}
	}
	if !s.options.AwaitEndpoints {
		return nil
	}
	return s.checkEndpoints(ctx)
}

// checkEndpoints returns an error if the Service has no ready endpoint.
func (s *Server) checkEndpoints(ctx context.Context) error {
	slices := &discoveryv1.EndpointSliceList{}
	err := s.manager.GetAPIReader().List(ctx, slices, client.InNamespace(s.options.Namespace),
		client.MatchingLabels{discoveryv1.LabelServiceName: s.options.Service})
	if err != nil {
		return fmt.Errorf("list the endpoints of Service %s: %w", s.options.Service, err)
	}
	for _, slice := range slices.Items {
		for _, e := range slice.Endpoints {
			if e.Conditions.Ready == nil || *e.Conditions.Ready {
				return nil
			}
		}
	}
	return fmt.Errorf("no endpoint of Service %s is ready", s.options.Service)
}
