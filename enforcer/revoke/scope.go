package revoke

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/tierwall/tierwall/policy"
)

// Side is the connections that an address opened (egress) or accepted (ingress).
type Side struct {
	Addr      netip.Addr
	Direction policy.Direction
}

// Scope is the set of connections that changes can deny. The zero value is empty.
type Scope struct {
	// All is true if it can be any connection.
	All bool
	// Sides are the connections otherwise.
	Sides map[Side]bool
}

func (s *Scope) addSides(a netip.Addr, directions ...policy.Direction) {
	if s.Sides == nil {
		s.Sides = map[Side]bool{}
	}
	for _, d := range directions {
		s.Sides[Side{a.Unmap(), d}] = true
	}
}

// Merge adds the connections of another scope.
func (s *Scope) Merge(o Scope) {
	s.All = s.All || o.All
	for side := range o.Sides {
		s.addSides(side.Addr, side.Direction)
	}
}

// Empty reports whether the scope has no connection.
func (s Scope) Empty() bool { return !s.All && len(s.Sides) == 0 }

// Has reports whether the connection is in the scope.
func (s Scope) Has(f policy.Flow) bool {
	return s.All || s.Sides[Side{f.Source, policy.Egress}] || s.Sides[Side{f.Destination, policy.Ingress}]
}

// Affected is the scope of a change from one program to the next: every connection
// that before allowed and after denies is in it. It may hold others. Where there was
// no program before, or the change is not known (nil), it is all connections.
func Affected(before, after *policy.Program, c *policy.Change) Scope {
	return affectedBy(before, after, c, &setUses{})
}

// affectedBy is Affected with an index that may be of the program before, and is of the next one afterwards if it was.
func affectedBy(before, after *policy.Program, c *policy.Change, uses *setUses) Scope {
	if before == nil || c == nil {
		return Scope{All: true}
	}
	uses.followChange(before, after, c)
	var s Scope
	if c.Frame != nil {
		if before.Unknown != after.Unknown || !slices.Equal(before.Local, after.Local) {
			return Scope{All: true}
		}
		s.addHosts(before.Hosts, after.Hosts)
	}
	s.addEndpoints(before, after, c)
	s.addSetChanges(after, c.Members, uses)
	return s
}

func (s *Scope) addAddresses(addrs []netip.Addr) {
	for _, a := range addrs {
		s.addSides(a, policy.Directions[:]...)
	}
}

// addHosts adds the nodes that came, went or changed.
func (s *Scope) addHosts(before, after []policy.Host) {
	for _, pair := range [2][2][]policy.Host{{before, after}, {after, before}} {
		others := make(map[string]policy.Host, len(pair[1]))
		for _, h := range pair[1] {
			others[h.Name] = h
		}
		for _, h := range pair[0] {
			if o, found := others[h.Name]; !found || !sameHost(h, o) {
				s.addAddresses(h.Addrs)
			}
		}
	}
}

func sameHost(a, b policy.Host) bool {
	return a.Name == b.Name && slices.Equal(a.Addrs, b.Addrs) && slices.Equal(a.PodCIDRs, b.PodCIDRs)
}

// classPair is the class of an endpoint before and after a change.
type classPair struct {
	direction     policy.Direction
	before, after policy.ClassID
}

// addEndpoints adds the endpoints that are new, different or gone.
func (s *Scope) addEndpoints(before, after *policy.Program, c *policy.Change) {
	known := map[classPair]bool{}
	isWider := func(pair classPair) bool {
		wider, found := known[pair]
		if !found {
			wider = isWider(before, before.Classes[pair.direction][pair.before], after.Classes[pair.direction][pair.after])
			known[pair] = wider
		}
		return wider
	}
	for _, e := range c.Endpoints {
		s.addEndpoint(before, e, isWider)
	}
	for _, key := range c.EndpointsGone {
		if old := findEndpoint(before, key); old != nil {
			s.addAddresses(old.Addrs)
		}
	}
}

// addEndpoint adds an endpoint that is new or different: the addresses that it lost; those that it gained, unless
// everything was denied to them before; and, for those that it kept, the directions whose class does not allow all that
// the class before allowed.
func (s *Scope) addEndpoint(before *policy.Program, e policy.Endpoint, isWider func(classPair) bool) {
	old := findEndpoint(before, e.Key())
	if old == nil {
		old = &policy.Endpoint{}
	}
	for _, a := range old.Addrs {
		if !slices.Contains(e.Addrs, a) {
			s.addAddresses([]netip.Addr{a})
		}
	}
	for _, a := range e.Addrs {
		switch {
		case !slices.Contains(old.Addrs, a):
			if !isClosedAddress(before, a) {
				s.addAddresses([]netip.Addr{a})
			}
		case old.Node != e.Node:
			s.addAddresses([]netip.Addr{a})
		default:
			for _, d := range policy.Directions {
				if old.Class[d] != e.Class[d] && !isWider(classPair{d, old.Class[d], e.Class[d]}) {
					s.addSides(a, d)
				}
			}
		}
	}
}

// isClosedAddress reports whether the program denies everything to and from an address, since it may be that of a pod
// that is not known yet.
func isClosedAddress(p *policy.Program, a netip.Addr) bool {
	return p.Unknown == policy.Deny &&
		slices.ContainsFunc(p.Local, func(l netip.Prefix) bool { return l.Contains(a) }) &&
		!slices.ContainsFunc(p.Hosts, func(h policy.Host) bool { return slices.Contains(h.Addrs, a) }) &&
		!slices.ContainsFunc(p.Endpoints, func(e policy.Endpoint) bool { return slices.Contains(e.Addrs, a) })
}

func findEndpoint(p *policy.Program, key string) *policy.Endpoint {
	namespace, name, _ := strings.Cut(key, "/")
	i, found := slices.BinarySearchFunc(p.Endpoints, [2]string{namespace, name}, func(e policy.Endpoint, k [2]string) int {
		if c := strings.Compare(e.Namespace, k[0]); c != 0 {
			return c
		}
		return strings.Compare(e.Name, k[1])
	})
	if !found {
		return nil
	}
	return &p.Endpoints[i]
}
