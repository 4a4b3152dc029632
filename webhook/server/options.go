// Package server puts the webhook together: what it watches, what it answers,
// its certificate, its activation, and what it keeps in the cluster.
package server

import (
	"log/slog"
	"time"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/webhook/registration"
)

// reviewTimeout is how long a judgement may take: less than the API server waits.
const reviewTimeout = 8 * time.Second

// Options are the settings of a webhook.
type Options struct {
	// Defaults are the default actions of namespaces.
	Defaults policy.Defaults
	// Namespace is where the webhook itself runs.
	Namespace string
	// Service is the name of the webhook's Service, and of the Lease by which one replica is chosen.
	Service string
	// DNSNames are names of the webhook beside those of its Service.
	DNSNames []string
	// CertificateDir has the certificate's files; empty makes the replicas issue their own.
	CertificateDir string
	// AuthoritySecret is the Secret that replicas which issue their own share their authority in.
	AuthoritySecret string
	// MetricsSecret is the Secret in which the webhook keeps the certificate of the enforcers' metrics, for the
	// MetricsNames; empty keeps none.
	MetricsSecret string
	MetricsNames  []string
	// Bundle is where Guardrails that name one of a bundle take it from.
	Bundle BundleOptions
	// Webhooks are what the configurations with the names Validating and Mutating are to hold.
	Webhooks             registration.Webhooks
	Validating, Mutating string
	// AwaitEndpoints makes activation wait until the Service has an endpoint that is ready.
	AwaitEndpoints bool
	// Host and Port are where requests of the API server are answered; an empty Host is all addresses.
	Host string
	Port int
	// Clients say who may ask there.
	Clients ClientOptions
	// MetricsAddress and HealthAddress are where metrics (HTTPS, for those whom the API
	// server lets) and health (HTTP, for all) are answered; "0" is nowhere.
	MetricsAddress, HealthAddress string
	Log                           *slog.Logger
}

// BundleOptions are those of a bundle of guardrails.
type BundleOptions struct {
	// Place is a URL (http, https), or "oci:" and a directory; empty is no bundle.
	Place string
	// KeyFile has the public key (PEM) that it must be signed by, with Algorithm (RFC 7518).
	KeyFile, Algorithm string
	// Interval is how often it is asked for.
	Interval time.Duration
	// File keeps the last good one; empty keeps none.
	File string
}

// names are the DNS names of the serving certificate.
func (o Options) names() []string {
	var out []string
	for _, service := range []string{o.Service, o.Service + "-metrics"} {
		base := service + "." + o.Namespace
		out = append(out, base+".svc", base+".svc.cluster.local", base)
	}
	return append(out, o.DNSNames...)
}
