package eval

import (
	"net/netip"
	"testing"

	"github.com/tierwall/tierwall/policy"
)

// What a flow costs is counted in rules, peers, ports and elements that are looked at.
func TestAFlowOfALargeClassCostsLittle(t *testing.T) {
	single := func(i int) netip.Prefix {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 32)
	}
	every := netip.MustParsePrefix("10.0.0.0/8")
	one := func(i int) policy.Port {
		return policy.Port{Protocol: policy.TCP, First: uint16(i), Last: uint16(i)}
	}
	many := func(i int) policy.Port {
		return policy.Port{Protocol: policy.TCP, First: uint16(i), Last: uint16(30000 + i)}
	}
	other := func(i int) policy.Port {
		return policy.Port{Protocol: policy.TCP, First: uint16(40000 + i), Last: 65535}
	}
	const flows = 300
	for name, c := range map[string]struct {
		ports   func(int) policy.Port
		members func(int) []netip.Prefix
		most    int // for each flow
	}{
		"a port and a peer each":         {one, func(i int) []netip.Prefix { return []netip.Prefix{single(i)} }, 60},
		"the same peer, beside others":   {one, func(i int) []netip.Prefix { return []netip.Prefix{single(i), netip.MustParsePrefix("10.2.0.0/16")} }, 60},
		"ranges that overlap":            {many, func(i int) []netip.Prefix { return []netip.Prefix{single(i)} }, 26000},
		"everything overlaps everything": {many, func(int) []netip.Prefix { return []netip.Prefix{every} }, 200},
		"many peers, and another port":   {other, func(int) []netip.Prefix { return []netip.Prefix{every} }, 51000},
	} {
		p := large(c.ports, c.members)
		e := New(p)
		for i := range flows {
			e.Decide(policy.Flow{Source: single(i).Addr(), Destination: p.Endpoints[0].Addrs[0], Protocol: policy.TCP, DestinationPort: uint16(i + 7)})
		}
		// As much as twice the index, and what is over.
		once := 2 * indexCost(p, p.Classes[policy.Ingress]["large"])
		if looked := e.Looked(); looked > 2*once+flows*c.most {
			t.Errorf("%s: looked at %d, %d for each flow", name, looked, looked/flows)
		}
	}
}

func TestASmallClassHasNoIndex(t *testing.T) {
	p := large(func(int) policy.Port { return policy.AllPorts(policy.TCP) }, func(int) []netip.Prefix { return nil })
	c := p.Classes[policy.Ingress]["large"]
	c.Tiers[0].Rules = c.Tiers[0].Rules[:smallClass/3]
	e := New(p)
	for range 1000 {
		e.Direction("a/a", policy.Ingress, netip.MustParseAddr("10.0.0.9"), policy.TCP, 1)
	}
	if e.indexes.classes[c].index != nil {
		t.Error("it has one")
	}
}

// An index is for as long as the sets are as they were, and a bounded evaluator makes none.
func TestAnIndexIsForTheProgramsThatShareIt(t *testing.T) {
	peer := netip.MustParseAddr("10.1.0.9")
	p := large(func(int) policy.Port { return policy.AllPorts(policy.TCP) },
		func(int) []netip.Prefix { return []netip.Prefix{netip.PrefixFrom(peer, 32)} })
	c := p.Classes[policy.Ingress]["large"]
	c.Tiers[0].Rules = c.Tiers[0].Rules[:100]
	judge := func(e *Evaluator) policy.Verdict {
		for range 100 {
			e.Direction("a/a", policy.Ingress, peer, policy.TCP, 1)
		}
		return e.Direction("a/a", policy.Ingress, peer, policy.TCP, 1).Verdict
	}
	e := New(p)
	if judge(e.Bounded()); e.indexes.classes[c].index != nil {
		t.Error("a bounded evaluator has made an index")
	}
	if judge(e); e.indexes.classes[c].index == nil {
		t.Error("there is no index")
	}
	other := e.Next(p.With(&policy.Change{Sets: []*policy.Set{{ID: "other"}}}))
	if other.indexes.classes[c].index == nil || other.indexes.room != e.indexes.room || judge(other) != policy.Allow {
		t.Error("the index is lost though the sets are as before")
	}
	var gone policy.Change
	for _, s := range p.Sets {
		gone.Members = append(gone.Members, policy.SetChange{ID: s.ID, Removed: s.Elements})
	}
	changed := other.Next(p.With(&gone))
	if i := changed.indexes.classes[c]; i.index != nil || changed.indexes.room != maxMembers {
		t.Error("the index outlives its sets")
	}
	if judge(changed) != policy.Deny {
		t.Error("the members that are gone are still there")
	}
}
