package peer

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/netip"
	"testing"
)

func TestNetworkOf(t *testing.T) {
	for text, want := range map[string]string{
		"192.0.2.1:5": "192.0.2.1/32", "[2001:db8::1]:5": "2001:db8::/64", "[::ffff:192.0.2.1]:5": "192.0.2.1/32",
		"[fe80::1%eth0]:5": "fe80::/64", "nothing": "invalid Prefix",
	} {
		if got := NetworkOf(text); got.String() != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

func TestIdentityFrom(t *testing.T) {
	verified := &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{{}}}}
	for name, c := range map[string]struct {
		state *tls.ConnectionState
		want  Identity
	}{
		"verified certificate": {verified, Identity{Authenticated: true}},
		"unverified":           {&tls.ConnectionState{}, Identity{Network: netip.MustParsePrefix("192.0.2.1/32")}},
		"no TLS":               {nil, Identity{Network: netip.MustParsePrefix("192.0.2.1/32")}},
	} {
		r := &http.Request{RemoteAddr: "192.0.2.1:5", TLS: c.state}
		if got := IdentityFrom(WithIdentity(t.Context(), r)); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
	if got := IdentityFrom(t.Context()); got != (Identity{}) {
		t.Errorf("without a sender: %+v", got)
	}
}
