package revoke

import (
	"iter"
	"slices"

	"github.com/tierwall/tierwall/policy"
)

// effects are what rules of a class can do because of a set.
type effects uint8

// A rule that passes to the next tier has both: a flow can lose either way.
const (
	canAllow effects = 1 << iota
	canDeny
)

func effectsOf(v policy.Verdict) effects {
	switch v {
	case policy.Allow:
		return canAllow
	case policy.Deny:
		return canDeny
	default:
		return canAllow | canDeny
	}
}

// setUse is a class whose rules refer to a set.
type setUse struct {
	class   policy.ClassID
	effects effects
}

// setUses is an index of the classes that refer to each set, by direction. It follows a program from change to change,
// so that a change costs what it changes. The zero value is of no program.
type setUses struct {
	program *policy.Program
	byClass [2]map[policy.SetID][]setUse
}

// followChange makes the index that of the next program. Where the index is not of the program before, it is made anew, but
// only if the change needs it.
func (u *setUses) followChange(before, after *policy.Program, c *policy.Change) {
	if u.program == nil || u.program != before {
		*u = setUses{}
		if len(c.Members) > 0 {
			u.indexProgram(after)
		}
		return
	}
	for _, d := range policy.Directions {
		for _, id := range c.ClassesGone[d] {
			u.removeClass(d, before.Classes[d][id])
		}
		for _, class := range c.Classes[d] {
			u.removeClass(d, before.Classes[d][class.ID])
			u.addClass(d, class)
		}
	}
	u.program = after
}

func (u *setUses) indexProgram(p *policy.Program) {
	for _, d := range policy.Directions {
		u.byClass[d] = map[policy.SetID][]setUse{}
		for _, class := range p.Classes[d] {
			u.addClass(d, class)
		}
	}
	u.program = p
}

func (u *setUses) addClass(d policy.Direction, c *policy.Class) {
	for set, verdict := range referencedSets(c) {
		uses := u.byClass[d][set]
		if last := len(uses) - 1; last >= 0 && uses[last].class == c.ID {
			uses[last].effects |= effectsOf(verdict)
			continue
		}
		u.byClass[d][set] = append(uses, setUse{c.ID, effectsOf(verdict)})
	}
}

func (u *setUses) removeClass(d policy.Direction, c *policy.Class) {
	if c == nil {
		return
	}
	for set := range referencedSets(c) {
		uses := u.byClass[d][set]
		i := slices.IndexFunc(uses, func(use setUse) bool { return use.class == c.ID })
		if i < 0 {
			continue // by an earlier reference
		}
		last := len(uses) - 1
		uses[i], uses[last] = uses[last], setUse{}
		if u.byClass[d][set] = uses[:last]; last == 0 {
			delete(u.byClass[d], set)
		}
	}
}

// referencedSets yields the sets that rules of a class refer to, with the rules' verdicts. A set may come several times.
func referencedSets(c *policy.Class) iter.Seq2[policy.SetID, policy.Verdict] {
	return func(yield func(policy.SetID, policy.Verdict) bool) {
		for _, t := range c.Tiers {
			for _, r := range t.Rules {
				for _, set := range r.Peers {
					if !yield(set, r.Verdict) {
						return
					}
				}
				for _, port := range r.Ports {
					if port.Named != "" && !yield(port.Named, r.Verdict) {
						return
					}
				}
			}
		}
	}
}

// addSetChanges adds the connections that sets with other members can have denied: those with an address that a set
// lost by which something is allowed, or that a set gained by which something is denied. An endpoint whose class
// changed is judged altogether anyway, so it is enough to ask the classes that there are now.
func (s *Scope) addSetChanges(p *policy.Program, changes []policy.SetChange, uses *setUses) {
	if len(changes) == 0 {
		return
	}
	for _, d := range policy.Directions {
		s.addSetChangesOf(p, d, changes, uses)
	}
}

func (s *Scope) addSetChangesOf(p *policy.Program, d policy.Direction, changes []policy.SetChange, uses *setUses) {
	subjects := map[policy.ClassID][]*policy.Endpoint{}
	for _, c := range changes {
		for _, u := range uses.byClass[d][c.ID] {
			subjects[u.class] = nil
		}
	}
	for i, e := range p.Endpoints {
		if list, affected := subjects[e.Class[d]]; affected {
			subjects[e.Class[d]] = append(list, &p.Endpoints[i])
		}
	}
	for _, c := range changes {
		if users := uses.byClass[d][c.ID]; len(users) > 0 {
			s.addPeers(d, elementsThatDeny(c, users), users, subjects)
		}
	}
}

// elementsThatDeny returns the elements of a set change that can deny what was allowed before.
func elementsThatDeny(c policy.SetChange, users []setUse) (out []policy.Element) {
	var all effects
	for _, u := range users {
		all |= u.effects
	}
	for _, e := range c.Removed {
		if all&canAllow != 0 && !e.Except || all&canDeny != 0 && e.Except {
			out = append(out, e)
		}
	}
	for _, e := range c.Added {
		if all&canDeny != 0 && !e.Except || all&canAllow != 0 && e.Except {
			out = append(out, e)
		}
	}
	return out
}

// addPeers adds the connections of the elements' addresses, or those of the endpoints that may have them as peers,
// whichever are fewer.
func (s *Scope) addPeers(d policy.Direction, denied []policy.Element, users []setUse, subjects map[policy.ClassID][]*policy.Endpoint) {
	if len(denied) == 0 {
		return
	}
	count := 0
	for _, u := range users {
		count += len(subjects[u.class])
	}
	isNetwork := func(e policy.Element) bool { return !e.Prefix.IsSingleIP() }
	if count >= len(denied) && !slices.ContainsFunc(denied, isNetwork) {
		for _, e := range denied {
			s.addSides(e.Prefix.Addr(), otherSide(d))
		}
		return
	}
	for _, u := range users {
		for _, e := range subjects[u.class] {
			for _, a := range e.Addrs {
				s.addSides(a, d)
			}
		}
	}
}

func otherSide(d policy.Direction) policy.Direction {
	if d == policy.Ingress {
		return policy.Egress
	}
	return policy.Ingress
}
