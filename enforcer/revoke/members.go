package revoke

import (
	"slices"

	"github.com/tierwall/tierwall/policy"
)

// use is how the classes of one direction use a set.
type use struct {
	change policy.SetChange
	// allows says that some rule allows because of the set, denies that some rule denies;
	// by one that passes to the next tier a flow can lose either way.
	allows, denies bool
	classes        map[policy.ClassID]bool
}

// members adds the connections that sets with other members can have denied: those
// with an address that a set lost by which something is allowed, or that a set gained by
// which something is denied. An endpoint whose class changed is judged altogether
// anyway; so it is enough to ask the classes that there are now.
func (s *Scope) members(p *policy.Program, changes []policy.SetChange) {
	if len(changes) == 0 {
		return
	}
	for _, d := range policy.Directions {
		for _, u := range uses(p, d, changes) {
			s.use(p, d, u)
		}
	}
}

// use adds the connections of the addresses in question, or those of the endpoints
// that may have them as peers, whichever are fewer.
func (s *Scope) use(p *policy.Program, d policy.Direction, u *use) {
	var lost []policy.Element
	for _, e := range u.change.Removed {
		if u.allows && !e.Except || u.denies && e.Except {
			lost = append(lost, e)
		}
	}
	for _, e := range u.change.Added {
		if u.denies && !e.Except || u.allows && e.Except {
			lost = append(lost, e)
		}
	}
	if len(lost) == 0 {
		return
	}
	var subjects []policy.Endpoint
	for _, e := range p.Endpoints {
		if u.classes[e.Class[d]] {
			subjects = append(subjects, e)
		}
	}
	network := func(e policy.Element) bool { return !e.Prefix.IsSingleIP() }
	if len(subjects) >= len(lost) && !slices.ContainsFunc(lost, network) {
		for _, e := range lost {
			s.add(e.Prefix.Addr(), otherSide(d))
		}
		return
	}
	for _, e := range subjects {
		for _, a := range e.Addrs {
			s.add(a, d)
		}
	}
}

func otherSide(d policy.Direction) policy.Direction {
	if d == policy.Ingress {
		return policy.Egress
	}
	return policy.Ingress
}

// uses are those of the changed sets that classes of a direction refer to.
func uses(p *policy.Program, d policy.Direction, changes []policy.SetChange) map[policy.SetID]*use {
	all := make(map[policy.SetID]*use, len(changes))
	for _, c := range changes {
		all[c.ID] = &use{change: c, classes: map[policy.ClassID]bool{}}
	}
	for id, class := range p.Classes[d] {
		for _, t := range class.Tiers {
			for _, r := range t.Rules {
				for _, set := range r.Peers {
					all[set].by(id, r.Verdict)
				}
				for _, port := range r.Ports {
					all[port.Named].by(id, r.Verdict)
				}
			}
		}
	}
	return all
}

// by notes that a rule of a class refers to the set, unless the set did not change.
func (u *use) by(id policy.ClassID, v policy.Verdict) {
	if u == nil {
		return
	}
	u.allows = u.allows || v != policy.Deny
	u.denies = u.denies || v != policy.Allow
	u.classes[id] = true
}
