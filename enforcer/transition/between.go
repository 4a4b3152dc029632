package transition

import (
	"slices"

	"github.com/tierwall/tierwall/policy"
)

// ShareNumbering reports whether the IDs of two programs are those of one numbering: no ID of a class stands for different
// contents. Programs of two compilers can have another each, where their hashes are the same.
func ShareNumbering(old, next *policy.Program) bool {
	for _, d := range policy.Directions {
		for id, class := range next.Classes[d] {
			if was := old.Classes[d][id]; was != nil && !was.Equal(class) {
				return false
			}
		}
	}
	return true
}

// ChangeBetween is the change from one program to another, whose IDs are those of one numbering.
func ChangeBetween(old, next *policy.Program) *policy.Change {
	c := &policy.Change{}
	endpointsBetween(c, old, next)
	for _, d := range policy.Directions {
		for id, class := range next.Classes[d] {
			if old.Classes[d][id] == nil {
				c.Classes[d] = append(c.Classes[d], class)
			}
		}
		for id := range old.Classes[d] {
			if next.Classes[d][id] == nil {
				c.ClassesGone[d] = append(c.ClassesGone[d], id)
			}
		}
	}
	setsBetween(c, old, next)
	if !sameFrame(old, next) {
		c.Frame = &policy.NodeConfig{Hosts: next.Hosts, Local: next.Local, Unknown: next.Unknown}
	}
	return c
}

func endpointsBetween(c *policy.Change, old, next *policy.Program) {
	before := make(map[string]policy.Endpoint, len(old.Endpoints))
	for _, e := range old.Endpoints {
		before[e.Key()] = e
	}
	for _, e := range next.Endpoints {
		was, ok := before[e.Key()]
		delete(before, e.Key())
		if !ok || was.Class != e.Class || was.Node != e.Node || !slices.Equal(was.Addrs, e.Addrs) {
			c.Endpoints = append(c.Endpoints, e)
		}
	}
	for key := range before {
		c.EndpointsGone = append(c.EndpointsGone, key)
	}
}

// setsBetween compares sets. A changed kind is reported as a removal and an addition.
func setsBetween(c *policy.Change, old, next *policy.Program) {
	for id, s := range next.Sets {
		was := old.Sets[id]
		switch {
		case was == nil || was.Kind != s.Kind:
			c.Sets = append(c.Sets, s)
		case was != s:
			if added, removed := CompareElements(was.Elements, s.Elements); len(added)+len(removed) > 0 {
				c.Members = append(c.Members, policy.SetChange{ID: id, Added: added, Removed: removed})
			}
		}
	}
	for id, s := range old.Sets {
		if is := next.Sets[id]; is == nil || is.Kind != s.Kind {
			c.SetsGone = append(c.SetsGone, id)
		}
	}
}

// CompareElements are those that are only in the second and only in the first list; both are
// sorted and have each element once.
func CompareElements(old, next []policy.Element) (added, removed []policy.Element) {
	for len(old) > 0 && len(next) > 0 {
		switch c := old[0].Compare(next[0]); {
		case c < 0:
			removed, old = append(removed, old[0]), old[1:]
		case c > 0:
			added, next = append(added, next[0]), next[1:]
		default:
			old, next = old[1:], next[1:]
		}
	}
	return append(added, next...), append(removed, old...)
}

// sameFrame reports whether all but endpoints, classes and sets is equal.
func sameFrame(a, b *policy.Program) bool {
	return a.Unknown == b.Unknown && slices.Equal(a.Local, b.Local) &&
		slices.EqualFunc(a.Hosts, b.Hosts, func(x, y policy.Host) bool {
			return x.Name == y.Name && slices.Equal(x.Addrs, y.Addrs) && slices.Equal(x.PodCIDRs, y.PodCIDRs)
		})
}
