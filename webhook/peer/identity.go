// Package peer identifies who sent a request to the webhook's port.
package peer

import (
	"context"
	"net/http"
	"net/netip"
)

// Identity identifies the sender of a request. It is comparable.
type Identity struct {
	// Authenticated is true if the sender has a certificate of a configured authority. Without
	// one (--client-ca-file), no sender is authenticated, API servers included.
	Authenticated bool
	// Network is the sender's address or network; it is set only if the sender is not authenticated.
	Network netip.Prefix
}

type identityKey struct{}

// WithIdentity adds the identity of the request's sender to the context.
func WithIdentity(ctx context.Context, r *http.Request) context.Context {
	id := Identity{Authenticated: r.TLS != nil && len(r.TLS.VerifiedChains) > 0}
	if !id.Authenticated {
		id.Network = NetworkOf(r.RemoteAddr)
	}
	return context.WithValue(ctx, identityKey{}, id)
}

// IdentityFrom returns the identity in the context. The zero value is an unknown sender that is not authenticated.
func IdentityFrom(ctx context.Context) Identity {
	id, _ := ctx.Value(identityKey{}).(Identity)
	return id
}

// NetworkOf returns the IPv4 address, or the /64 network of the IPv6 address, of an address with a
// port. One host can use all addresses of a /64. The zero value stands for text that is no such address.
func NetworkOf(addrPort string) netip.Prefix {
	ap, err := netip.ParseAddrPort(addrPort)
	if err != nil {
		return netip.Prefix{}
	}
	ip := ap.Addr().Unmap().WithZone("")
	bits := ip.BitLen()
	if ip.Is6() {
		bits = 64
	}
	network, _ := ip.Prefix(bits) // the length is valid for the address
	return network
}
