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

// OtherEngines reports the policies of a cluster that other engines enforce: what they
// deny tierwall lets pass, and nobody should rely on them.
type OtherEngines struct {
	Served unenforced.Served
	// Client lists metadata alone.
	Client metadata.Interface
	Log    *slog.Logger

	reported  []unenforced.Count
	lastError string
}

// NewOtherEngines returns one that asks the API server of a configuration.
func NewOtherEngines(config *rest.Config, log *slog.Logger) (*OtherEngines, error) {
	served, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make a client for what the API server serves: %w", err)
	}
	client, err := metadata.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make a client for metadata: %w", err)
	}
	return &OtherEngines{Served: served, Client: client, Log: log}, nil
}

// NeedLeaderElection reports that one replica counts for all.
func (*OtherEngines) NeedLeaderElection() bool { return true }

// Start counts at first and then every ten minutes, until the context ends.
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
			o.Log.WarnContext(ctx, "policies of other engines could not all be counted", "err", err)
		}
	}
	if err != nil && len(counts) == 0 {
		return // what was known stays
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

// sortedErrorText is an error's text with its parts in one order, so that an equal one is known.
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
