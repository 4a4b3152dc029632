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

// claim notes that the pod claims the address, or claims it otherwise than before. It reports who gained or lost the
// address. Only a claim of the owner is compared with all others, so that many claims to one address cost little each.
func (c *claims) claim(a netip.Addr, m *member, n *NodeNetworks, changed func(*member)) {
	owner, claimants := c.owners.of(a), c.contested[a]
	claim := n.Claim(m.pod, a)
	if claimants == nil && owner != nil && owner != m {
		claimants = []*member{owner}
	}
	if claimants == nil {
		if claim.Place == Unusable {
			c.contested[a] = []*member{m}
			c.setOwner(a, nil, changed)
		} else {
			c.setOwner(a, m, changed)
		}
		return
	}
	if !slices.Contains(claimants, m) {
		claimants = append(claimants, m)
	}
	c.contested[a] = claimants
	switch {
	case owner == m || len(claimants) == 1:
		c.resolveOwner(a, n, changed)
	case claim.Place != Unusable && (owner == nil || claim.Compare(n.Claim(owner.pod, a)) < 0):
		c.setOwner(a, m, changed)
	}
}

// drop notes that the pod claims the address no longer.
func (c *claims) drop(a netip.Addr, m *member, n *NodeNetworks, changed func(*member)) {
	claimants := c.contested[a]
	if claimants == nil {
		c.setOwner(a, nil, changed)
		return
	}
	c.contested[a] = slices.DeleteFunc(claimants, func(r *member) bool { return r == m })
	if owner := c.owners.of(a); owner == m || len(c.contested[a]) <= 1 {
		c.resolveOwner(a, n, changed)
	}
}

// resolveOwner gives a contested address to the best of all that claim it, if it can be a pod's.
func (c *claims) resolveOwner(a netip.Addr, n *NodeNetworks, changed func(*member)) {
	claimants := c.contested[a]
	var best *member
	var claim Claim
	for _, m := range claimants {
		if other := n.Claim(m.pod, a); other.Place != Unusable && (best == nil || other.Compare(claim) < 0) {
			best, claim = m, other
		}
	}
	c.setOwner(a, best, changed)
	if len(claimants) == 0 || len(claimants) == 1 && best != nil {
		delete(c.contested, a)
	}
}

// setOwner gives the address to a pod, or with nil to none.
func (c *claims) setOwner(a netip.Addr, now *member, changed func(*member)) {
	before := c.owners.of(a)
	if now == before {
		return
	}
	c.owners.set(a, now)
	for _, m := range []*member{before, now} {
		if m != nil {
			changed(m)
		}
	}
}
