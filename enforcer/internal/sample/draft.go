package sample

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/tierwall/tierwall/policy"
)

// Draft is a program in the making: who is there, in which class, and in which sets.
type Draft struct {
	class   map[netip.Addr][2]int
	members map[netip.Addr][sets + 1]bool
}

// Draft is one of the world's.
func (w *World) Draft() Draft {
	d := Draft{map[netip.Addr][2]int{}, map[netip.Addr][sets + 1]bool{}}
	for range 30 {
		d = w.change(d, w.IntN(6))
	}
	return d
}

// Changes is a draft with a few things changed, half of the time labels alone.
func (w *World) Changes(d Draft) Draft {
	kinds := 4 + 2*w.IntN(2)
	for range 1 + w.IntN(8) {
		d = w.change(d, w.IntN(kinds))
	}
	return d
}

// change is a draft with one thing changed.
func (w *World) change(d Draft, kind int) Draft {
	d = Draft{maps.Clone(d.class), maps.Clone(d.members)}
	a := w.local[w.IntN(len(w.local))]
	switch kind {
	case 4:
		delete(d.class, a)
		delete(d.members, a)
	case 5:
		d.class[a] = [2]int{w.IntN(4), w.IntN(4)}
	default:
		if w.IntN(2) == 0 {
			a = w.remote[w.IntN(len(w.remote))]
		}
		m := d.members[a]
		m[w.IntN(len(m))] = w.IntN(3) == 0
		d.members[a] = m
	}
	return d
}

// Program is what a draft makes.
func (w *World) Program(d Draft) *policy.Program {
	p := &policy.Program{
		Sets: map[policy.SetID]*policy.Set{"named": {ID: "named", Kind: policy.AddressPorts},
			"networks": {ID: "networks", Kind: policy.Networks, Elements: []policy.Element{{Prefix: netip.MustParsePrefix("10.0.1.2/31")}}}},
		Local: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")},
	}
	for i := range sets {
		p.Sets[setOf(i)] = &policy.Set{ID: setOf(i)}
	}
	for _, dir := range policy.Directions {
		p.Classes[dir] = map[policy.ClassID]*policy.Class{}
		for _, c := range w.classes[dir] {
			p.Classes[dir][c.ID] = c
		}
	}
	for _, a := range slices.Concat(w.local, w.remote) {
		if c, ok := d.class[a]; ok {
			p.Endpoints = append(p.Endpoints, policy.Endpoint{Namespace: "w", Name: a.String(), Addrs: []netip.Addr{a},
				Class: [2]policy.ClassID{w.classes[0][c[0]].ID, w.classes[1][c[1]].ID}})
		}
		for i, in := range d.members[a] {
			id, e := policy.SetID("named"), policy.AddressElement(a)
			if i < sets {
				id = setOf(i)
			} else {
				e.Protocol, e.Port = policy.TCP, 80
			}
			if in {
				p.Sets[id].Elements = append(p.Sets[id].Elements, e)
			}
		}
	}
	if w.Tidy {
		dropUnused(p)
	}
	return p
}

// dropUnused leaves out classes that no endpoint has, as the compiler does.
func dropUnused(p *policy.Program) {
	for _, d := range policy.Directions {
		maps.DeleteFunc(p.Classes[d], func(id policy.ClassID, _ *policy.Class) bool {
			return !slices.ContainsFunc(p.Endpoints, func(e policy.Endpoint) bool { return e.Class[d] == id })
		})
	}
}

// Reclass gives one or two pods of a draft other classes, in one direction.
func (w *World) Reclass(d Draft) {
	direction := w.IntN(2)
	for range 1 + w.IntN(2) {
		a := w.local[w.IntN(len(w.local))]
		if class, ok := d.class[a]; ok {
			class[direction] = w.IntN(len(w.classes[direction]))
			d.class[a] = class
		}
	}
}
