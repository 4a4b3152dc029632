package iptables_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/tierwall/tierwall/enforcer/iptables"
	"github.com/tierwall/tierwall/enforcer/ruletext"
	"github.com/tierwall/tierwall/policy"
)

// popular is a node with a pod that many policies select, each of which admits a set of so many
// members to some port, by number, by range, altogether, or, at egress, by name.
func popular(policies, members int) *policy.Program {
	p := &policy.Program{
		Local:     []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24")},
		Endpoints: []policy.Endpoint{{Namespace: "prod", Name: "popular", Addrs: []netip.Addr{address("10.1.0.2"), address("fd00:1::2")}, Class: [2]policy.ClassID{"many", "many"}}},
		Sets: map[policy.SetID]*policy.Set{
			"office": {ID: "office", Kind: policy.Networks, Elements: []policy.Element{{Prefix: netip.MustParsePrefix("0.0.0.0/0")}, {Prefix: netip.MustParsePrefix("2001:db8::/32")}}},
			"named":  {ID: "named", Kind: policy.AddressPorts, Elements: []policy.Element{{Prefix: netip.MustParsePrefix("10.2.0.1/32"), Protocol: policy.TCP, Port: 8080}}},
		},
	}
	for i := range policies {
		s := &policy.Set{ID: policy.SetID(fmt.Sprint("peers-", i))}
		for n := range members {
			s.Elements = append(s.Elements, policy.AddressElement(netip.AddrFrom4([4]byte{10, 2 + byte(i), byte(n >> 8), byte(n)})))
		}
		p.Sets[s.ID] = s
	}
	for _, d := range policy.Directions {
		tier := policy.Tier{Name: policy.NetworkPolicyTier, ElseID: policy.RuleID{Kind: "NetworkPolicy", Namespace: "prod", Name: "one", Field: "/spec/ingress"}}
		for i := range policies {
			r := policy.Rule{ID: policy.RuleID{Kind: "NetworkPolicy", Namespace: "prod", Name: fmt.Sprint(i)}, Verdict: policy.Allow, Peers: []policy.SetID{policy.SetID(fmt.Sprint("peers-", i))}}
			switch i % 6 {
			case 0:
				r.AnyPort = true
			case 1:
				r.Ports = []policy.Port{{Protocol: policy.TCP, First: 1024, Last: policy.MaxPort}, policy.AllPorts(policy.UDP)}
			case 2:
				r.Peers = append(r.Peers, "office")
				r.Ports = []policy.Port{{Protocol: policy.TCP, First: 443, Last: 443}}
			case 3:
				r.Peers, r.AnyPeer = nil, true
				r.Ports = []policy.Port{{Protocol: policy.TCP, First: 22, Last: 22}}
			case 4:
				r.Ports = []policy.Port{{Protocol: policy.SCTP, First: 80, Last: 82}, {Protocol: policy.TCP, First: 80, Last: 80}}
				if d == policy.Egress {
					r.Ports = append(r.Ports, policy.Port{Protocol: policy.TCP, Named: "named"})
				}
			default:
				r.Ports = []policy.Port{{Protocol: policy.UDP, First: 53, Last: 53}}
			}
			tier.Rules = append(tier.Rules, r)
		}
		p.Classes[d] = map[policy.ClassID]*policy.Class{"many": {ID: "many", Tiers: []policy.Tier{tier}}}
	}
	return p
}

// Whatever the number of policies and of their peers, a packet meets the same rules, and a
// rule looks into one set at most.
func TestAPodThatManyPoliciesSelectHasAConstantNumberOfLookups(t *testing.T) {
	var first []int
	for _, size := range [][2]int{{12, 3}, {100, 3}, {100, 300}} {
		r, err := iptables.Render(popular(size[0], size[1]), iptables.IPv4, ruletext.DenyLog{})
		if err != nil {
			t.Fatal(err)
		}
		var rules []int
		for _, c := range r.Chains {
			rules = append(rules, len(c.Rules))
			if strings.HasSuffix(c.Name, "-many") && len(c.Rules) > 10 {
				t.Errorf("%d policies: %s has %d rules", size[0], c.Name, len(c.Rules))
			}
			for _, rule := range c.Rules {
				if strings.Count(rule, "--match-set") > 1 {
					t.Errorf("two sets in %s", rule)
				}
			}
		}
		if first == nil {
			first = rules
		}
		if !slices.Equal(rules, first) {
			t.Errorf("%d policies of %d peers: chains of %v rules, not of %v", size[0], size[1], rules, first)
		}
	}
}

// A large set is kept once, and looked up by itself.
func TestALargeSetIsNotMerged(t *testing.T) {
	for members, merged := range map[int]bool{2048: true, 2049: false} {
		p := popular(12, 3)
		for i := range members - 3 {
			p.Sets["peers-0"].Elements = append(p.Sets["peers-0"].Elements, policy.AddressElement(netip.AddrFrom4([4]byte{10, 200, byte(i >> 8), byte(i)})))
		}
		r, err := iptables.Render(p, iptables.IPv4, ruletext.DenyLog{})
		if err != nil {
			t.Fatal(err)
		}
		if alone := strings.Contains(r.RestoreText(), "--match-set tw4-peers-0 "); alone == merged {
			t.Errorf("a set of %d members is looked up by itself: %v", members, alone)
		}
	}
}

func TestPacketsThroughMergedRules(t *testing.T) {
	table := render(t, popular(12, 3))[iptables.IPv4]
	for name, c := range map[string]struct {
		from     string
		protocol policy.Protocol
		port     uint16
		passes   bool
	}{
		"a peer of all ports":                   {"10.2.0.1", policy.TCP, 1, true},
		"and by a protocol without ports":       {"10.2.0.1", policy.ICMP, 0, true},
		"a peer of a range":                     {"10.3.0.1", policy.TCP, 2000, true},
		"not below it":                          {"10.3.0.1", policy.TCP, 1023, false},
		"nor by another protocol":               {"10.3.0.1", policy.SCTP, 2000, false},
		"a peer of a whole protocol":            {"10.3.0.1", policy.UDP, 1, true},
		"a network":                             {"200.0.0.1", policy.TCP, 443, true},
		"at another port":                       {"200.0.0.1", policy.TCP, 444, false},
		"anybody":                               {"200.0.0.1", policy.TCP, 22, true},
		"a peer in the middle of a small range": {"10.6.0.2", policy.SCTP, 81, true},
		"and past its end":                      {"10.6.0.2", policy.SCTP, 83, false},
		"a peer of another policy's port":       {"10.6.0.2", policy.UDP, 53, false},
	} {
		f := policy.Flow{Source: address(c.from), Destination: address("10.1.0.2"), Protocol: c.protocol, DestinationPort: c.port}
		if got := (rendered{iptables.IPv4: table}).judge(t, policy.Host{}, f); got.Accepted != c.passes {
			t.Errorf("%s: accepted: %v, by %v", name, got.Accepted, got.Trace)
		}
	}
}
