// Command webhook is tierwall's admission: it judges policies by guardrails and
// gives pods the label of their tier role.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/go-logr/logr"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/tierwall/tierwall/internal/version"
	"github.com/tierwall/tierwall/webhook"
	"github.com/tierwall/tierwall/webhook/activation"
	"github.com/tierwall/tierwall/webhook/server"
)

func main() {
	settings, err := parse(os.Args[1:])
	if err != nil {
		os.Exit(exitStatus(err))
	}
	if settings.version {
		fmt.Println("tierwall webhook", version.Version)
		return
	}
	log := slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: settings.level}))
	if err := run(settings, log); err != nil {
		log.Error("the webhook stops", "err", err)
		os.Exit(1)
	}
}

func run(s settings, log *slog.Logger) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	ctrllog.SetLogger(logr.FromSlogHandler(log.Handler()))
	klog.SetSlogLogger(log)
	config, err := rest.InClusterConfig()
	if err != nil {
		return fmt.Errorf("find the API server: %w", err)
	}
	config.QPS, config.Burst = 50, 100
	config.UserAgent = "tierwall-webhook/" + version.Version
	if s.options.Webhooks, err = activation.Read(s.webhooks); err != nil {
		return err
	}
	if err := webhook.RegisterMetrics(); err != nil {
		return fmt.Errorf("register the metrics: %w", err)
	}
	s.options.Log = log
	srv, err := server.New(config, s.options)
	if err != nil {
		return err
	}
	log.Info("starting", "version", version.Version, "defaultAction", s.options.Defaults.Action.String())
	return srv.Run(ctx)
}
