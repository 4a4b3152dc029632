package nftables

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/tierwall/tierwall/enforcer/internal/backendtest"
	"github.com/tierwall/tierwall/enforcer/internal/sample"
	"github.com/tierwall/tierwall/enforcer/nftables/simulator"
	"github.com/tierwall/tierwall/enforcer/ruletext"
	"github.com/tierwall/tierwall/policy"
)

// goldens are the programs of the golden files.
func goldens() map[string]*policy.Program {
	return map[string]*policy.Program{"shop": sample.Shop(), "edges": sample.Edges(), "empty": {}, "many": many(12, 3), "logged": sample.Shop(), "audited": sample.Audited()}
}

// TestGolden shows what a person sees. TIERWALL_UPDATE=1 writes the files anew.
func TestGolden(t *testing.T) {
	for name, p := range goldens() {
		r, err := Render(p, backendtest.GoldenLog(name))
		if err != nil {
			t.Fatal(err)
		}
		backendtest.VerifyGolden(t, name+".nft", script(r))
	}
}

func TestNoNameGetsOutOfItsQuotes(t *testing.T) {
	p := sample.Edges()
	r, err := Render(p, ruletext.DenyLog{})
	if err != nil {
		t.Fatal(err)
	}
	text, lines := script(r), 1
	for _, c := range r.Chains {
		lines += 2 + len(c.Rules)
	}
	for _, s := range r.Sets {
		lines += 1 + len(s.Elements)
	}
	if got := strings.Count(text, "\n"); got != lines {
		t.Errorf("%d lines for %d commands", got, lines)
	}
	if strings.Contains(text, "FORWARD") && !strings.Contains(text, "_-A FORWARD") || strings.Contains(text, "\\") {
		t.Errorf("a name got through:\n%s", text)
	}
	render(t, p)
}

// many is a program with one local pod of each family that a number of policies select,
// each with peers of its own and a port of its own, some with ranges and networks.
func many(policies, pods int) *policy.Program {
	p := &policy.Program{
		Local: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("fd00::/64")},
		Endpoints: []policy.Endpoint{{Namespace: "many", Name: "pod", Addrs: []netip.Addr{address("10.0.0.2"), address("fd00::2")},
			Class: [2]policy.ClassID{"many", "open"}}},
		Sets:    map[policy.SetID]*policy.Set{},
		Classes: [2]map[policy.ClassID]*policy.Class{{}, {"open": {ID: "open", Tiers: []policy.Tier{{Name: policy.DefaultTier, Else: policy.Allow}}}}},
	}
	tier := policy.Tier{Name: policy.NetworkPolicyTier}
	for i := range policies {
		id := policy.SetID(fmt.Sprintf("peers%d", i))
		s := &policy.Set{ID: id}
		for j := range pods {
			n := (i*7 + j) % 1000
			s.Elements = append(s.Elements, policy.AddressElement(netip.AddrFrom4([4]byte{10, 1, byte(n >> 8), byte(n)})),
				policy.AddressElement(netip.MustParseAddr(fmt.Sprintf("fd00:1::%x", n+1))))
		}
		slices.SortFunc(s.Elements, policy.Element.Compare)
		port := uint16(1000 + i)
		r := policy.Rule{Verdict: policy.Allow, Peers: []policy.SetID{id}, Ports: []policy.Port{{Protocol: policy.TCP, First: port, Last: port}},
			ID: policy.RuleID{Kind: "NetworkPolicy", Namespace: "many", Name: fmt.Sprintf("np%d", i), Field: "/spec/ingress/0"}}
		switch i % 6 {
		case 1:
			r.AnyPort, r.Ports = true, nil
		case 2:
			r.Ports[0].Last += 10
		case 3:
			s.Kind, s.Elements = policy.Networks, []policy.Element{{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, byte(i), 0}), 23).Masked()}}
		case 4:
			s.Kind, s.Elements = policy.Networks, []policy.Element{{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 1, byte(i), 0}), 24)}}
			r.AnyPort, r.Ports = true, nil
		case 5:
			r.AnyPeer, r.Peers = true, nil
		}
		p.Sets[id] = s
		tier.Rules = append(tier.Rules, r)
	}
	p.Classes[policy.Ingress]["many"] = &policy.Class{ID: "many", Tiers: []policy.Tier{tier}}
	return p
}

// A packet takes as many steps whatever the number of pods, of policies, and of
// policies that select its pod.
func TestTheStepsOfAPacketDoNotGrow(t *testing.T) {
	worst := func(p *policy.Program) (rules, lookups int) {
		table := render(t, p)
		for _, e := range p.Endpoints {
			for _, a := range e.Addrs {
				v, err := table.Judge("forward", simulator.Packet{Source: far(a), Destination: a, Protocol: policy.TCP, DestinationPort: 1})
				if err != nil {
					t.Fatal(err)
				}
				rules, lookups = max(rules, v.Rules), max(lookups, v.Lookups)
			}
		}
		return rules, lookups
	}
	for name, programs := range map[string][2]*policy.Program{
		"pods": {sample.Crowd(2), sample.Crowd(500)}, "policies on the pod": {many(12, 3), many(100, 3)}, "peers": {many(12, 3), many(12, 300)},
	} {
		fewRules, fewLookups := worst(programs[0])
		manyRules, manyLookups := worst(programs[1])
		t.Logf("%s: %d rules and %d lookups", name, manyRules, manyLookups)
		if manyRules > fewRules || manyLookups > fewLookups || manyRules > 16 {
			t.Errorf("%s: %d rules and %d lookups of few, %d and %d of many", name, fewRules, fewLookups, manyRules, manyLookups)
		}
	}
}

func TestAnEndpointWithoutAClassIsDenied(t *testing.T) {
	p := sample.Shop()
	delete(p.Classes[policy.Ingress], "data")
	v, err := render(t, p).Judge("forward", simulator.Packet{Source: address("10.2.0.3"), Destination: address("10.1.0.4"), Protocol: policy.TCP, DestinationPort: 5432})
	if err != nil || v.Accepted {
		t.Errorf("accepted %v, %v", v.Accepted, err)
	}
}

// address is an address of a test.
func address(s string) netip.Addr { return netip.MustParseAddr(s) }

// far is an address of the same family that is no pod's.
func far(a netip.Addr) netip.Addr {
	if a.Is4() {
		return address("198.51.100.1")
	}
	return address("2001:db8::1")
}
