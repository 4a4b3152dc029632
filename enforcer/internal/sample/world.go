package sample

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"

	"github.com/tierwall/tierwall/policy"
)

// World is a small universe in which changes collide often: four addresses of
// the node, three elsewhere, a few sets and classes.
type World struct {
	*rand.Rand
	local, remote []netip.Addr
	classes       [2][]*policy.Class
	// Tidy leaves out classes that no endpoint has.
	Tidy bool
}

// sets is how many sets of addresses a world has.
const sets = 3

// NewWorld is the world of a seed. A quarter of all have rules that deny.
func NewWorld(seed uint64) *World {
	w := &World{Rand: rand.New(rand.NewPCG(seed, 1))}
	for i := range 4 {
		w.local = append(w.local, netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}))
	}
	for i := range 3 {
		w.remote = append(w.remote, netip.AddrFrom4([4]byte{10, 0, 1, byte(i + 1)}))
	}
	denies := w.IntN(4) == 0
	w.Tidy = seed%4 != 0
	for _, d := range policy.Directions {
		for i := range 4 {
			w.classes[d] = append(w.classes[d], w.class(fmt.Sprintf("c%d", i), d, denies))
		}
	}
	return w
}

func (w *World) class(id string, d policy.Direction, denies bool) *policy.Class {
	c := &policy.Class{ID: policy.ClassID(id)}
	if denies {
		c.Tiers = append(c.Tiers, policy.Tier{Name: policy.AdminTier, Else: policy.Pass, Rules: []policy.Rule{
			w.rule(d, policy.Verdict(w.IntN(3))), w.rule(d, policy.Verdict(w.IntN(3))),
		}})
	}
	tier := policy.Tier{Name: policy.NetworkPolicyTier}
	for range 1 + w.IntN(2)*w.IntN(7) { // of many a run is merged
		tier.Rules = append(tier.Rules, w.rule(d, policy.Allow))
	}
	c.Tiers = append(c.Tiers, tier)
	return c
}

func (w *World) rule(d policy.Direction, v policy.Verdict) policy.Rule {
	r := policy.Rule{Verdict: v, AnyPeer: w.IntN(10) == 0, AnyPort: w.IntN(2) == 0}
	if !r.AnyPeer {
		r.Peers = []policy.SetID{setOf(w.IntN(sets))}
		if w.IntN(4) == 0 {
			r.Peers = append(r.Peers, "networks")
		}
	}
	if !r.AnyPort {
		r.Ports = []policy.Port{{Protocol: policy.TCP, First: 80, Last: 80 + uint16(w.IntN(2)*w.IntN(2)*100+w.IntN(2))}}
		if d == policy.Egress && w.IntN(2) == 0 {
			r.Ports[0] = policy.Port{Protocol: policy.TCP, Named: "named"}
		}
	}
	return r
}

func setOf(i int) policy.SetID { return policy.SetID(fmt.Sprintf("s%d", i)) }

// Relate makes the classes of a direction share most of their rules, as those of a pod do whose
// policies come and go; some deny, or end otherwise.
func (w *World) Relate(d policy.Direction) {
	w.classes[d] = nil
	common := policy.Tier{Name: policy.NetworkPolicyTier}
	for range 6 {
		common.Rules = append(common.Rules, w.rule(d, policy.Allow))
	}
	for i := range 8 {
		tier := policy.Tier{Name: policy.NetworkPolicyTier, Rules: slices.Clone(common.Rules)}
		for range 1 + w.IntN(3) {
			n := w.IntN(len(tier.Rules))
			tier.Rules[n] = w.rule(d, policy.Allow)
		}
		c := &policy.Class{ID: policy.ClassID(fmt.Sprintf("r%d", i)), Tiers: []policy.Tier{tier}}
		if w.IntN(6) == 0 {
			c.Tiers = append([]policy.Tier{{Name: policy.AdminTier, Else: policy.Pass, Rules: []policy.Rule{
				w.rule(d, policy.Deny), w.rule(d, policy.Allow), w.rule(d, policy.Pass)}}}, c.Tiers...)
		}
		if w.IntN(6) == 0 {
			c.Tiers[len(c.Tiers)-1].Else = policy.Allow
		}
		if w.IntN(8) == 0 { // a run that is walked in one and merged in another
			c.Tiers[len(c.Tiers)-1].Rules = c.Tiers[len(c.Tiers)-1].Rules[:2]
		}
		w.classes[d] = append(w.classes[d], c)
	}
}

// Flows are all flows of the world, but those of a pod to itself: to them eval
// does not apply.
func (w *World) Flows() []policy.Flow {
	var out []policy.Flow
	all := slices.Concat(w.local, w.remote)
	for _, a := range all {
		for _, b := range all {
			for _, port := range []uint16{80, 81, 150} {
				if a != b {
					out = append(out, policy.Flow{Source: a, Destination: b, Protocol: policy.TCP, DestinationPort: port})
				}
			}
		}
	}
	return out
}
