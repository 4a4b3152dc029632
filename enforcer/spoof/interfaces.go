package spoof

import (
	"cmp"
	"net/netip"
	"regexp"
	"slices"

	"github.com/tierwall/tierwall/policy"
)

// Link is an interface of the node.
type Link struct {
	Index int
	Name  string
	// Kind is the kernel's, such as veth or bridge; empty for a device.
	Kind string
	// Master is the index of the bridge, bond or VRF that it is part of, or 0.
	Master int
	// Tunnel is what the interface takes packets out of; zero where it is the end of no tunnel.
	Tunnel Tunnel
}

// Tunnel is an encapsulation that says nothing about who sent the packet inside.
type Tunnel struct {
	// Protocol is that of the outer packet, and Port its destination port with UDP.
	Protocol policy.Protocol
	Port     uint16
}

func (t Tunnel) compare(o Tunnel) int {
	return cmp.Or(cmp.Compare(t.Protocol, o.Protocol), cmp.Compare(t.Port, o.Port))
}

// Route is a unicast route of the node.
type Route struct {
	// Link is the index of the interface that it leads to.
	Link int
	To   netip.Prefix
	// Gateway says that it leads to another router, or is one of several paths.
	Gateway bool
	// Learned says that whoever is behind the interface brought it about, by a router
	// advertisement or a redirect (RFC 4861).
	Learned bool
}

// kinds of interfaces are those whose other end is in another network namespace.
var kinds = []string{"veth", "netkit"}

// bridge is the kind of interfaces that pods share.
const bridge = "bridge"

// safeName is what is written to the kernel's tools as it is.
var safeName = regexp.MustCompile(`^[A-Za-z0-9_.:@-]{1,15}$`)

// Interfaces are the names of those of the node that lead to pods and to nothing else, sorted.
type Interfaces struct {
	// Own are one pod's each: one end of a pair, part of nothing, to which routes to single addresses
	// lead, at least one of them a pod's, and no others.
	Own []string
	// Shared are bridges that routes to pods lead to, and no route by a gateway.
	Shared []string
	// New are ends of pairs that are part of nothing and that no route leads to: pods that are being made.
	New []string
	// Tunnels are those that the node takes packets out of. A pod that sends in one forges what is inside.
	Tunnels []Tunnel
}

// Guarded are the interfaces whose routes say which sources are genuine.
func (i Interfaces) Guarded() []string {
	return slices.Sorted(slices.Values(slices.Concat(i.Own, i.Shared)))
}

// All are all of them.
func (i Interfaces) All() []string {
	return slices.Sorted(slices.Values(slices.Concat(i.Own, i.Shared, i.New)))
}

func (i Interfaces) isEqual(o Interfaces) bool {
	return slices.Equal(i.Own, o.Own) && slices.Equal(i.Shared, o.Shared) && slices.Equal(i.New, o.New) && slices.Equal(i.Tunnels, o.Tunnels)
}

// leadsTo is what the routes to an interface lead to; learned says that whoever is behind it made some, as a router does
// behind the node's own link.
type leadsTo struct{ pod, pods, single, network, gateway, learned bool }

// PodInterfaces tells the interfaces of pods from all others. isPod reports whether all of a network, which may be a
// single address, is pods'. Who is behind any other interface cannot be known.
func PodInterfaces(links []Link, routes []Route, isPod func(netip.Prefix) bool) Interfaces {
	to := map[int]leadsTo{}
	for _, r := range routes {
		if r.To.Addr().IsLinkLocalUnicast() {
			continue
		}
		l := to[r.Link]
		if r.Learned {
			l.learned = true
			to[r.Link] = l
			continue
		}
		l.gateway = l.gateway || r.Gateway
		l.network = l.network || !r.To.IsSingleIP()
		l.single = l.single || r.To.IsSingleIP()
		l.pods = l.pods || !r.Gateway && isPod(r.To)
		l.pod = l.pod || !r.Gateway && r.To.IsSingleIP() && isPod(r.To)
		to[r.Link] = l
	}
	var out Interfaces
	for _, l := range links {
		if l.Tunnel != (Tunnel{}) {
			out.Tunnels = append(out.Tunnels, l.Tunnel)
		}
		routes, pair := to[l.Index], slices.Contains(kinds, l.Kind)
		switch {
		case l.Master != 0 || !safeName.MatchString(l.Name):
		case pair && routes.pod && !routes.gateway && !routes.network:
			out.Own = append(out.Own, l.Name)
		case pair && routes == leadsTo{}:
			out.New = append(out.New, l.Name)
		case l.Kind == bridge && routes.pods && !routes.gateway:
			out.Shared = append(out.Shared, l.Name)
		}
	}
	slices.SortFunc(out.Tunnels, Tunnel.compare)
	out.Tunnels = slices.Compact(out.Tunnels)
	for _, names := range [][]string{out.Own, out.Shared, out.New} {
		slices.Sort(names)
	}
	return out
}
