package spoof

import (
	"net/netip"
	"testing"

	"github.com/tierwall/tierwall/policy"
)

func route(link int, to string) Route { return Route{Link: link, To: netip.MustParsePrefix(to)} }

// What cannot be known as one pod's own is not judged, and nothing that a pod can do makes
// its own interface look like that.
func TestInterfacesOfPods(t *testing.T) {
	veth := func(index int, name string) Link { return Link{Index: index, Name: name, Kind: "veth"} }
	pod := PodNetworks(&policy.Program{Local: []netip.Prefix{netip.MustParsePrefix("10.0.1.0/24"), netip.MustParsePrefix("fd00:1::/64")},
		Hosts:     []policy.Host{{Addrs: []netip.Addr{netip.MustParseAddr("10.0.1.1")}}},
		Endpoints: []policy.Endpoint{{Addrs: []netip.Addr{netip.MustParseAddr("172.30.0.7")}}}})
	cni0 := Link{Index: 2, Name: "cni0", Kind: "bridge"}
	bond := cni0
	bond.Master = 9
	fe80, advertised := route(2, "fe80::/64"), route(2, "2001:db8::/64")
	advertised.Learned = true
	gateway := route(2, "10.9.0.1/32")
	gateway.Gateway = true
	bridged := veth(2, "veth0")
	bridged.Master = 9
	for name, c := range map[string]struct {
		links  []Link
		routes []Route
		want   Interfaces
	}{
		"a pod of two addresses":                    {[]Link{veth(2, "veth0")}, []Route{route(2, "10.0.1.2/32"), route(2, "fd00:1::2/128"), fe80}, Interfaces{Own: []string{"veth0"}}},
		"one that has another address, too":         {[]Link{veth(2, "veth0")}, []Route{route(2, "10.0.1.2/32"), route(2, "172.16.0.1/32")}, Interfaces{Own: []string{"veth0"}}},
		"two pods":                                  {[]Link{veth(3, "z"), veth(2, "a")}, []Route{route(3, "10.0.1.3/32"), route(2, "10.0.1.2/32")}, Interfaces{Own: []string{"a", "z"}}},
		"its peer advertises a network":             {[]Link{veth(2, "veth0")}, []Route{route(2, "10.0.1.2/32"), advertised}, Interfaces{Own: []string{"veth0"}}},
		"a network lies behind it":                  {[]Link{veth(2, "veth0")}, []Route{route(2, "10.0.1.2/32"), route(2, "10.7.0.0/16")}, Interfaces{}},
		"all the world does":                        {[]Link{veth(2, "veth0")}, []Route{route(2, "10.0.1.2/32"), route(2, "0.0.0.0/0")}, Interfaces{}},
		"a router is behind it":                     {[]Link{veth(2, "veth0")}, []Route{route(2, "10.0.1.2/32"), gateway}, Interfaces{}},
		"a bridge":                                  {[]Link{cni0}, []Route{route(2, "10.0.1.0/24")}, Interfaces{Shared: []string{"cni0"}}},
		"a bridge with a route to one pod":          {[]Link{cni0}, []Route{route(2, "10.0.1.2/32")}, Interfaces{Shared: []string{"cni0"}}},
		"a bridge with a part of the pods' network": {[]Link{cni0}, []Route{route(2, "10.0.1.128/25"), route(2, "fd00:1::/64"), fe80}, Interfaces{Shared: []string{"cni0"}}},
		"a bridge with a pod of no such network":    {[]Link{cni0}, []Route{route(2, "172.30.0.0/24")}, Interfaces{Shared: []string{"cni0"}}},
		"a bridge without a pod":                    {[]Link{cni0}, []Route{route(2, "172.31.0.0/24")}, Interfaces{}},
		"a bridge by which the world is reached":    {[]Link{cni0}, []Route{route(2, "10.0.1.0/24"), {Link: 2, To: netip.MustParsePrefix("0.0.0.0/0"), Gateway: true}}, Interfaces{}},
		"a bridge with all routes":                  {[]Link{cni0}, []Route{route(2, "0.0.0.0/0")}, Interfaces{}},
		"a bridge that is part of another":          {[]Link{bond}, []Route{route(2, "10.0.1.0/24")}, Interfaces{}},
		"the node's address alone":                  {[]Link{cni0}, []Route{route(2, "10.0.1.1/32")}, Interfaces{}},
		"part of a bridge":                          {[]Link{bridged}, []Route{route(2, "10.0.1.2/32")}, Interfaces{}},
		"the node's own":                            {[]Link{{Index: 2, Name: "eth0"}}, []Route{route(2, "10.0.1.2/32")}, Interfaces{}},
		"a tunnel":                                  {[]Link{{Index: 2, Name: "wg0", Kind: "wireguard"}}, []Route{route(2, "10.0.1.2/32")}, Interfaces{}},
		"no pod's address":                          {[]Link{veth(2, "veth0")}, []Route{route(2, "192.168.7.1/32")}, Interfaces{}},
		"no route at all":                           {[]Link{veth(2, "veth0")}, nil, Interfaces{New: []string{"veth0"}}},
		"a link-local route alone":                  {[]Link{veth(2, "veth0")}, []Route{fe80}, Interfaces{New: []string{"veth0"}}},
		"the node's own link, by its router":        {[]Link{veth(2, "eth0")}, []Route{advertised}, Interfaces{}},
		"ends of tunnels": {[]Link{{Index: 2, Name: "flannel.1", Kind: "vxlan", Tunnel: Tunnel{policy.UDP, 8472}}, {Index: 3, Name: "tunl0", Tunnel: Tunnel{Protocol: 4}},
			{Index: 4, Name: "vxlan2", Tunnel: Tunnel{policy.UDP, 8472}}}, nil, Interfaces{Tunnels: []Tunnel{{Protocol: 4}, {policy.UDP, 8472}}}},
		"no route to a device":                   {[]Link{{Index: 2, Name: "eth0"}}, nil, Interfaces{}},
		"no route to part of a bridge":           {[]Link{bridged}, nil, Interfaces{}},
		"a name that tools would read otherwise": {[]Link{veth(2, `x" }`), veth(3, "veth*")}, []Route{route(2, "10.0.1.2/32"), route(3, "10.0.1.3/32")}, Interfaces{}},
	} {
		if got := PodInterfaces(c.links, c.routes, pod); !got.isEqual(c.want) {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}
