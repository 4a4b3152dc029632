package compile

import (
	"net/netip"
	"slices"
)

// claims say which pod each address belongs to, while pods come and go.
type claims struct {
	owners map[netip.Addr]*member
	// contested are all that claim an address, where it is more than one.
	contested map[netip.Addr][]*member
}

func newClaims() claims {
	return claims{owners: map[netip.Addr]*member{}, contested: map[netip.Addr][]*member{}}
}

// claim notes that the pod claims the address, or that it may claim it in another way than before.
// It tells who gained or lost the address.
func (c *claims) claim(a netip.Addr, m *member, changed func(*member)) {
	owner, rivals := c.owners[a], c.contested[a]
	switch {
	case owner == nil:
		c.owners[a] = m
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
		delete(c.owners, a)
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
	before := c.owners[a]
	best := slices.MinFunc(c.contested[a], func(a, b *member) int { return compareClaims(a.pod, b.pod) })
	if best != before {
		c.owners[a] = best
		changed(before)
		changed(best)
	}
}
