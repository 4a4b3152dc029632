package transition

import (
	"net/netip"
	"slices"

	"github.com/tierwall/tierwall/policy"
)

// Members is what the members that sets of both programs gain and lose mean.
type Members struct {
	// Added and Removed say whether any set gains, or loses one.
	Added, Removed bool
	// Negative says that a rule which denies or passes uses one of the sets; Single,
	// that one member of one set changes, which no class uses twice.
	Negative, Single bool
	elements         []policy.Element
}

// MembersOf looks at the members that a change is about. The users are those of both programs.
func MembersOf(old, next *policy.Program, c *policy.Change, users Users) Members {
	var m Members
	changed, classes := map[policy.SetID]bool{}, map[Class]bool{}
	for _, s := range c.Members {
		m.elements = append(append(m.elements, s.Added...), s.Removed...)
		both := hasExcept(s.Added) || hasExcept(s.Removed) // an exception that is added removes members
		m.Added, m.Removed = m.Added || len(s.Added) > 0 || both, m.Removed || len(s.Removed) > 0 || both
		changed[s.ID] = true
		for k := range users[s.ID] {
			classes[k] = true
		}
	}
	m.Single = len(m.elements) == 1
	for k := range classes {
		for _, p := range []*policy.Program{old, next} {
			if class := k.ClassIn(p); class != nil {
				m.usedBy(class, changed)
			}
		}
	}
	return m
}

func hasExcept(in []policy.Element) bool {
	return slices.ContainsFunc(in, func(e policy.Element) bool { return e.Except })
}

// Any reports whether any set gains or loses a member.
func (m Members) Any() bool { return m.Added || m.Removed }

// usedBy looks at how a class uses the sets.
func (m *Members) usedBy(c *policy.Class, changed map[policy.SetID]bool) {
	uses := 0
	for _, t := range c.Tiers {
		for _, r := range t.Rules {
			if slices.ContainsFunc(SetsOf(r), func(id policy.SetID) bool { return changed[id] }) {
				uses++
				m.Negative = m.Negative || r.Verdict != policy.Allow
			}
		}
	}
	m.Single = m.Single && uses <= 1
}

// Touch reports whether a change is about an endpoint's address, a network or a
// named port, rather than about single addresses elsewhere.
func (m Members) Touch(p *policy.Program) bool {
	own := map[netip.Addr]bool{}
	for _, e := range p.Endpoints {
		for _, a := range e.Addrs {
			own[a] = true
		}
	}
	return slices.ContainsFunc(m.elements, func(e policy.Element) bool {
		return own[e.Prefix.Addr()] || !e.Prefix.IsSingleIP() || e.Protocol != 0
	})
}
