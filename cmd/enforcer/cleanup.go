package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"

	"github.com/spf13/cobra"

	"github.com/tierwall/tierwall/enforcer/backend"
	"github.com/tierwall/tierwall/enforcer/cni"
	"github.com/tierwall/tierwall/internal/flags"
)

// newCleanupCommand removes all that is ours from the node, and stays up so
// that a DaemonSet that runs it becomes ready when the node is clean.
func newCleanupCommand() *cobra.Command {
	var healthAddr, logLevel string
	var stay bool
	cmd := &cobra.Command{
		Use:   "cleanup",
		Short: "Remove every table, chain, jump and set of tierwall from this node",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := flags.Logger(logLevel)
			if err != nil {
				return err
			}
			if err := runCleanup(cmd.Context(), log); err != nil || !stay {
				return err
			}
			return serveClean(cmd.Context(), healthAddr)
		},
	}
	cmd.Flags().StringVar(&healthAddr, "health-probe-bind-address", "127.0.0.1:9467", "address of /healthz and /readyz, with --stay")
	cmd.Flags().BoolVar(&stay, "stay", false, "stay up and ready once the node is clean, until told to stop")
	cmd.Flags().StringVar(&logLevel, "log-level", "info", "debug, info, warn or error")
	return cmd
}

func runCleanup(ctx context.Context, log *slog.Logger) error {
	if err := backend.Drivers.Cleanup(ctx, log); err != nil {
		return fmt.Errorf("clean the node: %w", err)
	}
	if err := os.Remove(cni.Socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("clean the node: %w", err)
	}
	log.Info("the node is clean")
	return nil
}

// serveClean answers the probes until ctx ends.
func serveClean(ctx context.Context, addr string) error {
	ok := func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok")) }
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", ok)
	mux.HandleFunc("/readyz", ok)
	return serveHTTP(ctx, addr, mux, nil)
}
