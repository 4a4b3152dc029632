// Package server assembles the webhook: watches, handlers, certificates, registration and controllers.
package server

import (
	"log/slog"
	"time"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/webhook/registration"
)

// reviewTimeout bounds a review. It is shorter than the API server's timeout.
const reviewTimeout = 8 * time.Second

// Options are the settings of a webhook.
type Options struct {
	// Defaults are the default actions of namespaces.
	Defaults policy.Defaults
	// Namespace is where the webhook itself runs.
	Namespace string
	// Service is the name of the webhook's Service, and of the leader election's Lease.
	Service string
	// DNSNames are additional names in the serving certificate.
	DNSNames []string
	// CertificateDir has the certificate's files; if empty, the replicas issue their own certificates.
	CertificateDir string
	// AuthoritySecret is the Secret with the authority of replicas that issue their own certificates.
	AuthoritySecret string
	// MetricsSecret is the Secret in which the webhook renews the certificate of the enforcers' metrics, for the
	// MetricsNames; empty disables this.
	MetricsSecret string
	MetricsNames  []string
	// Bundle configures the bundle of guardrails.
	Bundle BundleOptions
	// Webhooks are the desired contents of the configurations named Validating and Mutating.
	Webhooks             registration.Webhooks
	Validating, Mutating string
	// AwaitEndpoints delays the registration until the Service has a ready endpoint.
	AwaitEndpoints bool
	// Host and Port are the address for requests of the API server; an empty Host means all addresses.
	Host string
	Port int
	// Clients restrict who may send requests there.
	Clients ClientOptions
	// MetricsAddress serves metrics over HTTPS to clients that the API server authorizes; HealthAddress serves
	// health over HTTP to all. "0" disables either.
	MetricsAddress, HealthAddress string
	Log                           *slog.Logger
}

// BundleOptions configure the bundle of guardrails.
type BundleOptions struct {
	// Place is a URL (http, https), or "oci:" and a directory; empty means no bundle.
	Place string
	// KeyFile has the public key (PEM) that verifies the bundle's signature, and Algorithm is its algorithm (RFC 7518).
	KeyFile, Algorithm string
	// Interval is the time between polls.
	Interval time.Duration
	// File keeps the last good bundle; empty keeps none.
	File string
}

// names returns the DNS names of the serving certificate.
func (o Options) names() []string {
	var out []string
	for _, service := range []string{o.Service, o.Service + "-metrics"} {
		base := service + "." + o.Namespace
		out = append(out, base+".svc", base+".svc.cluster.local", base)
	}
	return append(out, o.DNSNames...)
}
