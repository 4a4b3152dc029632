package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/internal/flags"
	"github.com/tierwall/tierwall/internal/selftest"
)

// newSelftestCommand asks a running installation whether it does its work: the
// chart runs it in "helm test".
func newSelftestCommand() *cobra.Command {
	i := &selftest.Installation{Poll: time.Second}
	var timeout time.Duration
	var logLevel string
	cmd := &cobra.Command{
		Use:   "selftest",
		Short: "Ask the installation in this cluster whether it does its work, as \"helm test\" does",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := flags.Logger(logLevel); err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			return runSelftest(ctx, i)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&i.Namespace, "namespace", "", "namespace of the Helm release (required)")
	fs.StringVar(&i.Name, "name", "tierwall", "what the names of the release's objects begin with")
	fs.StringVar(&i.PolicyNamespace, "policy-namespace", "", "namespace under default deny, where an open policy has to be refused; empty leaves that out")
	fs.DurationVar(&timeout, "timeout", 2*time.Minute, "how long to wait for all checks to pass")
	fs.StringVar(&logLevel, "log-level", "info", "debug, info, warn or error")
	if err := cmd.MarkFlagRequired("namespace"); err != nil {
		panic(err) // the flag is defined above
	}
	return cmd
}

func runSelftest(ctx context.Context, i *selftest.Installation) error {
	config, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("find the API server: %w", err)
	}
	config.WarningHandler = rest.NoWarnings{} // refusals are what counts
	if err := v1alpha1.AddToScheme(scheme.Scheme); err != nil {
		return fmt.Errorf("register the types of tierwall.io: %w", err)
	}
	if i.Client, err = client.New(config, client.Options{Scheme: scheme.Scheme}); err != nil {
		return fmt.Errorf("make an API client: %w", err)
	}
	return i.Check(ctx, os.Stdout)
}
