package policy

import "slices"

// Equal reports whether the class has the same content as another of its direction, whatever their IDs.
func (c *Class) Equal(o *Class) bool {
	return c == o || slices.EqualFunc(c.Tiers, o.Tiers, func(x, y Tier) bool {
		return x.Name == y.Name && x.Else == y.Else && x.ElseID == y.ElseID && slices.EqualFunc(x.Rules, y.Rules, Rule.equal)
	})
}

func (r Rule) equal(o Rule) bool {
	return r.ID == o.ID && r.Verdict == o.Verdict && r.AnyPeer == o.AnyPeer && r.AnyPort == o.AnyPort &&
		slices.Equal(r.Peers, o.Peers) && slices.Equal(r.Ports, o.Ports)
}
