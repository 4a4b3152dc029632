package audit

import (
	"context"
	"errors"
	"slices"
	"strings"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tierwall/tierwall/rego"
	"github.com/tierwall/tierwall/webhook/snapshot"
)

// ExistingViolations returns a function that lists the existing objects which violate guardrails that are
// not in force yet. Calls run one at a time.
func ExistingViolations(snapshots snapshot.SnapshotReader, reader client.Reader) func(context.Context, *rego.Engine) ([]string, error) {
	turn := make(chan struct{}, 1)
	return func(ctx context.Context, guardrails *rego.Engine) ([]string, error) {
		select {
		case turn <- struct{}{}:
			defer func() { <-turn }()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if !snapshots.Synced() {
			return nil, errors.New("the cluster is not known yet")
		}
		w := Inventory{Snapshot: snapshots.Snapshot()}
		if err := w.listPolicies(ctx, reader); err != nil {
			return nil, err
		}
		findings, err := FindViolations(ctx, w, guardrails, nil)
		if err != nil {
			return nil, err
		}
		var out []string
		for _, f := range findings {
			if name := f.Kind + " " + strings.TrimPrefix(f.Namespace+"/"+f.Name, "/"); !slices.Contains(out, name) {
				out = append(out, name)
			}
		}
		return out, nil
	}
}
