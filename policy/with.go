package policy

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// With is the program that the change makes of p. Both stay as they are; the
// result shares with them what is equal.
func (p *Program) With(c *Change) *Program {
	out := *p
	if c.Frame != nil {
		out.Hosts, out.Local, out.Unknown = c.Frame.Hosts, c.Frame.Local, c.Frame.Unknown
	}
	out.Endpoints = endpointsWith(p.Endpoints, c)
	for _, d := range Directions {
		if len(c.Classes[d])+len(c.ClassesGone[d]) == 0 && p.Classes[d] != nil {
			continue // shared
		}
		out.Classes[d] = maps.Clone(p.Classes[d])
		if out.Classes[d] == nil {
			out.Classes[d] = map[ClassID]*Class{}
		}
		for _, id := range c.ClassesGone[d] {
			delete(out.Classes[d], id)
		}
		for _, class := range c.Classes[d] {
			out.Classes[d][class.ID] = class
		}
	}
	out.Sets = setsWith(p.Sets, c)
	return &out
}

func endpointsWith(before []Endpoint, c *Change) []Endpoint {
	stale := make(map[string]bool, len(c.Endpoints)+len(c.EndpointsGone))
	for _, key := range c.EndpointsGone {
		stale[key] = true
	}
	for _, e := range c.Endpoints {
		stale[e.Key()] = true
	}
	if len(stale) == 0 {
		return before
	}
	out := make([]Endpoint, 0, len(before)+len(c.Endpoints))
	for _, e := range before {
		if !stale[e.Key()] {
			out = append(out, e)
		}
	}
	out = append(out, c.Endpoints...)
	SortEndpoints(out)
	return out
}

// SortEndpoints sorts endpoints as they are in a program, by namespace and name.
func SortEndpoints(endpoints []Endpoint) {
	slices.SortFunc(endpoints, func(a, b Endpoint) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
}

func setsWith(before map[SetID]*Set, c *Change) map[SetID]*Set {
	if len(c.Sets)+len(c.SetsGone)+len(c.Members) == 0 && before != nil {
		return before // shared
	}
	out := maps.Clone(before)
	if out == nil {
		out = map[SetID]*Set{}
	}
	for _, id := range c.SetsGone {
		delete(out, id)
	}
	for _, s := range c.Sets {
		out[s.ID] = s
	}
	for _, m := range c.Members {
		s := *out[m.ID]
		s.Elements = elementsWith(s.Elements, m)
		out[m.ID] = &s
	}
	return out
}

// elementsWith merges what came into the sorted elements and leaves out what left.
func elementsWith(before []Element, m SetChange) []Element {
	out := make([]Element, 0, max(0, len(before)+len(m.Added)-len(m.Removed)))
	added, removed := m.Added, m.Removed
	for _, e := range before {
		for len(added) > 0 && added[0].Compare(e) < 0 {
			out, added = append(out, added[0]), added[1:]
		}
		if len(removed) > 0 && removed[0] == e {
			removed = removed[1:]
			continue
		}
		out = append(out, e)
	}
	return append(out, added...)
}
