package effect

import (
	"net/netip"
	"slices"

	"github.com/tierwall/tierwall/policy"
)

func (s *compiledState) classView(class *policy.Class) *classView {
	v := s.classViews[class]
	if v == nil {
		v = &classView{sets: s.setNumbers(class), known: newNumbering[string](), rules: map[int][]rulePlace{}}
		for i, t := range class.Tiers {
			for j, r := range t.Rules {
				if r.AnyPeer {
					v.anyPeer = append(v.anyPeer, rulePlace{i, j})
				}
				for _, id := range r.Peers {
					if n, found := slices.BinarySearch(s.sets, id); found {
						v.rules[n] = append(v.rules[n], rulePlace{i, j})
					}
				}
			}
		}
		s.classViews[class] = v
	}
	return v
}

// setNumbers returns the numbers of the sets that a class refers to.
func (s *compiledState) setNumbers(class *policy.Class) map[int]bool {
	out := map[int]bool{}
	add := func(id policy.SetID) {
		if i, found := slices.BinarySearch(s.sets, id); found {
			out[i] = true
		}
	}
	for _, t := range class.Tiers {
		for _, r := range t.Rules {
			for _, id := range r.Peers {
				add(id)
			}
			for _, p := range r.Ports {
				if p.Named != "" {
					add(p.Named)
				}
			}
		}
	}
	return out
}

// equivalenceIDFor returns the same number for addresses that no rule of the class can tell apart.
func (s *compiledState) equivalenceIDFor(class *policy.Class, a netip.Addr) int {
	if class == nil {
		return 0
	}
	v := s.classView(class)
	all := s.setMemberships(a)
	own := make([]byte, 0, 8*membershipSize)
	for i := 0; i < len(all); i += membershipSize {
		if v.sets[int(all[i])<<16|int(all[i+1])<<8|int(all[i+2])] {
			own = append(own, all[i:i+membershipSize]...)
		}
	}
	return v.known.numberOf(string(own))
}

// classSeenBy returns a class with the rules that match a peer, each as one about any peer. It costs time by the sets
// that contain the peer, not by the rules of the class.
func (s *compiledState) classSeenBy(class *policy.Class, peer netip.Addr) *policy.Class {
	if class == nil {
		return nil
	}
	v, all := s.classView(class), s.setMemberships(peer)
	places := slices.Clone(v.anyPeer)
	for i := 0; i < len(all); i += membershipSize {
		n := int(all[i])<<16 | int(all[i+1])<<8 | int(all[i+2])
		if s.program.Sets[s.sets[n]].Kind != policy.AddressPorts {
			places = append(places, v.rules[n]...)
		}
	}
	slices.SortFunc(places, compareRulePlaces)
	out := &policy.Class{ID: class.ID, Tiers: slices.Clone(class.Tiers)}
	for i := range out.Tiers {
		out.Tiers[i].Rules = nil
	}
	for _, at := range slices.Compact(places) {
		met := class.Tiers[at.tier].Rules[at.rule]
		met.AnyPeer, met.Peers = true, nil
		out.Tiers[at.tier].Rules = append(out.Tiers[at.tier].Rules, met)
	}
	return out
}
