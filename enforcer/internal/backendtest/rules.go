// Package backendtest holds the tests that every backend has to pass. A backend's own tests bring its simulator, or its
// kernel in a network namespace.
package backendtest

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/tierwall/tierwall/enforcer/internal/packet"
	"github.com/tierwall/tierwall/enforcer/internal/sample"
	"github.com/tierwall/tierwall/enforcer/ruletext"
	"github.com/tierwall/tierwall/policy"
)

// Judge judges a packet by a backend's rules at one of package packet's hooks.
type Judge func(hook string, p packet.Packet) (packet.Verdict, error)

// Renderer renders programs with a backend.
type Renderer struct {
	// Judge returns what the backend's simulator says of the rules of a program.
	Judge func(t testing.TB, p *policy.Program, log ruletext.DenyLog) Judge
	// Text returns the rules of a program.
	Text func(p *policy.Program) (string, error)
}

// VerifyRules checks what the rules of a backend do with packets.
func VerifyRules(t *testing.T, r Renderer) {
	for name, verify := range map[string]func(*testing.T, Renderer){
		"packets through the shop":                           verifyShop,
		"neighbour discovery passes on the link alone":       verifyNeighbourDiscovery,
		"strays of an endpoint pass nowhere":                 verifyStrays,
		"what is not tracked is no stray":                    verifyUntracked,
		"the node's own connections are not judged":          verifyNode,
		"what Audit lets pass is reported, and nothing else": verifyAudit,
		"the rules decide as the program":                    verifyDecisions,
		"a program that refers to a missing set is refused":  verifyMissingSet,
		"the text does not depend on the order of endpoints": verifyOrder,
		"a program without classes for its endpoints denies": verifyUnknownPods,
	} {
		t.Run(name, func(t *testing.T) { verify(t, r) })
	}
}

// address is an address of a test.
func address(s string) netip.Addr { return netip.MustParseAddr(s) }

func verifyShop(t *testing.T, r Renderer) {
	judge := r.Judge(t, sample.Shop(), ruletext.DenyLog{})
	for name, c := range shopPackets {
		t.Run(name, func(t *testing.T) {
			k := packet.Packet{Source: address(c.from), Destination: address(c.to), Protocol: c.protocol, DestinationPort: c.port}
			got, err := judge(c.hook, k)
			if err != nil || got.Accepted != c.passes {
				t.Errorf("accepted: %v (%v), by %s", got.Accepted, err, strings.Join(got.Trace, "\n"))
			}
			k.Established = true
			if got, _ := judge(c.hook, k); !got.Accepted || got.Rules > maxEstablishedRules {
				t.Errorf("an established flow was judged: %v", got.Trace)
			}
		})
	}
}

// maxEstablishedRules is how many rules a packet of an established connection may be compared with.
const maxEstablishedRules = 2

// shopPackets are packets through the node of sample.Shop.
var shopPackets = map[string]struct {
	hook, from, to string
	protocol       policy.Protocol
	port           uint16
	passes         bool
}{
	"the world reaches the frontend":                      {packet.Forward, "198.51.100.7", "10.1.0.2", policy.TCP, 80, true},
	"in the range of ports":                               {packet.Forward, "198.51.100.7", "10.1.0.2", policy.TCP, 8999, true},
	"and not beyond it":                                   {packet.Forward, "198.51.100.7", "10.1.0.2", policy.TCP, 9000, false},
	"a rule for TCP opens no UDP":                         {packet.Forward, "198.51.100.7", "10.1.0.2", policy.UDP, 80, false},
	"the upper half of all addresses, too":                {packet.Forward, "129.0.0.1", "10.1.0.2", policy.UDP, 443, true},
	"IPv6 has its own networks":                           {packet.Forward, "2001:db9::1", "fd00:1::2", policy.TCP, 80, false},
	"the frontend reaches the backend's named port":       {packet.Forward, "10.1.0.2", "10.1.0.3", policy.TCP, 8080, true},
	"but no other port":                                   {packet.Forward, "10.1.0.2", "10.1.0.3", policy.TCP, 8081, false},
	"nor the port of another pod":                         {packet.Forward, "10.1.0.2", "10.2.0.3", policy.TCP, 8080, false},
	"nor by a protocol without ports":                     {packet.Forward, "10.1.0.2", "10.1.0.3", policy.ICMP, 0, false},
	"the backend reaches the data tier":                   {packet.Forward, "10.1.0.3", "10.1.0.4", policy.TCP, 5432, true},
	"by SCTP as well":                                     {packet.Forward, "10.1.0.3", "10.1.0.4", policy.SCTP, 5432, true},
	"not at another port":                                 {packet.Forward, "10.1.0.3", "10.1.0.4", policy.TCP, 80, false},
	"a backend elsewhere, too":                            {packet.Forward, "10.2.0.3", "10.1.0.4", policy.TCP, 5432, true},
	"nobody else: the Admin tier denies":                  {packet.Forward, "198.51.100.7", "10.1.0.4", policy.TCP, 5432, false},
	"the set of backends has no IPv6 addresses":           {packet.Forward, "fd00:1::3", "fd00:1::4", policy.TCP, 5432, false},
	"a pod that is not known yet sends nothing":           {packet.Forward, "10.1.0.9", "198.51.100.7", policy.TCP, 80, false},
	"and gets nothing":                                    {packet.Forward, "2001:db8::7", "fd00:1::9", policy.TCP, 80, false},
	"nor can it reach the node":                           {packet.Input, "10.1.0.9", "192.168.0.1", policy.TCP, 10250, false},
	"a bridge's address is no unknown pod":                {packet.Forward, "10.1.0.1", "198.51.100.7", policy.TCP, 80, true},
	"egress policy holds towards the node":                {packet.Input, "10.1.0.4", "192.168.0.1", policy.TCP, 10250, false},
	"ingress policy is not asked there":                   {packet.Input, "198.51.100.7", "192.168.0.1", policy.TCP, 22, true},
	"what passes through and is no pod's is not judged":   {packet.Forward, "198.51.100.7", "203.0.113.1", policy.TCP, 22, true},
	"the node reaches its own pods":                       {packet.Output, "192.168.0.1", "10.1.0.4", policy.TCP, 5432, true},
	"a pod to itself by way of a Service: policy applies": {packet.Forward, "10.1.0.2", "10.1.0.2", policy.TCP, 80, false},
}

func verifyNeighbourDiscovery(t *testing.T, r Renderer) {
	judge := r.Judge(t, sample.Shop(), ruletext.DenyLog{})
	for kind := range 256 {
		for _, hook := range []string{packet.Input, packet.Forward} {
			for _, c := range []struct{ code, hopLimit uint8 }{{0, 255}, {0, 254}, {0, 64}, {0, 0}, {1, 255}, {255, 255}} {
				v, err := judge(hook, packet.Packet{Source: address("fd00:1::9"), Destination: address("fd00:1::4"),
					Protocol: policy.ICMPv6, ICMPType: uint8(kind), ICMPCode: c.code, HopLimit: c.hopLimit})
				if want := kind >= 133 && kind <= 137 && c.code == 0 && c.hopLimit == 255; err != nil || v.Accepted != want {
					t.Errorf("%s type %d %+v: accepted %v %v", hook, kind, c, v.Accepted, err)
				}
			}
		}
	}
}

func verifyMissingSet(t *testing.T, r Renderer) {
	p := sample.Shop()
	delete(p.Sets, "web")
	if _, err := r.Text(p); err == nil || !strings.Contains(err.Error(), `no set "web"`) {
		t.Errorf("want an error about the set, got %v", err)
	}
}

func verifyOrder(t *testing.T, r Renderer) {
	p := sample.Crowd(100)
	want, err := r.Text(p)
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(p.Endpoints)
	slices.Reverse(p.Local)
	if got, err := r.Text(p); err != nil || got != want {
		t.Errorf("the text depends on the order (%v)", err)
	}
}

// verifyUnknownPods checks that addresses of the node at which no pod is known are closed in both directions.
func verifyUnknownPods(t *testing.T, r Renderer) {
	judge := r.Judge(t, &policy.Program{Hosts: sample.Shop().Hosts, Local: sample.Shop().Local}, ruletext.DenyLog{})
	for _, c := range [][2]string{{"10.1.0.9", "198.51.100.7"}, {"198.51.100.7", "10.1.0.9"}, {"fd00:1::9", "2001:db8::7"}, {"2001:db8::7", "fd00:1::9"}} {
		v, err := judge(packet.Forward, packet.Packet{Source: address(c[0]), Destination: address(c[1]), Protocol: policy.TCP, DestinationPort: 80})
		if err != nil || v.Accepted {
			t.Errorf("%v: accepted %v, %v, by %v", c, v.Accepted, err, v.Trace)
		}
	}
}

// FuzzNames checks that no name of an object changes what the rules of a program do.
func FuzzNames(f *testing.F, r Renderer) {
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
		v, err := r.Judge(t, p, ruletext.DenyLog{})(packet.Forward, packet.Packet{Source: address("10.0.0.1"), Destination: address("10.0.0.2")})
		if err != nil || v.Accepted {
			t.Errorf("accepted %v, %v: %v", v.Accepted, err, v.Trace)
		}
	})
}
