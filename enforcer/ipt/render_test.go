package ipt_test

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tierwall/tierwall/enforcer/ipt"
	"github.com/tierwall/tierwall/enforcer/ipt/interpret"
	"github.com/tierwall/tierwall/policy"
)

// shop is a node with a pod of each tier; the backend may use the data tier,
// the frontend the backend by a named port, and the world the frontend.
func shop() *policy.Program {
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
	return identified(&policy.Program{
		Hosts: []policy.Host{{Name: "one", Addrs: []netip.Addr{address("10.1.0.1"), address("192.168.0.1")}}},
		Local: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24"), netip.MustParsePrefix("fd00:1::/64")},
		Endpoints: []policy.Endpoint{
			{Namespace: "prod", Name: "backend", Addrs: []netip.Addr{address("10.1.0.3"), address("fd00:1::3")}, Class: [2]policy.ClassID{"back", "any"}},
			{Namespace: "prod", Name: "data", Addrs: []netip.Addr{address("10.1.0.4"), address("fd00:1::4")}, Class: [2]policy.ClassID{"data", "none"}},
			{Namespace: "prod", Name: "frontend", Addrs: []netip.Addr{address("10.1.0.2"), address("fd00:1::2")}, Class: [2]policy.ClassID{"front", "named"}},
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

// identified gives the classes of a program their IDs.
func identified(p *policy.Program) *policy.Program {
	for _, d := range policy.Directions {
		for id, c := range p.Classes[d] {
			c.ID = id
		}
	}
	return p
}

func TestPacketsThroughTheShop(t *testing.T) {
	rules := render(t, shop())
	type flow struct {
		hook, from, to string
		protocol       policy.Protocol
		port           uint16
	}
	for name, c := range map[string]struct {
		flow
		passes bool
	}{
		"the world reaches the frontend":                      {flow{"FORWARD", "198.51.100.7", "10.1.0.2", policy.TCP, 80}, true},
		"in the range of ports":                               {flow{"FORWARD", "198.51.100.7", "10.1.0.2", policy.TCP, 8999}, true},
		"and not beyond it":                                   {flow{"FORWARD", "198.51.100.7", "10.1.0.2", policy.TCP, 9000}, false},
		"a rule for TCP opens no UDP":                         {flow{"FORWARD", "198.51.100.7", "10.1.0.2", policy.UDP, 80}, false},
		"the upper half of all addresses, too":                {flow{"FORWARD", "129.0.0.1", "10.1.0.2", policy.UDP, 443}, true},
		"IPv6 has its own networks":                           {flow{"FORWARD", "2001:db9::1", "fd00:1::2", policy.TCP, 80}, false},
		"the frontend reaches the backend's named port":       {flow{"FORWARD", "10.1.0.2", "10.1.0.3", policy.TCP, 8080}, true},
		"but no other port":                                   {flow{"FORWARD", "10.1.0.2", "10.1.0.3", policy.TCP, 8081}, false},
		"nor the port of another pod":                         {flow{"FORWARD", "10.1.0.2", "10.2.0.3", policy.TCP, 8080}, false},
		"nor by a protocol without ports":                     {flow{"FORWARD", "10.1.0.2", "10.1.0.3", policy.ICMP, 0}, false},
		"the backend reaches the data tier":                   {flow{"FORWARD", "10.1.0.3", "10.1.0.4", policy.TCP, 5432}, true},
		"by SCTP as well":                                     {flow{"FORWARD", "10.1.0.3", "10.1.0.4", policy.SCTP, 5432}, true},
		"not at another port":                                 {flow{"FORWARD", "10.1.0.3", "10.1.0.4", policy.TCP, 80}, false},
		"a backend elsewhere, too":                            {flow{"FORWARD", "10.2.0.3", "10.1.0.4", policy.TCP, 5432}, true},
		"nobody else: the Admin tier denies":                  {flow{"FORWARD", "198.51.100.7", "10.1.0.4", policy.TCP, 5432}, false},
		"the set of backends has no IPv6 addresses":           {flow{"FORWARD", "fd00:1::3", "fd00:1::4", policy.TCP, 5432}, false},
		"a pod that is not known yet sends nothing":           {flow{"FORWARD", "10.1.0.9", "198.51.100.7", policy.TCP, 80}, false},
		"and gets nothing":                                    {flow{"FORWARD", "2001:db8::7", "fd00:1::9", policy.TCP, 80}, false},
		"nor can it reach the node":                           {flow{"INPUT", "10.1.0.9", "192.168.0.1", policy.TCP, 10250}, false},
		"a bridge's address is no unknown pod":                {flow{"FORWARD", "10.1.0.1", "198.51.100.7", policy.TCP, 80}, true},
		"egress policy holds towards the node":                {flow{"INPUT", "10.1.0.4", "192.168.0.1", policy.TCP, 10250}, false},
		"ingress policy is not asked there":                   {flow{"INPUT", "198.51.100.7", "192.168.0.1", policy.TCP, 22}, true},
		"what passes through and is no pod's is not judged":   {flow{"FORWARD", "198.51.100.7", "203.0.113.1", policy.TCP, 22}, true},
		"the node reaches its own pods":                       {flow{"OUTPUT", "192.168.0.1", "10.1.0.4", policy.TCP, 5432}, true},
		"a pod to itself by way of a Service: policy applies": {flow{"FORWARD", "10.1.0.2", "10.1.0.2", policy.TCP, 80}, false},
	} {
		t.Run(name, func(t *testing.T) {
			table := rules[ipt.IPv4]
			if address(c.from).Is6() {
				table = rules[ipt.IPv6]
			}
			packet := interpret.Packet{Source: address(c.from), Destination: address(c.to), Protocol: c.protocol, DestinationPort: c.port}
			got, err := table.Judge(c.hook, packet)
			if err != nil || got.Accepted != c.passes {
				t.Errorf("accepted: %v (%v), by %s", got.Accepted, err, strings.Join(got.Trace, "\n"))
			}
			if i := slices.IndexFunc(got.Trace, isComment); i >= 0 {
				t.Errorf("a packet passes a rule that is but a comment: %s", got.Trace[i])
			}
			packet.Established = true
			if got, _ := table.Judge(c.hook, packet); !got.Accepted {
				t.Errorf("an established flow was judged: %v", got.Trace)
			}
		})
	}
}

// isComment says whether a rule, as a trace has it, does nothing.
func isComment(rule string) bool {
	words := strings.Fields(rule)
	return !slices.Contains(words, "-j") && !slices.Contains(words, "-g")
}

// The comments of a class chain tell by number what its rules are there for.
func TestCommentsAreAboutTheRulesOfTheirNumber(t *testing.T) {
	r, err := ipt.Render(shop(), ipt.IPv4, ipt.DenyLog{})
	if err != nil {
		t.Fatal(err)
	}
	for chain, want := range map[string]map[int]string{
		"TIERWALL-I-front": {3: "NetworkPolicy prod/frontend /spec/ingress/0", 4: "NetworkPolicy prod/frontend /spec/ingress/0", 5: "NetworkPolicy prod/frontend /spec/ingress"},
		"TIERWALL-I-data":  {3: "ClusterNetworkPolicy audit /spec/ingress/0", 4: "ClusterNetworkPolicy audit /spec/ingress/1", 5: "Admin tier"},
		"TIERWALL-I-dataB": {1: "NetworkPolicy prod/data /spec/ingress/0", 2: "NetworkPolicy prod/data /spec/ingress/0", 3: "NetworkPolicy prod/data /spec/ingress"},
		"TIERWALL-E-any":   {3: "Default tier"},
	} {
		i := slices.IndexFunc(r.Chains, func(c ipt.Chain) bool { return c.Name == chain })
		if got := explained(t, r.Chains[i].Rules); !maps.Equal(got, want) {
			t.Errorf("%s: %v, want %v", chain, got, want)
		}
	}
}

// explained are the comments of a chain by the numbers of the rules that they are about.
func explained(t *testing.T, rules []string) map[int]string {
	t.Helper()
	out := map[int]string{}
	for _, rule := range rules {
		if !isComment(rule) {
			continue
		}
		var first, last int
		numbers, why, _ := strings.Cut(strings.Split(rule, `"`)[1], ": ")
		if n, _ := fmt.Sscanf(numbers, "%d-%d", &first, &last); n == 1 {
			last = first
		}
		if first < 1 || last > len(rules) || isComment(rules[last-1]) {
			t.Errorf("%s: there are not so many rules", rule)
		}
		for i := first; i <= last; i++ {
			out[i] = why
		}
	}
	return out
}

func TestNeighbourDiscoveryAlwaysPasses(t *testing.T) {
	table := render(t, shop())[ipt.IPv6]
	for kind := range uint8(255) {
		for _, hook := range []string{"INPUT", "FORWARD"} {
			v, err := table.Judge(hook, interpret.Packet{Source: address("fd00:1::9"), Destination: address("fd00:1::4"), Protocol: policy.ICMPv6, ICMPType: kind})
			if want := kind >= 133 && kind <= 137; err != nil || v.Accepted != want {
				t.Errorf("%s type %d: accepted %v %v", hook, kind, v.Accepted, err)
			}
		}
	}
}

// TestGolden shows what a person sees. TIERWALL_UPDATE=1 writes the files anew.
func TestGolden(t *testing.T) {
	for name, p := range map[string]*policy.Program{"shop": shop(), "edges": edges(), "empty": {}, "logged": shop(), "audited": audited(), "merged": popular(12, 2)} {
		var log ipt.DenyLog
		if name == "logged" || name == "audited" {
			log = ipt.DenyLog{Group: 4741, Prefix: "tierwall", PerSecond: 100}
		}
		if name == "audited" {
			log.AuditPrefix, log.AuditPerSecond = [2]string{"tierwall-audit-ingress", "tierwall-audit-egress"}, 10
		}
		for _, f := range []ipt.Family{ipt.IPv4, ipt.IPv6} {
			r, err := ipt.Render(p, f, log)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, fmt.Sprintf("%s.%s.rules", name, f), r.RestoreText())
			golden(t, fmt.Sprintf("%s.%s.sets", name, f), r.SetText())
		}
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if os.Getenv("TIERWALL_UPDATE") != "" {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is not as before; it now is\n%s", name, got)
	}
}

// edges is a program with everything that is long, empty, odd or hostile.
func edges() *policy.Program {
	rule := policy.Rule{ID: policy.RuleID{Kind: "NetworkPolicy", Namespace: "a", Name: hostile, Field: strings.Repeat("/long", 80)}, Verdict: policy.Allow, AnyPeer: true}
	for i := range uint16(20) {
		rule.Ports = append(rule.Ports, policy.Port{Protocol: policy.UDP, First: 100 * i, Last: 100*i + i%3})
	}
	rule.Ports = append(rule.Ports,
		policy.AllPorts(policy.TCP), policy.Port{Protocol: policy.TCP, First: 80, Last: 80},
		policy.Port{Protocol: policy.SCTP, First: 65535, Last: 65535},
		policy.AllPorts(policy.ICMP), policy.AllPorts(47), policy.AllPorts(0))
	tiers := []policy.Tier{
		{Name: policy.AdminTier, Else: policy.Pass, Rules: []policy.Rule{{Verdict: policy.Pass, Peers: []policy.SetID{"nobody", longName}, AnyPort: true}}},
		{Name: policy.NetworkPolicyTier, Else: policy.Pass, Rules: []policy.Rule{rule, {Verdict: policy.Allow, AnyPort: true}}},
		{Name: policy.BaselineTier, Else: policy.Pass, Rules: []policy.Rule{{Verdict: policy.Pass, AnyPeer: true, AnyPort: true}}},
	}
	c := policy.ClassID("longer than any name of a chain may be \n")
	p := &policy.Program{
		Classes: [2]map[policy.ClassID]*policy.Class{{c: {Tiers: tiers}}, {c: {}}},
		Sets:    map[policy.SetID]*policy.Set{"nobody": {}, longName: {ID: longName, Kind: policy.Networks, Elements: []policy.Element{{Prefix: netip.MustParsePrefix("::/0")}}}},
		Local:   []netip.Prefix{netip.MustParsePrefix("10.0.0.0/25"), netip.MustParsePrefix("10.0.0.128/26"), netip.MustParsePrefix("fd00::/120")},
	}
	for i := range 40 {
		p.Endpoints = append(p.Endpoints, policy.Endpoint{Namespace: "a", Name: fmt.Sprintf("p%d%s", i, hostile), Class: [2]policy.ClassID{c, c},
			Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(7 * i)}), netip.MustParseAddr(fmt.Sprintf("fd00::%x", 5*i))}})
	}
	return identified(p)
}

const (
	longName = policy.SetID("a name that is longer than a set's may be")
	hostile  = "\"\n-A FORWARD -j ACCEPT\nCOMMIT\n\\'`$(x)\x00é\u2028 -j RETURN"
)

func TestNoNameGetsOutOfItsQuotes(t *testing.T) {
	p := edges()
	for _, f := range []ipt.Family{ipt.IPv4, ipt.IPv6} {
		r, err := ipt.Render(p, f, ipt.DenyLog{})
		if err != nil {
			t.Fatal(err)
		}
		rules := 0
		for _, c := range r.Chains {
			rules += len(c.Rules)
		}
		if lines := strings.Count(r.RestoreText(), "\n"); lines != len(r.Chains)+rules+2 {
			t.Errorf("%d lines for %d chains and %d rules", lines, len(r.Chains), rules)
		}
		if strings.Contains(r.RestoreText(), "\n-A FORWARD") || strings.Contains(r.RestoreText(), "\\") {
			t.Errorf("a name got through:\n%s", r.RestoreText())
		}
	}
	render(t, p)
}

func FuzzNames(f *testing.F) {
	f.Add("prod", "backend", "/spec/ingress/0")
	f.Add(hostile, "\xff\"", "\r\n")
	f.Fuzz(func(t *testing.T, namespace, name, field string) {
		c := policy.ClassID(name + field)
		p := &policy.Program{
			Endpoints: []policy.Endpoint{{Namespace: namespace, Name: name, Class: [2]policy.ClassID{c, c}, Addrs: []netip.Addr{address("10.0.0.1")}}},
			Hosts:     []policy.Host{{Name: name, Addrs: []netip.Addr{address("10.0.0.2")}}},
			Local:     []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
			Sets:      map[policy.SetID]*policy.Set{policy.SetID(field): {ID: policy.SetID(field)}},
		}
		tier := policy.Tier{Name: policy.TierName(name), ElseID: policy.RuleID{Namespace: namespace, Name: name}, Rules: []policy.Rule{
			{ID: policy.RuleID{Kind: namespace, Name: name, Field: field}, Peers: []policy.SetID{policy.SetID(field)}, AnyPort: true}}}
		for _, d := range policy.Directions {
			p.Classes[d] = map[policy.ClassID]*policy.Class{c: {ID: c, Tiers: []policy.Tier{tier}}}
		}
		v, err := render(t, p)[ipt.IPv4].Judge("FORWARD", interpret.Packet{Source: address("10.0.0.1"), Destination: address("10.0.0.2")})
		if err != nil || v.Accepted {
			t.Errorf("accepted %v, %v: %v", v.Accepted, err, v.Trace)
		}
	})
}

func TestDispatchIsATree(t *testing.T) {
	for _, pods := range []int{0, 1, 3, 16, 17, 250, 1000} {
		p := crowd(pods)
		rules := render(t, p)
		for _, f := range []ipt.Family{ipt.IPv4, ipt.IPv6} {
			r, err := ipt.Render(p, f, ipt.DenyLog{})
			if err != nil {
				t.Fatal(err)
			}
			dispatch := 0
			for _, c := range r.Chains {
				dispatch++
				if len(c.Rules) > 16+len(p.Local) {
					t.Errorf("%d pods, %s: chain %s has %d rules", pods, f, c.Name, len(c.Rules))
				}
			}
			if pods <= 16 && dispatch > 10 {
				t.Errorf("%d pods, %s: %d chains are too many to read", pods, f, dispatch)
			}
		}
		for _, e := range p.Endpoints {
			for _, a := range e.Addrs {
				open := e.Class[policy.Egress] == "open"
				if v := rules.judge(t, policy.Host{}, policy.Flow{Source: a, Destination: far(a)}); v.Accepted != open {
					t.Errorf("%d pods: %s in class %s is accepted: %v by %v", pods, a, e.Class[policy.Egress], v.Accepted, v.Trace)
				}
				if steps := len(rules.judge(t, policy.Host{}, policy.Flow{Source: a, Destination: far(a)}).Trace); steps > 9 {
					t.Errorf("%d pods: %s takes %d rules", pods, a, steps)
				}
			}
		}
	}
}

func far(a netip.Addr) netip.Addr {
	if a.Is4() {
		return address("198.51.100.1")
	}
	return address("2001:db8::1")
}

// crowd is a program with many pods, a third of them in an open class.
func crowd(pods int) *policy.Program {
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
	return identified(p)
}

func TestAProgramThatRefersToNothingIsRefused(t *testing.T) {
	noSet, noClass := shop(), shop()
	delete(noSet.Sets, "web")
	delete(noClass.Classes[policy.Ingress], "data")
	for name, p := range map[string]*policy.Program{`no set "web"`: noSet, "data": noClass} {
		if _, err := ipt.Render(p, ipt.IPv4, ipt.DenyLog{}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("want an error about %s, got %v", name, err)
		}
	}
}

func TestRenderingDoesNotDependOnTheOrderOfEndpoints(t *testing.T) {
	p := crowd(100)
	want, err := ipt.Render(p, ipt.IPv4, ipt.DenyLog{})
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(p.Endpoints)
	slices.Reverse(p.Local)
	got, err := ipt.Render(p, ipt.IPv4, ipt.DenyLog{})
	if err != nil || got.RestoreText() != want.RestoreText() {
		t.Errorf("the order shows (%v)", err)
	}
}
