package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"

	"github.com/tierwall/tierwall/internal/flags"
	"github.com/tierwall/tierwall/internal/memlimit"
	"github.com/tierwall/tierwall/internal/version"
	"github.com/tierwall/tierwall/webhook/registration"
	"github.com/tierwall/tierwall/webhook/server"
)

// options are the flags of the webhook.
type options struct {
	server   server.Options
	defaults flags.Defaults
	webhooks string
	logLevel string
}

// newCommand is the command line, which runs the webhook by run.
func newCommand(run func(*options, context.Context) error) *cobra.Command {
	o := &options{server: server.Options{AwaitEndpoints: true}}
	cmd := &cobra.Command{
		Use:   "webhook",
		Short: "Judge policies by guardrails, and label pods with their tier role",
		Long: `Judge policies by guardrails, and label pods with their tier role.

Runs in the cluster that it works for, in two replicas or more, and tells the
API server itself to ask it once it can answer.`,
		Version:       version.Version,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.read(); err != nil {
				return err
			}
			return run(o, cmd.Context())
		},
	}
	fs := cmd.Flags()
	s := &o.server
	o.defaults.AddTo(fs)
	fs.StringVar(&s.Namespace, "namespace", os.Getenv("POD_NAMESPACE"), "namespace that the webhook runs in (required)")
	fs.StringVar(&s.Service, "service", "tierwall-webhook", "the webhook's Service, and the Lease by which one replica is chosen")
	fs.StringVar(&s.CertificateDir, "cert-dir", "", "directory with tls.crt, tls.key and ca.crt; empty makes the replicas issue their own certificates")
	fs.StringVar(&s.AuthoritySecret, "ca-secret", "tierwall-webhook-ca", "the Secret that the replicas share their own authority in")
	fs.StringVar(&s.MetricsSecret, "metrics-secret", "", "the Secret to keep a certificate for the enforcers' metrics in; empty keeps none")
	fs.StringSliceVar(&s.MetricsNames, "metrics-names", nil, "the DNS names that it is for")
	b := &s.Bundle
	fs.StringVar(&b.Place, "bundle", "", "URL of a signed bundle of guardrails, or oci: and the directory of an OCI image layout")
	fs.StringVar(&b.KeyFile, "bundle-key", "/etc/tierwall/admission/bundle.pem", "file with the public key that the bundle must be signed by")
	fs.StringVar(&b.Algorithm, "bundle-algorithm", "RS256", "the algorithm of its signature, such as RS256, ES256 or EdDSA")
	fs.DurationVar(&b.Interval, "bundle-interval", time.Minute, "how often to ask for the bundle")
	fs.StringVar(&b.File, "bundle-file", "", "file to keep the last good bundle in; empty keeps none")
	fs.StringVar(&o.webhooks, "admission-config", "/etc/tierwall/admission/webhooks.yaml", "file with what the webhook configurations are to hold")
	fs.StringVar(&s.Validating, "validating-configuration", "tierwall", "the ValidatingWebhookConfiguration")
	fs.StringVar(&s.Mutating, "mutating-configuration", "tierwall", "the MutatingWebhookConfiguration")
	fs.IntVar(&s.Port, "webhook-port", 9443, "where the API server's requests are answered")
	fs.StringVar(&s.Clients.CAFile, "client-ca-file", "", "file with the authorities that API servers' client certificates must be signed by; empty asks for none")
	fs.StringSliceVar(&s.Clients.Names, "client-names", nil, "common names of client certificates that are accepted; empty accepts all of the authorities")
	fs.StringVar(&s.MetricsAddress, "metrics-bind-address", ":8443", "address of the metrics, HTTPS with delegated authentication; 0 serves none")
	fs.StringVar(&s.HealthAddress, "health-probe-bind-address", ":8081", "address of /healthz and /readyz")
	fs.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	return cmd
}

// read reads what the flags mean.
func (o *options) read() error {
	if o.server.Namespace == "" {
		return errors.New("--namespace: say where the webhook runs")
	}
	if o.server.Bundle.Interval < time.Second {
		return errors.New("--bundle-interval: want a second or more")
	}
	var err error
	if o.server.Log, err = flags.Logger(o.logLevel); err != nil {
		return err
	}
	o.server.Defaults, err = o.defaults.Parse()
	return err
}

// memoryShare is the share of the container's memory limit that the Go runtime tries to stay within. The rest is for
// what it does not count, such as the kernel's socket buffers.
const memoryShare = 0.8

func (o *options) run(ctx context.Context) error {
	config, err := rest.InClusterConfig()
	if err != nil {
		return fmt.Errorf("find the API server: %w", err)
	}
	config.QPS, config.Burst = 50, 100
	config.UserAgent = "tierwall-webhook/" + version.Version
	if o.server.Webhooks, err = registration.ReadWebhooks(o.webhooks); err != nil {
		return err
	}
	if err := server.RegisterMetrics(); err != nil {
		return fmt.Errorf("register the metrics: %w", err)
	}
	srv, err := server.New(config, o.server)
	if err != nil {
		return err
	}
	if limit, ok := memlimit.Apply(memoryShare); ok {
		o.server.Log.Info("the soft memory limit is set", "bytes", limit)
	}
	o.server.Log.Info("starting", "version", version.Version, "defaultAction", o.server.Defaults.Action.String())
	return srv.Run(ctx)
}
