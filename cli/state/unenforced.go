package state

import (
	"context"
	"fmt"

	"k8s.io/client-go/discovery"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"

	"github.com/tierwall/tierwall/internal/unenforced"
)

// CountUnenforced counts the policies of a cluster that other engines enforce. Only their
// metadata is asked for, of one object of each kind.
func CountUnenforced(ctx context.Context, config *rest.Config) ([]unenforced.Count, error) {
	d, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("ask the API server what it serves: %w", err)
	}
	client, err := metadata.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("ask the API server for metadata: %w", err)
	}
	return unenforced.CountServed(ctx, d, client)
}
