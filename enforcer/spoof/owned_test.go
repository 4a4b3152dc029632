package spoof

import (
	"net/netip"
	"slices"
	"testing"
)

func route(link int, to string) Route { return Route{Link: link, To: netip.MustParsePrefix(to)} }

// What cannot be known as one pod's own is not judged, and nothing that a pod can do makes
// its own interface look like that.
func TestOwned(t *testing.T) {
	veth := func(index int, name string) Link { return Link{Index: index, Name: name, Kind: "veth"} }
	pod := func(a netip.Addr) bool {
		return netip.MustParsePrefix("10.0.1.0/24").Contains(a) || netip.MustParsePrefix("fd00:1::/64").Contains(a)
	}
	fe80, advertised := route(2, "fe80::/64"), route(2, "2001:db8::/64")
	advertised.Learned = true
	gateway := route(2, "10.9.0.1/32")
	gateway.Gateway = true
	bridged := veth(2, "veth0")
	bridged.Master = 9
	for name, c := range map[string]struct {
		links  []Link
		routes []Route
		want   []string
	}{
		"a pod of two addresses":                 {[]Link{veth(2, "veth0")}, []Route{route(2, "10.0.1.2/32"), route(2, "fd00:1::2/128"), fe80}, []string{"veth0"}},
		"one that has another address, too":      {[]Link{veth(2, "veth0")}, []Route{route(2, "10.0.1.2/32"), route(2, "172.16.0.1/32")}, []string{"veth0"}},
		"two pods":                               {[]Link{veth(3, "z"), veth(2, "a")}, []Route{route(3, "10.0.1.3/32"), route(2, "10.0.1.2/32")}, []string{"a", "z"}},
		"its peer advertises a network":          {[]Link{veth(2, "veth0")}, []Route{route(2, "10.0.1.2/32"), advertised}, []string{"veth0"}},
		"a network lies behind it":               {[]Link{veth(2, "veth0")}, []Route{route(2, "10.0.1.2/32"), route(2, "10.7.0.0/16")}, nil},
		"all the world does":                     {[]Link{veth(2, "veth0")}, []Route{route(2, "10.0.1.2/32"), route(2, "0.0.0.0/0")}, nil},
		"a router is behind it":                  {[]Link{veth(2, "veth0")}, []Route{route(2, "10.0.1.2/32"), gateway}, nil},
		"a bridge":                               {[]Link{{Index: 2, Name: "cni0", Kind: "bridge"}}, []Route{route(2, "10.0.1.0/24")}, nil},
		"a bridge with a route to one pod":       {[]Link{{Index: 2, Name: "cni0", Kind: "bridge"}}, []Route{route(2, "10.0.1.2/32")}, nil},
		"part of a bridge":                       {[]Link{bridged}, []Route{route(2, "10.0.1.2/32")}, nil},
		"the node's own":                         {[]Link{{Index: 2, Name: "eth0"}}, []Route{route(2, "10.0.1.2/32")}, nil},
		"a tunnel":                               {[]Link{{Index: 2, Name: "wg0", Kind: "wireguard"}}, []Route{route(2, "10.0.1.2/32")}, nil},
		"no pod's address":                       {[]Link{veth(2, "veth0")}, []Route{route(2, "192.168.7.1/32")}, nil},
		"no route at all":                        {[]Link{veth(2, "veth0")}, nil, nil},
		"a name that tools would read otherwise": {[]Link{veth(2, `x" }`), veth(3, "veth*")}, []Route{route(2, "10.0.1.2/32"), route(3, "10.0.1.3/32")}, nil},
	} {
		if got := Owned(c.links, c.routes, pod); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
