package bundle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/tierwall/tierwall/rego"
)

// fetchTimeout bounds a fetch.
const fetchTimeout = 30 * time.Second

// BundleSource fetches a bundle.
type BundleSource interface {
	// Fetch returns the packed bundle and a tag of its contents. It returns no bytes if the contents
	// still have the given tag.
	Fetch(ctx context.Context, tag string) (packed []byte, now string, err error)
}

// NewBundleSource returns the source at a place. A place is an http:// or https:// URL, or "oci:" and the
// directory of an OCI image layout (github.com/opencontainers/image-spec), with "#" and a reference if the
// layout has several images.
func NewBundleSource(place string) (BundleSource, error) {
	if dir, ok := strings.CutPrefix(place, "oci:"); ok {
		dir, reference, _ := strings.Cut(dir, "#")
		if dir == "" {
			return nil, fmt.Errorf("%q names no directory", place)
		}
		return ociSource{dir, reference}, nil
	}
	u, err := url.Parse(place)
	if err != nil {
		return nil, fmt.Errorf("%q is no URL: %w", place, err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("%q begins with none of http://, https:// and oci: as it must", place)
	}
	return &httpSource{place, u.Redacted(), &http.Client{Timeout: fetchTimeout}}, nil
}

// httpSource fetches from an HTTP server. Its tags are ETags (RFC 9110).
type httpSource struct {
	url    string
	name   string // the URL without its password, for messages
	client *http.Client
}

// Fetch is as in Source.
func (s *httpSource) Fetch(ctx context.Context, tag string) ([]byte, string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, nil)
	if err != nil {
		return nil, "", fmt.Errorf("ask %s: %w", s.name, err)
	}
	if tag != "" {
		req.Header.Set("If-None-Match", tag)
	}
	answer, err := s.client.Do(req)
	if err != nil {
		return nil, "", fmt.Errorf("fetch the bundle: %w", err)
	}
	defer answer.Body.Close()
	switch {
	case answer.StatusCode == http.StatusNotModified && tag != "":
		return nil, tag, nil
	case answer.StatusCode != http.StatusOK:
		return nil, "", fmt.Errorf("fetch the bundle: %s answers %s", s.name, answer.Status)
	}
	packed, err := readLimited(answer.Body)
	return packed, answer.Header.Get("ETag"), err
}

// readLimited reads a bundle of at most rego.MaxBundle bytes.
func readLimited(from io.Reader) ([]byte, error) {
	packed, err := io.ReadAll(io.LimitReader(from, rego.MaxBundle+1))
	if err != nil {
		return nil, fmt.Errorf("read the bundle: %w", err)
	}
	if len(packed) > rego.MaxBundle {
		return nil, fmt.Errorf("the bundle has more than %d bytes", rego.MaxBundle)
	}
	return packed, nil
}

// ociSource reads the bundle from the only layer of an image in an OCI layout. Its tags are digests.
type ociSource struct{ dir, reference string }

// Fetch is as in Source.
func (l ociSource) Fetch(_ context.Context, tag string) ([]byte, string, error) {
	layer, err := l.bundleLayer()
	if err != nil {
		return nil, "", fmt.Errorf("read the OCI layout %s: %w", l.dir, err)
	}
	digest, err := layer.Digest()
	if err != nil {
		return nil, "", fmt.Errorf("read the OCI layout %s: %w", l.dir, err)
	}
	if digest.String() == tag {
		return nil, tag, nil
	}
	content, err := layer.Compressed()
	if err != nil {
		return nil, "", fmt.Errorf("read layer %s of the OCI layout %s: %w", digest, l.dir, err)
	}
	defer content.Close()
	packed, err := readLimited(content)
	return packed, digest.String(), err
}

func (l ociSource) bundleLayer() (v1.Layer, error) {
	index, err := layout.ImageIndexFromPath(l.dir)
	if err != nil {
		return nil, err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	image, err := l.selectImage(index, manifest.Manifests)
	if err != nil {
		return nil, err
	}
	layers, err := image.Layers()
	if err != nil {
		return nil, err
	}
	if len(layers) != 1 {
		return nil, fmt.Errorf("the image has %d layers; want one, the bundle", len(layers))
	}
	if kind, err := layers[0].MediaType(); err != nil || kind != types.OCILayer {
		return nil, errors.Join(err, fmt.Errorf("the image's layer is %s; want %s", kind, types.OCILayer))
	}
	return layers[0], nil
}

// selectImage returns the image with the reference, or the only image if there is no reference.
func (l ociSource) selectImage(index v1.ImageIndex, all []v1.Descriptor) (v1.Image, error) {
	var found []v1.Descriptor
	for _, d := range all {
		if l.reference == "" || d.Annotations["org.opencontainers.image.ref.name"] == l.reference {
			found = append(found, d)
		}
	}
	if len(found) != 1 {
		return nil, fmt.Errorf("it has %d images with reference %q; want one", len(found), l.reference)
	}
	return index.Image(found[0].Digest)
}
