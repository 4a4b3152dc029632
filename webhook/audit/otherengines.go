package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"k8s.io/client-go/discovery"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"

	"github.com/tierwall/tierwall/internal/unenforced"
)

// OtherEngines reports policies of kinds that other engines enforce. tierwall does not enforce them, so
// they have no effect.
type OtherEngines struct {
	Served unenforced.Served
	// Client lists metadata alone.
	Client metadata.Interface
	Log    *slog.Logger

	reported  []unenforced.Count
	lastError string
}

// NewOtherEngines returns an OtherEngines that reads from the API server.
func NewOtherEngines(config *rest.Config, log *slog.Logger) (*OtherEngines, error) {
	served, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("create discovery client: %w", err)
	}
	client, err := metadata.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("create metadata client: %w", err)
	}
	return &OtherEngines{Served: served, Client: client, Log: log}, nil
}

// NeedLeaderElection returns true: only the leader counts.
func (*OtherEngines) NeedLeaderElection() bool { return true }

// Start counts every ten minutes until ctx ends.
func (o *OtherEngines) Start(ctx context.Context) error {
	for {
		o.countPolicies(ctx)
		if !sleepOrDone(ctx, refreshInterval) {
			return nil
		}
	}
}

// countPolicies sets the metric, and logs what changed.
func (o *OtherEngines) countPolicies(ctx context.Context) {
	limited, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	counts, err := unenforced.CountServed(limited, o.Served, o.Client)
	if ctx.Err() != nil {
		return
	}
	if text := sortedErrorText(err); text != o.lastError {
		if o.lastError = text; err != nil {
			o.Log.WarnContext(ctx, "counting policies of other engines failed", "err", err)
		}
	}
	if err != nil && len(counts) == 0 {
		return // the last counts stay
	}
	otherPolicies.Reset()
	for _, c := range counts {
		otherPolicies.WithLabelValues(c.Group, c.Kind).Set(float64(c.Count))
		if !slices.Contains(o.reported, c) {
			o.Log.WarnContext(ctx, c.String(), "group", c.Group, "kind", c.Kind, "count", c.Count)
		}
	}
	o.reported = counts
}

// sortedErrorText returns the text of a joined error with its parts sorted, so that equal errors have equal texts.
func sortedErrorText(err error) string {
	var joined interface{ Unwrap() []error }
	if !errors.As(err, &joined) {
		if err == nil {
			return ""
		}
		return err.Error()
	}
	var parts []string
	for _, e := range joined.Unwrap() {
		parts = append(parts, e.Error())
	}
	slices.Sort(parts)
	return strings.Join(parts, "; ")
}
