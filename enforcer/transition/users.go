package transition

import (
	"github.com/tierwall/tierwall/policy"
)

// Class names a class of a program.
type Class struct {
	Direction policy.Direction
	ID        policy.ClassID
}

// ClassIn is the class in a program, or nil.
func (c Class) ClassIn(p *policy.Program) *policy.Class { return p.Classes[c.Direction][c.ID] }

// Users are the classes whose rules refer to a set, by set.
type Users map[policy.SetID]map[Class]bool

// UsersOf are those of a program.
func UsersOf(p *policy.Program) Users {
	u := Users{}
	for _, d := range policy.Directions {
		for _, c := range p.Classes[d] {
			u.AddClass(d, c)
		}
	}
	return u
}

// AddClass adds a class.
func (u Users) AddClass(d policy.Direction, c *policy.Class) {
	for id := range setsOf(c) {
		if u[id] == nil {
			u[id] = map[Class]bool{}
		}
		u[id][Class{d, c.ID}] = true
	}
}

// RemoveClass removes a class.
func (u Users) RemoveClass(d policy.Direction, c *policy.Class) {
	for id := range setsOf(c) {
		if delete(u[id], Class{d, c.ID}); len(u[id]) == 0 {
			delete(u, id)
		}
	}
}

func setsOf(c *policy.Class) map[policy.SetID]bool {
	out := map[policy.SetID]bool{}
	for _, t := range c.Tiers {
		for _, r := range t.Rules {
			for _, id := range SetsOf(r) {
				out[id] = true
			}
		}
	}
	return out
}

// SetsOf are the sets that a rule refers to.
func SetsOf(r policy.Rule) []policy.SetID {
	out := append([]policy.SetID(nil), r.Peers...)
	for _, port := range r.Ports {
		if port.Named != "" {
			out = append(out, port.Named)
		}
	}
	return out
}
