package compile

import (
	"net/netip"
	"slices"
)

// claims say which pod each address belongs to, while pods come and go.
type claims struct {
	owners owners
	// contested are all that claim an address, where it is more than one or no pod can have it.
	contested map[netip.Addr][]*member
}

// owners are pods by address. Of a large cluster this is much of what is kept, and a map of
// netip.Addr would take twice the memory.
type owners struct {
	v4 map[[4]byte]*member
	v6 map[[16]byte]*member
}

func newClaims() claims {
	return claims{owners: owners{map[[4]byte]*member{}, map[[16]byte]*member{}}, contested: map[netip.Addr][]*member{}}
}

func (o owners) of(a netip.Addr) *member {
	if a.Is4() {
		return o.v4[a.As4()]
	}
	return o.v6[a.As16()]
}

// set makes the address a pod's, or nobody's.
func (o owners) set(a netip.Addr, m *member) {
	switch {
	case a.Is4() && m == nil:
		delete(o.v4, a.As4())
	case a.Is4():
		o.v4[a.As4()] = m
	case m == nil:
		delete(o.v6, a.As16())
	default:
		o.v6[a.As16()] = m
	}
}

// claim notes that the pod claims the address, or that the place of its claim may have changed.
// It reports who gained or lost the address.
func (c *claims) claim(a netip.Addr, m *member, n *NodeNetworks, changed func(*member)) {
	owner, claimants := c.owners.of(a), c.contested[a]
	if claimants == nil && (owner == nil || owner == m) {
		usable := n.place(m.pod, a) != Unusable
		if usable && owner == nil {
			c.owners.set(a, m)
			changed(m)
		}
		if usable {
			return
		}
		claimants = []*member{m}
	}
	if claimants == nil {
		claimants = []*member{owner}
	}
	if !slices.Contains(claimants, m) {
		claimants = append(claimants, m)
	}
	c.resolveOwner(a, claimants, n, changed)
}

// drop notes that the pod claims the address no longer.
func (c *claims) drop(a netip.Addr, m *member, n *NodeNetworks, changed func(*member)) {
	claimants := c.contested[a]
	if claimants == nil {
		c.owners.set(a, nil)
		changed(m)
		return
	}
	c.resolveOwner(a, slices.DeleteFunc(claimants, func(r *member) bool { return r == m }), n, changed)
}

// resolveOwner gives the address to the best of all that claim it, if it can be a pod's.
func (c *claims) resolveOwner(a netip.Addr, claimants []*member, n *NodeNetworks, changed func(*member)) {
	var best *member
	var claim Claim
	for _, m := range claimants {
		if other := n.Claim(m.pod, a); other.Place != Unusable && (best == nil || other.Compare(claim) < 0) {
			best, claim = m, other
		}
	}
	if before := c.owners.of(a); best != before {
		c.owners.set(a, best)
		for _, m := range []*member{before, best} {
			if m != nil {
				changed(m)
			}
		}
	}
	if len(claimants) == 0 || len(claimants) == 1 && best != nil {
		delete(c.contested, a)
	} else {
		c.contested[a] = claimants
	}
}
