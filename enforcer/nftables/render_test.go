package nftables

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tierwall/tierwall/enforcer/internal/sample"
	"github.com/tierwall/tierwall/enforcer/nftables/simulator"
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
		"the world reaches the frontend":                      {flow{"forward", "198.51.100.7", "10.1.0.2", policy.TCP, 80}, true},
		"in the range of ports":                               {flow{"forward", "198.51.100.7", "10.1.0.2", policy.TCP, 8999}, true},
		"and not beyond it":                                   {flow{"forward", "198.51.100.7", "10.1.0.2", policy.TCP, 9000}, false},
		"a rule for TCP opens no UDP":                         {flow{"forward", "198.51.100.7", "10.1.0.2", policy.UDP, 80}, false},
		"the upper half of all addresses, too":                {flow{"forward", "129.0.0.1", "10.1.0.2", policy.UDP, 443}, true},
		"IPv6 has its own networks":                           {flow{"forward", "2001:db9::1", "fd00:1::2", policy.TCP, 80}, false},
		"the frontend reaches the backend's named port":       {flow{"forward", "10.1.0.2", "10.1.0.3", policy.TCP, 8080}, true},
		"but no other port":                                   {flow{"forward", "10.1.0.2", "10.1.0.3", policy.TCP, 8081}, false},
		"nor the port of another pod":                         {flow{"forward", "10.1.0.2", "10.2.0.3", policy.TCP, 8080}, false},
		"nor by a protocol without ports":                     {flow{"forward", "10.1.0.2", "10.1.0.3", policy.ICMP, 0}, false},
		"the backend reaches the data tier":                   {flow{"forward", "10.1.0.3", "10.1.0.4", policy.TCP, 5432}, true},
		"by SCTP as well":                                     {flow{"forward", "10.1.0.3", "10.1.0.4", policy.SCTP, 5432}, true},
		"not at another port":                                 {flow{"forward", "10.1.0.3", "10.1.0.4", policy.TCP, 80}, false},
		"a backend elsewhere, too":                            {flow{"forward", "10.2.0.3", "10.1.0.4", policy.TCP, 5432}, true},
		"nobody else: the Admin tier denies":                  {flow{"forward", "198.51.100.7", "10.1.0.4", policy.TCP, 5432}, false},
		"the set of backends has no IPv6 addresses":           {flow{"forward", "fd00:1::3", "fd00:1::4", policy.TCP, 5432}, false},
		"a pod that is not known yet sends nothing":           {flow{"forward", "10.1.0.9", "198.51.100.7", policy.TCP, 80}, false},
		"and gets nothing":                                    {flow{"forward", "2001:db8::7", "fd00:1::9", policy.TCP, 80}, false},
		"nor can it reach the node":                           {flow{"input", "10.1.0.9", "192.168.0.1", policy.TCP, 10250}, false},
		"a bridge's address is no unknown pod":                {flow{"forward", "10.1.0.1", "198.51.100.7", policy.TCP, 80}, true},
		"egress policy holds towards the node":                {flow{"input", "10.1.0.4", "192.168.0.1", policy.TCP, 10250}, false},
		"ingress policy is not asked there":                   {flow{"input", "198.51.100.7", "192.168.0.1", policy.TCP, 22}, true},
		"what passes through and is no pod's is not judged":   {flow{"forward", "198.51.100.7", "203.0.113.1", policy.TCP, 22}, true},
		"the node reaches its own pods":                       {flow{"output", "192.168.0.1", "10.1.0.4", policy.TCP, 5432}, true},
		"a pod to itself by way of a Service: policy applies": {flow{"forward", "10.1.0.2", "10.1.0.2", policy.TCP, 80}, false},
	} {
		t.Run(name, func(t *testing.T) {
			packet := simulator.Packet{Source: address(c.from), Destination: address(c.to), Protocol: c.protocol, DestinationPort: c.port}
			got, err := rules.Judge(c.hook, packet)
			if err != nil || got.Accepted != c.passes {
				t.Errorf("accepted: %v (%v), by %s", got.Accepted, err, strings.Join(got.Trace, "\n"))
			}
			packet.Established = true
			if got, _ := rules.Judge(c.hook, packet); !got.Accepted || got.Rules > 2 {
				t.Errorf("an established flow was judged: %v", got.Trace)
			}
		})
	}
}

func TestNeighbourDiscoveryPassesOnTheLinkAlone(t *testing.T) {
	rules := render(t, sample.Shop())
	for kind := range 256 {
		for _, hook := range []string{"input", "forward"} {
			for _, c := range []struct{ code, hopLimit uint8 }{{0, 255}, {0, 254}, {0, 64}, {0, 0}, {1, 255}, {255, 255}} {
				v, err := rules.Judge(hook, simulator.Packet{Source: address("fd00:1::9"), Destination: address("fd00:1::4"),
					Protocol: policy.ICMPv6, ICMPType: uint8(kind), ICMPCode: c.code, HopLimit: c.hopLimit})
				if want := kind >= 133 && kind <= 137 && c.code == 0 && c.hopLimit == 255; err != nil || v.Accepted != want {
					t.Errorf("%s type %d %+v: accepted %v %v", hook, kind, c, v.Accepted, err)
				}
			}
		}
	}
}

// goldens are the programs of the golden files.
func goldens() map[string]*policy.Program {
	return map[string]*policy.Program{"shop": sample.Shop(), "edges": sample.Edges(), "empty": {}, "many": many(12, 3), "logged": sample.Shop(), "audited": sample.Audited()}
}

// goldenLog is what one of the golden files logs.
func goldenLog(name string) (log ruletext.DenyLog) {
	if name == "logged" || name == "audited" {
		log = ruletext.DenyLog{Group: 4741, Prefix: "tierwall", PerSecond: 100}
	}
	if name == "audited" {
		log.AuditPrefix, log.AuditPerSecond = [2]string{"tierwall-audit-ingress", "tierwall-audit-egress"}, 10
	}
	return log
}

// TestGolden shows what a person sees. TIERWALL_UPDATE=1 writes the files anew.
func TestGolden(t *testing.T) {
	for name, p := range goldens() {
		r, err := Render(p, goldenLog(name))
		if err != nil {
			t.Fatal(err)
		}
		golden(t, name+".nft", script(r))
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
		v, err := render(t, p).Judge("forward", simulator.Packet{Source: address("10.0.0.1"), Destination: address("10.0.0.2")})
		if err != nil || v.Accepted {
			t.Errorf("accepted %v, %v: %v", v.Accepted, err, v.Trace)
		}
	})
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

func TestAProgramThatRefersToNothingIsRefused(t *testing.T) {
	p := sample.Shop()
	delete(p.Sets, "web")
	if _, err := Render(p, ruletext.DenyLog{}); err == nil || !strings.Contains(err.Error(), `no set "web"`) {
		t.Errorf("want an error about the set, got %v", err)
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

func TestRenderingDoesNotDependOnTheOrderOfEndpoints(t *testing.T) {
	p := sample.Crowd(100)
	want, err := Render(p, ruletext.DenyLog{})
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(p.Endpoints)
	slices.Reverse(p.Local)
	got, err := Render(p, ruletext.DenyLog{})
	if err != nil || script(got) != script(want) {
		t.Errorf("the order shows (%v)", err)
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
