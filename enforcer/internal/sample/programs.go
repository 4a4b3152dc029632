// Package sample has programs, small worlds of them and large clusters for the tests of both backends.
package sample

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/tierwall/tierwall/policy"
)

// Shop is a node with a pod of each tier; the backend may use the data tier,
// the frontend the backend by a named port, and the world the frontend.
func Shop() *policy.Program {
	id := func(name, field string) policy.RuleID {
		return policy.RuleID{Kind: "NetworkPolicy", Namespace: "prod", Name: name, Field: field}
	}
	rule := func(name, field string, r policy.Rule) policy.Rule {
		r.ID, r.Verdict = id(name, field), policy.Allow
		return r
	}
	from := func(name string, rules ...policy.Rule) *policy.Class {
		return &policy.Class{Tiers: []policy.Tier{{Name: policy.NetworkPolicyTier, Rules: rules, ElseID: id(name, "/spec/ingress")}}}
	}
	addrs := func(s ...string) (out []policy.Element) {
		for _, a := range s {
			out = append(out, policy.Element{Prefix: netip.MustParsePrefix(a)})
		}
		return out
	}
	web := policy.Element{Prefix: netip.MustParsePrefix("10.1.0.3/32"), Protocol: policy.TCP, Port: 8080}
	return Identified(&policy.Program{
		Hosts: []policy.Host{{Name: "one", Addrs: []netip.Addr{netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("192.168.0.1")}}},
		Local: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24"), netip.MustParsePrefix("fd00:1::/64")},
		Endpoints: []policy.Endpoint{
			{Namespace: "prod", Name: "backend", Addrs: []netip.Addr{netip.MustParseAddr("10.1.0.3"), netip.MustParseAddr("fd00:1::3")}, Class: [2]policy.ClassID{"back", "any"}},
			{Namespace: "prod", Name: "data", Addrs: []netip.Addr{netip.MustParseAddr("10.1.0.4"), netip.MustParseAddr("fd00:1::4")}, Class: [2]policy.ClassID{"data", "none"}},
			{Namespace: "prod", Name: "frontend", Addrs: []netip.Addr{netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("fd00:1::2")}, Class: [2]policy.ClassID{"front", "named"}},
		},
		Classes: [2]map[policy.ClassID]*policy.Class{{
			"front": from("frontend", rule("frontend", "/spec/ingress/0", policy.Rule{Peers: []policy.SetID{"world"}, Ports: []policy.Port{
				{Protocol: policy.TCP, First: 80, Last: 80}, {Protocol: policy.TCP, First: 8000, Last: 8999}, {Protocol: policy.UDP, First: 443, Last: 443}}})),
			"back": from("backend", rule("backend", "/spec/ingress/0", policy.Rule{Peers: []policy.SetID{"front"}, AnyPort: true})),
			"data": {Tiers: []policy.Tier{
				{Name: policy.AdminTier, Else: policy.Pass, Rules: []policy.Rule{
					{ID: policy.RuleID{Kind: "ClusterNetworkPolicy", Name: "audit", Field: "/spec/ingress/0"}, Verdict: policy.Pass, Peers: []policy.SetID{"back"}, AnyPort: true},
					{ID: policy.RuleID{Kind: "ClusterNetworkPolicy", Name: "audit", Field: "/spec/ingress/1"}, AnyPeer: true, AnyPort: true}}},
				from("data", rule("data", "/spec/ingress/0", policy.Rule{AnyPeer: true, Ports: []policy.Port{
					{Protocol: policy.SCTP, First: 5432, Last: 5432}, {Protocol: policy.TCP, First: 5432, Last: 5432}}})).Tiers[0]}},
		}, {
			"any":   {Tiers: []policy.Tier{{Name: policy.DefaultTier, Else: policy.Allow}}},
			"none":  {Tiers: []policy.Tier{{Name: policy.DefaultTier}}},
			"named": from("frontend", rule("frontend", "/spec/egress/0", policy.Rule{Peers: []policy.SetID{"back"}, Ports: []policy.Port{{Protocol: policy.TCP, Named: "web"}}})),
		}},
		Sets: map[policy.SetID]*policy.Set{
			"world": {ID: "world", Kind: policy.Networks, Elements: addrs("0.0.0.0/0", "2001:db8::/32")},
			"front": {ID: "front", Elements: addrs("10.1.0.2/32", "fd00:1::2/128")},
			"back":  {ID: "back", Elements: addrs("10.1.0.3/32", "10.2.0.3/32")},
			"web":   {ID: "web", Kind: policy.AddressPorts, Elements: []policy.Element{web}},
		},
	})
}

// Identified gives the classes and sets of a program their IDs.
func Identified(p *policy.Program) *policy.Program {
	for _, d := range policy.Directions {
		for id, c := range p.Classes[d] {
			c.ID = id
		}
	}
	for id, s := range p.Sets {
		s.ID = id
	}
	return p
}

// Audited is the shop where the backend sends what it likes and the data tier sends
// nothing by policy, and either is audited instead; so is what a pod of no policy gets.
func Audited() *policy.Program {
	p := Shop()
	p.Classes[policy.Egress]["none"] = &policy.Class{Tiers: []policy.Tier{
		{Name: policy.BaselineTier, Else: policy.Pass, Rules: []policy.Rule{{Verdict: policy.Allow, Peers: []policy.SetID{"world"}, Ports: []policy.Port{{Protocol: policy.UDP, First: 53, Last: 53}}}}},
		{Name: policy.DefaultTier, Else: policy.Audit},
	}}
	watched := &policy.Class{Tiers: []policy.Tier{{Name: policy.DefaultTier, Else: policy.Audit}}}
	p.Classes[policy.Egress]["watched"], p.Classes[policy.Ingress]["watched"] = watched, watched
	p.Endpoints = append(p.Endpoints, policy.Endpoint{Namespace: "prod", Name: "new", Class: [2]policy.ClassID{"watched", "watched"}})
	p.Endpoints[3].Addrs = append(p.Endpoints[3].Addrs, netip.MustParseAddr("10.1.0.5"))
	return Identified(p)
}

// Edges is a program with everything that is long, empty, odd or Hostile.
func Edges() *policy.Program {
	rule := policy.Rule{ID: policy.RuleID{Kind: "NetworkPolicy", Namespace: "a", Name: Hostile, Field: strings.Repeat("/long", 80)}, Verdict: policy.Allow, AnyPeer: true}
	for i := range uint16(20) {
		rule.Ports = append(rule.Ports, policy.Port{Protocol: policy.UDP, First: 100 * i, Last: 100*i + i%3})
	}
	rule.Ports = append(rule.Ports,
		policy.AllPorts(policy.TCP), policy.Port{Protocol: policy.TCP, First: 80, Last: 80},
		policy.Port{Protocol: policy.SCTP, First: 65535, Last: 65535},
		policy.AllPorts(policy.ICMP), policy.AllPorts(47), policy.AllPorts(0))
	tiers := []policy.Tier{
		{Name: policy.AdminTier, Else: policy.Pass, Rules: []policy.Rule{{Verdict: policy.Pass, Peers: []policy.SetID{"nobody", LongName}, AnyPort: true}}},
		{Name: policy.NetworkPolicyTier, Else: policy.Pass, Rules: []policy.Rule{rule, {Verdict: policy.Allow, AnyPort: true}}},
		{Name: policy.BaselineTier, Else: policy.Pass, Rules: []policy.Rule{{Verdict: policy.Pass, AnyPeer: true, AnyPort: true}}},
	}
	c := policy.ClassID("longer than any name of a chain may be \n")
	p := &policy.Program{
		Classes: [2]map[policy.ClassID]*policy.Class{{c: {Tiers: tiers}}, {c: {}}},
		Sets:    map[policy.SetID]*policy.Set{"nobody": {}, LongName: {ID: LongName, Kind: policy.Networks, Elements: []policy.Element{{Prefix: netip.MustParsePrefix("::/0")}}}},
		Local:   []netip.Prefix{netip.MustParsePrefix("10.0.0.0/25"), netip.MustParsePrefix("10.0.0.128/26"), netip.MustParsePrefix("fd00::/120")},
	}
	for i := range 40 {
		p.Endpoints = append(p.Endpoints, policy.Endpoint{Namespace: "a", Name: fmt.Sprintf("p%d%s", i, Hostile), Class: [2]policy.ClassID{c, c},
			Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(7 * i)}), netip.MustParseAddr(fmt.Sprintf("fd00::%x", 5*i))}})
	}
	return Identified(p)
}

// Excepted is a program whose networks have exceptions: by themselves, merged with others, and of
// all addresses, a half of which is one.
func Excepted() *policy.Program {
	networks := func(texts ...string) *policy.Set {
		s := &policy.Set{Kind: policy.Networks}
		for _, text := range texts {
			cidr, except := strings.CutPrefix(text, "not ")
			s.Elements = append(s.Elements, policy.Element{Prefix: netip.MustParsePrefix(cidr), Except: except})
		}
		slices.SortFunc(s.Elements, policy.Element.Compare)
		return s
	}
	allow := func(set policy.SetID, ports ...policy.Port) policy.Rule {
		return policy.Rule{Verdict: policy.Allow, Peers: []policy.SetID{set}, Ports: ports, AnyPort: len(ports) == 0}
	}
	http, high := policy.Port{Protocol: policy.TCP, First: 80, Last: 80}, policy.Port{Protocol: policy.UDP, First: 1000, Last: 65535}
	one := &policy.Class{Tiers: []policy.Tier{{Name: policy.NetworkPolicyTier, Rules: []policy.Rule{allow("world")}}}}
	many := &policy.Class{Tiers: []policy.Tier{{Name: policy.NetworkPolicyTier, Rules: []policy.Rule{
		allow("world", http), allow("office", high), allow("office", http), allow("other"), allow("within", http), allow("upper", high)}}}}
	return Identified(&policy.Program{
		Local: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24"), netip.MustParsePrefix("fd00:1::/64")},
		Endpoints: []policy.Endpoint{
			{Namespace: "a", Name: "one", Addrs: []netip.Addr{netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("fd00:1::2")}, Class: [2]policy.ClassID{"one", "many"}},
			{Namespace: "a", Name: "two", Addrs: []netip.Addr{netip.MustParseAddr("10.1.0.3"), netip.MustParseAddr("fd00:1::3")}, Class: [2]policy.ClassID{"many", "one"}}},
		Classes: [2]map[policy.ClassID]*policy.Class{{"one": one, "many": many}, {"one": one, "many": many}},
		Sets: map[policy.SetID]*policy.Set{
			"world":  networks("0.0.0.0/0", "not 10.0.0.0/8", "not 192.168.0.0/16", "not 255.255.255.255/32", "::/0", "not fd00::/8", "not ::/128"),
			"upper":  networks("0.0.0.0/0", "not 0.0.0.0/1", "::/0", "not 8000::/1", "not 2001:db8::/32"),
			"office": networks("10.0.0.0/8", "not 10.0.0.0/16", "not 10.1.0.3/32", "2001:db8::/32", "not 2001:db8::1/128", "not 2001:db8:ffff::/48"),
			"within": networks("10.0.0.0/16", "not 10.0.0.0/24", "172.16.0.0/12"),
			"other":  networks("10.0.7.0/24", "192.168.1.0/24"),
		},
	})
}

// LongName and Hostile are names that Edges has.
const (
	LongName = policy.SetID("a name that is longer than a set's may be")
	Hostile  = "\"\n-A FORWARD -j ACCEPT\nCOMMIT\n\\'`$(x)\x00é\u2028 -j RETURN"
)

// Crowd is a program with many pods, a third of them in an open class.
func Crowd(pods int) *policy.Program {
	p := &policy.Program{Local: []netip.Prefix{netip.MustParsePrefix("10.4.0.0/16"), netip.MustParsePrefix("fd00:4::/64")}}
	for _, d := range policy.Directions {
		p.Classes[d] = map[policy.ClassID]*policy.Class{
			"open":   {Tiers: []policy.Tier{{Name: policy.DefaultTier, Else: policy.Allow}}},
			"closed": {Tiers: []policy.Tier{{Name: policy.DefaultTier}}},
		}
	}
	for i := range pods {
		c := policy.ClassID("closed")
		if i%3 == 0 {
			c = "open"
		}
		n := 7 * i
		p.Endpoints = append(p.Endpoints, policy.Endpoint{Namespace: "crowd", Name: fmt.Sprintf("pod-%d", i), Class: [2]policy.ClassID{c, c},
			Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 4, byte(n >> 8), byte(n)}), netip.MustParseAddr(fmt.Sprintf("fd00:4::%x", n+1))}})
	}
	return Identified(p)
}
