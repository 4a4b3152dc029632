package compile

import (
	"net/netip"
	"slices"
)

// claims say which pod each address belongs to, while pods come and go.
type claims struct {
	owners owners
	// contested are all that claim an address, where it is more than one.
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

// claim notes that the pod claims the address, or that it may claim it in another way than before.
// It tells who gained or lost the address.
func (c *claims) claim(a netip.Addr, m *member, changed func(*member)) {
	owner, rivals := c.owners.of(a), c.contested[a]
	switch {
	case owner == nil:
		c.owners.set(a, m)
		changed(m)
		return
	case owner == m && rivals == nil:
		return
	case rivals == nil:
		c.contested[a] = []*member{owner, m}
	case !slices.Contains(rivals, m):
		c.contested[a] = append(rivals, m)
	}
	c.elect(a, changed)
}

// drop notes that the pod claims the address no longer.
func (c *claims) drop(a netip.Addr, m *member, changed func(*member)) {
	rivals := c.contested[a]
	if rivals == nil {
		c.owners.set(a, nil)
		changed(m)
		return
	}
	rivals = slices.DeleteFunc(rivals, func(r *member) bool { return r == m })
	c.contested[a] = rivals
	c.elect(a, changed)
	if len(rivals) == 1 {
		delete(c.contested, a)
	}
}

func (c *claims) elect(a netip.Addr, changed func(*member)) {
	before := c.owners.of(a)
	best := slices.MinFunc(c.contested[a], func(a, b *member) int { return compareClaims(a.pod, b.pod) })
	if best != before {
		c.owners.set(a, best)
		changed(before)
		changed(best)
	}
}
