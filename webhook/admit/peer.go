package admit

import (
	"context"
	"net/http"
)

// peerKey is the context's key of whether the peer is authenticated.
type peerKey struct{}

// WithPeer adds to the context whether the request's peer is authenticated. Handlers are served with it.
func WithPeer(ctx context.Context, r *http.Request) context.Context {
	return context.WithValue(ctx, peerKey{}, r.TLS != nil && len(r.TLS.VerifiedChains) > 0)
}

// PeerAuthenticated reports whether the peer showed a certificate of an authority that the webhook is configured with.
// It is false for everybody, API servers too, where none is configured.
func PeerAuthenticated(ctx context.Context) bool {
	authenticated, _ := ctx.Value(peerKey{}).(bool)
	return authenticated
}
