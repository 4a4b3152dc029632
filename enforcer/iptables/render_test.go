package iptables_test

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tierwall/tierwall/enforcer/internal/sample"
	"github.com/tierwall/tierwall/enforcer/iptables"
	"github.com/tierwall/tierwall/enforcer/iptables/simulator"
	"github.com/tierwall/tierwall/enforcer/ruletext"
	"github.com/tierwall/tierwall/policy"
)

func TestPacketsThroughTheShop(t *testing.T) {
	rules := render(t, sample.Shop())
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
			table := rules[iptables.IPv4]
			if address(c.from).Is6() {
				table = rules[iptables.IPv6]
			}
			packet := simulator.Packet{Source: address(c.from), Destination: address(c.to), Protocol: c.protocol, DestinationPort: c.port}
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

// isComment reports whether a rule, as a trace has it, does nothing.
func isComment(rule string) bool {
	words := strings.Fields(rule)
	return !slices.Contains(words, "-j") && !slices.Contains(words, "-g")
}

// The comments of a class chain tell by number what its rules are there for.
func TestCommentsAreAboutTheRulesOfTheirNumber(t *testing.T) {
	r, err := iptables.Render(sample.Shop(), iptables.IPv4, ruletext.DenyLog{})
	if err != nil {
		t.Fatal(err)
	}
	for chain, want := range map[string]map[int]string{
		"TIERWALL-I-front": {3: "NetworkPolicy prod/frontend /spec/ingress/0", 4: "NetworkPolicy prod/frontend /spec/ingress/0", 5: "NetworkPolicy prod/frontend /spec/ingress"},
		"TIERWALL-I-data":  {3: "ClusterNetworkPolicy audit /spec/ingress/0", 4: "ClusterNetworkPolicy audit /spec/ingress/1", 5: "Admin tier"},
		"TIERWALL-I-dataB": {1: "NetworkPolicy prod/data /spec/ingress/0", 2: "NetworkPolicy prod/data /spec/ingress/0", 3: "NetworkPolicy prod/data /spec/ingress"},
		"TIERWALL-E-any":   {3: "Default tier"},
	} {
		i := slices.IndexFunc(r.Chains, func(c iptables.Chain) bool { return c.Name == chain })
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

func TestNeighbourDiscoveryPassesOnTheLinkAlone(t *testing.T) {
	table := render(t, sample.Shop())[iptables.IPv6]
	for kind := range 256 {
		for _, hook := range []string{"INPUT", "FORWARD"} {
			for _, c := range []struct{ code, hopLimit uint8 }{{0, 255}, {0, 254}, {0, 64}, {0, 0}, {1, 255}, {255, 255}} {
				v, err := table.Judge(hook, simulator.Packet{Source: address("fd00:1::9"), Destination: address("fd00:1::4"),
					Protocol: policy.ICMPv6, ICMPType: uint8(kind), ICMPCode: c.code, HopLimit: c.hopLimit})
				if want := kind >= 133 && kind <= 137 && c.code == 0 && c.hopLimit == 255; err != nil || v.Accepted != want {
					t.Errorf("%s type %d %+v: accepted %v %v", hook, kind, c, v.Accepted, err)
				}
			}
		}
	}
}

// TestGolden shows what a person sees. TIERWALL_UPDATE=1 writes the files anew.
func TestGolden(t *testing.T) {
	for name, p := range map[string]*policy.Program{"shop": sample.Shop(), "edges": sample.Edges(), "empty": {}, "logged": sample.Shop(), "audited": sample.Audited(), "merged": popular(12, 2), "listed": hostile["networks of every length by ports"](1).finish()} {
		var log ruletext.DenyLog
		if name == "logged" || name == "audited" {
			log = ruletext.DenyLog{Group: 4741, Prefix: "tierwall", PerSecond: 100}
		}
		if name == "audited" {
			log.AuditPrefix, log.AuditPerSecond = [2]string{"tierwall-audit-ingress", "tierwall-audit-egress"}, 10
		}
		for _, f := range []iptables.Family{iptables.IPv4, iptables.IPv6} {
			r, err := iptables.Render(p, f, log)
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

func TestNoNameGetsOutOfItsQuotes(t *testing.T) {
	p := sample.Edges()
	for _, f := range []iptables.Family{iptables.IPv4, iptables.IPv6} {
		r, err := iptables.Render(p, f, ruletext.DenyLog{})
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
	f.Add(sample.Hostile, "\xff\"", "\r\n")
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
		v, err := render(t, p)[iptables.IPv4].Judge("FORWARD", simulator.Packet{Source: address("10.0.0.1"), Destination: address("10.0.0.2")})
		if err != nil || v.Accepted {
			t.Errorf("accepted %v, %v: %v", v.Accepted, err, v.Trace)
		}
	})
}

func TestDispatchIsATree(t *testing.T) {
	for _, pods := range []int{0, 1, 3, 16, 17, 250, 1000} {
		p := sample.Crowd(pods)
		rules := render(t, p)
		for _, f := range []iptables.Family{iptables.IPv4, iptables.IPv6} {
			r, err := iptables.Render(p, f, ruletext.DenyLog{})
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

func TestAProgramThatRefersToNothingIsRefused(t *testing.T) {
	noSet, noClass := sample.Shop(), sample.Shop()
	delete(noSet.Sets, "web")
	delete(noClass.Classes[policy.Ingress], "data")
	for name, p := range map[string]*policy.Program{`no set "web"`: noSet, "data": noClass} {
		if _, err := iptables.Render(p, iptables.IPv4, ruletext.DenyLog{}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("want an error about %s, got %v", name, err)
		}
	}
}

// One class that cannot be rendered is closed; the others are as ever.
func TestAClassThatCannotBeRenderedIsClosedAlone(t *testing.T) {
	p := sample.Shop()
	delete(p.Sets, "world")
	r, err := iptables.Render(p, iptables.IPv4, ruletext.DenyLog{})
	if err == nil {
		t.Fatal("no error")
	}
	table := load(t, r)
	for name, c := range map[string]struct {
		from, to string
		port     uint16
		passes   bool
	}{
		"to the frontend whose set is missing": {"198.51.100.7", "10.1.0.2", 80, false},
		"by its own backend":                   {"10.1.0.3", "10.1.0.4", 5432, true},
	} {
		v, err := table.Judge("FORWARD", simulator.Packet{Source: address(c.from), Destination: address(c.to), Protocol: policy.TCP, DestinationPort: c.port})
		if err != nil || v.Accepted != c.passes {
			t.Errorf("%s: accepted %v, %v, by %v", name, v.Accepted, err, v.Trace)
		}
	}
}

func TestRenderingDoesNotDependOnTheOrderOfEndpoints(t *testing.T) {
	p := sample.Crowd(100)
	want, err := iptables.Render(p, iptables.IPv4, ruletext.DenyLog{})
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(p.Endpoints)
	slices.Reverse(p.Local)
	got, err := iptables.Render(p, iptables.IPv4, ruletext.DenyLog{})
	if err != nil || got.RestoreText() != want.RestoreText() {
		t.Errorf("the order shows (%v)", err)
	}
}
