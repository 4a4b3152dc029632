package revoke

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/tierwall/tierwall/policy"
)

// manyClasses is a program of classes with an endpoint each, and with rules that allow by sets of their own.
func manyClasses(classes, rules int) *policy.Program {
	p := &policy.Program{Sets: map[policy.SetID]*policy.Set{}, Classes: [2]map[policy.ClassID]*policy.Class{{}, {}}}
	for i := range classes {
		id := policy.ClassID(fmt.Sprintf("class-%06d", i))
		var tier policy.Tier
		for n := range rules {
			set := policy.SetID(fmt.Sprintf("set-%06d-%04d", i, n))
			p.Sets[set] = &policy.Set{ID: set}
			tier.Rules = append(tier.Rules, policy.Rule{Verdict: policy.Allow, AnyPort: true, Peers: []policy.SetID{set}})
		}
		p.Classes[policy.Ingress][id] = &policy.Class{ID: id, Tiers: []policy.Tier{tier}}
		p.Endpoints = append(p.Endpoints, policy.Endpoint{Namespace: "test", Name: string(id),
			Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})}, Class: [2]policy.ClassID{id, ""}})
	}
	return p
}

// BenchmarkAffected is what it costs to find the scope of a change of one set's members, and of one class, among many.
func BenchmarkAffected(b *testing.B) {
	for _, size := range []struct{ classes, rules int }{{10, 10}, {500, 10}, {500, 200}} {
		before := manyClasses(size.classes, size.rules)
		members := &policy.Change{Members: []policy.SetChange{{ID: "set-000001-0001", Removed: []policy.Element{policy.AddressElement(addr4(9))}}}}
		class := &policy.Class{ID: "new", Tiers: before.Classes[policy.Ingress]["class-000001"].Tiers}
		endpoint := before.Endpoints[1]
		endpoint.Class[policy.Ingress] = class.ID
		reclassified := &policy.Change{Endpoints: []policy.Endpoint{endpoint}, Classes: [2][]*policy.Class{{class}}}
		for _, c := range []struct {
			name   string
			change *policy.Change
		}{{"members", members}, {"class", reclassified}} {
			name := fmt.Sprintf("%d classes of %d rules/%s", size.classes, size.rules, c.name)
			after := before.With(c.change)
			b.Run(name+"/whole walk", func(b *testing.B) {
				for b.Loop() {
					Affected(before, after, c.change)
				}
			})
			b.Run(name+"/index", func(b *testing.B) {
				uses := &setUses{}
				uses.indexProgram(before)
				back := &policy.Change{ClassesGone: [2][]policy.ClassID{{class.ID}}}
				for b.Loop() {
					affectedBy(before, after, c.change, uses)
					if c.change == reclassified {
						uses.followChange(after, before, back)
					}
					uses.program = before
				}
			})
			b.Run(name+"/With", func(b *testing.B) {
				for b.Loop() {
					before.With(c.change)
				}
			})
		}
	}
}
