package unenforced

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/metadata"
)

// Served says what an API server serves.
type Served interface {
	ServerPreferredResources() ([]*metav1.APIResourceList, error)
}

// CountServed counts the policies of a cluster. Only metadata is asked for, of one object
// of each kind, as the API server tells how many follow. The error names kinds that are
// served and could not be counted; the counts are right without them.
func CountServed(ctx context.Context, served Served, client metadata.Interface) ([]Count, error) {
	lists, err := served.ServerPreferredResources()
	if err != nil && !discovery.IsGroupDiscoveryFailedError(err) {
		return nil, fmt.Errorf("ask the API server what it serves: %w", err)
	}
	counter := Counter{}
	var errs []error
	for _, list := range lists {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, r := range list.APIResources {
			if !IsPolicy(gv.Group, r.Kind) || strings.Contains(r.Name, "/") || !slices.Contains(r.Verbs, "list") {
				continue
			}
			n, err := count(ctx, client, gv.WithResource(r.Name))
			if err != nil {
				errs = append(errs, fmt.Errorf("%s (%s): %w", plural(r.Kind), gv.Group, err))
			}
			if n > 0 {
				counter[[2]string{gv.Group, r.Kind}] = n
			}
		}
	}
	return withoutDoubles(counter).Counts(), errors.Join(errs...)
}

// pageSize bounds an answer of API servers that do not say how many objects follow.
const pageSize = 500

// count counts the objects of a kind.
func count(ctx context.Context, client metadata.Interface, resource schema.GroupVersionResource) (int, error) {
	n, options := 0, metav1.ListOptions{Limit: 1}
	for {
		page, err := client.Resource(resource).List(ctx, options)
		if apierrors.IsNotFound(err) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		n += len(page.Items)
		if page.RemainingItemCount != nil {
			return n + int(*page.RemainingItemCount), nil
		}
		if page.Continue == "" {
			return n, nil
		}
		options = metav1.ListOptions{Limit: pageSize, Continue: page.Continue}
	}
}

// withoutDoubles leaves out the stored form of policies that Calico's API server serves in
// its own group as well.
func withoutDoubles(c Counter) Counter {
	for k := range c {
		if group, ok := strings.CutPrefix(k[0], "crd."); ok && c[[2]string{group, k[1]}] > 0 {
			delete(c, k)
		}
	}
	return c
}
