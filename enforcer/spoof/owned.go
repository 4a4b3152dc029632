package spoof

import (
	"net/netip"
	"regexp"
	"slices"
)

// Link is an interface of the node.
type Link struct {
	Index int
	Name  string
	// Kind is the kernel's, such as veth or bridge; empty for a device.
	Kind string
	// Master is the index of the bridge, bond or VRF that it is part of, or 0.
	Master int
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

// safeName is what is written to the kernel's tools as it is.
var safeName = regexp.MustCompile(`^[A-Za-z0-9_.:@-]{1,15}$`)

// Owned are the names of the interfaces that are one pod's own, sorted: one end of a
// pair, part of nothing, to which routes to single addresses lead, at least one
// of them a pod's, and no others. Who is behind any other cannot be known.
func Owned(links []Link, routes []Route, isPod func(netip.Addr) bool) []string {
	pods, others := map[int]bool{}, map[int]bool{}
	for _, r := range routes {
		switch {
		case r.Learned || r.To.Addr().IsLinkLocalUnicast():
		case r.Gateway || !r.To.IsSingleIP():
			others[r.Link] = true
		default:
			pods[r.Link] = pods[r.Link] || isPod(r.To.Addr())
		}
	}
	var out []string
	for _, l := range links {
		if pods[l.Index] && !others[l.Index] && l.Master == 0 && slices.Contains(kinds, l.Kind) && safeName.MatchString(l.Name) {
			out = append(out, l.Name)
		}
	}
	slices.Sort(out)
	return out
}
