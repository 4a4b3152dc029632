package policy

import "net/netip"

// Change is what is different between a program and the one before it, so that
// who keeps a program in force need not compare the whole. All that it holds is
// in no particular order, but that the elements of a set are sorted and unique.
type Change struct {
	// Endpoints are those that are new or different. One that lost an address to
	// another endpoint, or all that it had, is here or in EndpointsGone too.
	Endpoints []Endpoint
	// EndpointsGone are the keys of those that are no longer there.
	EndpointsGone []string
	// Classes are new, by direction. A class never changes: its ID is its content.
	Classes [2][]*Class
	// ClassesGone are no longer the class of any endpoint.
	ClassesGone [2][]ClassID
	// Sets are new, with all their elements.
	Sets []*Set
	// SetsGone are no longer referred to by any class.
	SetsGone []SetID
	// Members are what came into and left the sets that were there before and still are.
	Members []SetChange
	// Frame is the rest of the program, or nil where it is as before.
	Frame *NodeConfig
}

// SetChange is what came into a set and what left it. The set's kind and meaning never change.
type SetChange struct {
	ID             SetID
	Added, Removed []Element
}

// NodeConfig is what of a program does not belong to a single endpoint.
type NodeConfig struct {
	Hosts   []Host
	Local   []netip.Prefix
	Unknown Verdict
}

// Empty reports whether the change changes nothing.
func (c *Change) Empty() bool {
	return len(c.Endpoints)+len(c.EndpointsGone)+len(c.Sets)+len(c.SetsGone)+len(c.Members) == 0 &&
		len(c.Classes[Ingress])+len(c.Classes[Egress])+len(c.ClassesGone[Ingress])+len(c.ClassesGone[Egress]) == 0 &&
		c.Frame == nil
}
