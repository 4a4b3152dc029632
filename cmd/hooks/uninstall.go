package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tierwall/tierwall/enforcer/uninstall"
	"github.com/tierwall/tierwall/internal/flags"
)

// newUninstallCommand takes a release of the chart out of a cluster: the chart
// runs it in its pre-delete and post-delete hooks.
func newUninstallCommand() *cobra.Command {
	var timeout time.Duration
	var logLevel string
	u := &uninstall.Uninstaller{Poll: time.Second}
	cmd := &cobra.Command{
		Use:   "uninstall",
		Short: "Take a release of the chart out of the cluster, as its hooks do",
	}
	fs := cmd.PersistentFlags()
	fs.StringVar(&u.Release, "release", "", "name of the Helm release (required)")
	fs.StringVar(&u.Namespace, "namespace", "", "namespace of the Helm release (required)")
	fs.StringVar(&u.DaemonSet, "daemonset", "tierwall-enforcer", "name of the DaemonSet of the node agents")
	fs.StringSliceVar(&u.Secrets, "secrets", nil, "secrets of the namespace to delete at the end")
	fs.StringSliceVar(&u.Leases, "leases", nil, "leases of the namespace to delete at the end")
	fs.BoolVar(&u.KeepCRDs, "keep-crds", false, "leave the CustomResourceDefinitions, and so all TierRoles and Guardrails")
	fs.DurationVar(&timeout, "timeout", 4*time.Minute, "how long to wait, for the nodes above all")
	fs.StringVar(&logLevel, "log-level", "info", "debug, info, warn or error")

	step := func(name, short string, run func(context.Context) error) *cobra.Command {
		return &cobra.Command{Use: name, Short: short, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
			if err := connect(u, logLevel); err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			return run(ctx)
		}}
	}
	cmd.AddCommand(
		step("prepare", "Before Helm deletes the release: stop admission control and clean every node", u.Prepare),
		step("finish", "After Helm has deleted the release: remove secrets, leases and CustomResourceDefinitions", u.Finish),
	)
	for _, name := range []string{"release", "namespace"} {
		if err := cmd.MarkPersistentFlagRequired(name); err != nil {
			panic(err) // the flag is defined above
		}
	}
	return cmd
}

// connect gives an Uninstaller its logger and its API client.
func connect(u *uninstall.Uninstaller, logLevel string) error {
	log, err := flags.Logger(logLevel)
	if err != nil {
		return err
	}
	config, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("find the API server: %w", err)
	}
	if err := apiextensionsv1.AddToScheme(scheme.Scheme); err != nil {
		return fmt.Errorf("register the types of CustomResourceDefinition: %w", err)
	}
	c, err := client.New(config, client.Options{Scheme: scheme.Scheme})
	if err != nil {
		return fmt.Errorf("make an API client: %w", err)
	}
	u.Log, u.Client = log, c
	return nil
}
