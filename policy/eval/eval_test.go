package eval_test

import (
	"net/netip"
	"testing"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/eval"
)

var (
	addr   = netip.MustParseAddr
	prefix = netip.MustParsePrefix
)

func rule(name string, v policy.Verdict, peers []policy.SetID, ports ...policy.Port) policy.Rule {
	return policy.Rule{ID: policy.RuleID{Kind: "Test", Name: name}, Verdict: v,
		AnyPeer: len(peers) == 0, Peers: peers, AnyPort: len(ports) == 0, Ports: ports}
}

// program has a web and a db on node n1, which allows the web, the office and Pass for the rest.
func program() *policy.Program {
	open := &policy.Class{ID: "open", Tiers: []policy.Tier{{Name: policy.DefaultTier, Else: policy.Allow}}}
	guarded := &policy.Class{ID: "guarded", Tiers: []policy.Tier{
		{Name: policy.AdminTier, Else: policy.Pass, Rules: []policy.Rule{
			rule("no telnet", policy.Deny, nil, policy.Port{Protocol: policy.TCP, First: 23, Last: 23}),
			rule("office", policy.Allow, []policy.SetID{"office", "gone"}, policy.AllPorts(policy.TCP)),
			rule("web", policy.Pass, []policy.SetID{"web"}),
			rule("nobody else", policy.Deny, nil),
		}},
		{Name: policy.NetworkPolicyTier, Else: policy.Deny, ElseID: policy.RuleID{Kind: "Test", Name: "isolated"}, Rules: []policy.Rule{
			rule("sql", policy.Allow, nil, policy.Port{Protocol: policy.TCP, First: 5432, Last: 5433}),
		}},
	}}
	named := &policy.Class{ID: "named", Tiers: []policy.Tier{{Name: policy.NetworkPolicyTier, Rules: []policy.Rule{
		rule("named", policy.Allow, nil, policy.Port{Protocol: policy.TCP, Named: "http"})}}}}
	undecided := &policy.Class{ID: "undecided", Tiers: []policy.Tier{{Name: policy.AdminTier, Else: policy.Pass}}}
	return &policy.Program{
		Endpoints: []policy.Endpoint{
			{Namespace: "prod", Name: "db", Node: "n1", Addrs: []netip.Addr{addr("10.0.0.2"), addr("fd00::2")}, Class: [2]policy.ClassID{"guarded", "named"}},
			{Namespace: "prod", Name: "odd", Node: "n1", Addrs: []netip.Addr{addr("10.0.0.3")}, Class: [2]policy.ClassID{"undecided", "nowhere"}},
			{Namespace: "prod", Name: "web", Node: "n1", Addrs: []netip.Addr{addr("10.0.0.1"), addr("fd00::1")}, Class: [2]policy.ClassID{"open", "open"}},
		},
		Classes: [2]map[policy.ClassID]*policy.Class{
			{"open": open, "guarded": guarded, "undecided": undecided},
			{"open": open, "named": named},
		},
		Sets: map[policy.SetID]*policy.Set{
			"web": {ID: "web", Elements: []policy.Element{policy.AddressElement(addr("10.0.0.1")), policy.AddressElement(addr("fd00::1"))}},
			"office": {ID: "office", Kind: policy.Networks, Elements: []policy.Element{
				{Prefix: prefix("172.16.0.0/24")}, {Prefix: prefix("172.16.2.0/23")}, {Prefix: prefix("2001:db8::/32")}}},
			"http": {ID: "http", Kind: policy.AddressPorts, Elements: []policy.Element{
				{Prefix: prefix("10.0.0.1/32"), Protocol: policy.TCP, Port: 80}, {Prefix: prefix("10.0.0.1/32"), Protocol: policy.TCP, Port: 8080}}},
		},
		Hosts: []policy.Host{
			{Name: "n1", Addrs: []netip.Addr{addr("192.168.0.1")}, PodCIDRs: []netip.Prefix{prefix("10.0.0.0/24")}},
			{Name: "n2", Addrs: []netip.Addr{addr("192.168.0.2")}, PodCIDRs: []netip.Prefix{prefix("10.0.1.0/24")}},
		},
		Local: []netip.Prefix{prefix("10.0.0.0/24")},
	}
}

func TestDecide(t *testing.T) {
	const tcp, udp = policy.TCP, policy.UDP
	for _, c := range []struct {
		name     string
		from, to string
		protocol policy.Protocol
		port     uint16
		want     policy.Verdict
		why      string // the rule or the note that decided the ingress, or where that is open the egress
	}{
		{"the first rule that matches decides", "172.16.0.9", "10.0.0.2", tcp, 23, policy.Deny, "Test no telnet"},
		{"inside a network", "172.16.0.9", "10.0.0.2", tcp, 80, policy.Allow, "Test office"},
		{"at the start of a network", "172.16.2.0", "10.0.0.2", tcp, 80, policy.Allow, "Test office"},
		{"at the end of a network", "172.16.3.255", "10.0.0.2", tcp, 80, policy.Allow, "Test office"},
		{"between networks", "172.16.1.9", "10.0.0.2", tcp, 80, policy.Deny, "Test nobody else"},
		{"the other IP family", "2001:db8::9", "fd00::2", tcp, 80, policy.Allow, "Test office"},
		{"all ports of one protocol are not those of another", "172.16.0.9", "10.0.0.2", udp, 80, policy.Deny, "Test nobody else"},
		{"all ports of protocols are not ICMP", "172.16.0.9", "10.0.0.2", policy.ICMP, 0, policy.Deny, "Test nobody else"},
		{"Pass goes to the next tier", "10.0.0.1", "10.0.0.2", tcp, 5433, policy.Allow, "Test sql"},
		{"a port range ends", "10.0.0.1", "10.0.0.2", tcp, 5434, policy.Deny, "Test isolated"},
		{"a port range begins", "fd00::1", "fd00::2", tcp, 5431, policy.Deny, "Test isolated"},
		{"a node reaches its own pods", "192.168.0.1", "10.0.0.2", tcp, 23, policy.Allow, "a node reaches its own pods"},
		{"a node does not reach those of others", "192.168.0.2", "10.0.0.2", tcp, 80, policy.Deny, "Test nobody else"},
		{"a named port", "10.0.0.2", "10.0.0.1", tcp, 8080, policy.Allow, ""},
		{"the number beside a named port", "10.0.0.2", "10.0.0.1", tcp, 81, policy.Deny, ""},
		{"a named port of another protocol", "10.0.0.2", "10.0.0.1", udp, 80, policy.Deny, ""},
		{"a pod reaches itself", "10.0.0.2", "10.0.0.2", tcp, 1, policy.Allow, "a pod reaches itself"},
		{"no tier decides", "10.0.0.1", "10.0.0.3", tcp, 1, policy.Deny, "no tier decides"},
		{"no class", "10.0.0.3", "10.0.0.1", tcp, 1, policy.Deny, ""},
		{"an address of a pod not known yet, to", "10.0.0.1", "10.0.0.99", tcp, 1, policy.Deny, "a pod that is not known yet"},
		{"an address of a pod not known yet, from", "10.0.0.99", "203.0.113.1", tcp, 1, policy.Deny, "no pod of this program"},
		{"its own node reaches a pod not known yet", "192.168.0.1", "10.0.0.99", tcp, 1, policy.Allow, "a node reaches its own pods"},
		{"another node does not", "192.168.0.2", "10.0.0.99", tcp, 1, policy.Deny, "a pod that is not known yet"},
		{"neither side is here", "203.0.113.1", "10.0.1.5", tcp, 1, policy.Allow, "no pod of this program"},
		{"IPv4-mapped addresses are IPv4", "::ffff:172.16.0.9", "::ffff:10.0.0.2", tcp, 80, policy.Allow, "Test office"},
		{"two IP families in one flow", "10.0.0.1", "fd00::2", tcp, 5432, policy.Deny, "no flow has such addresses"},
	} {
		f := policy.Flow{Source: addr(c.from), Destination: addr(c.to), Protocol: c.protocol, DestinationPort: c.port}
		got := eval.Decide(program(), f)
		why := got.Ingress.Note
		if why == "" {
			why = got.Ingress.Rule.String()
		}
		if got.Verdict != c.want || c.why != "" && why != c.why {
			t.Errorf("%s: %s because of %q, want %s because of %q: %+v", c.name, got.Verdict, why, c.want, c.why, got)
		}
	}
	if got := eval.Decide(program(), policy.Flow{}); got.Verdict != policy.Deny {
		t.Errorf("a flow without addresses: %+v", got)
	}
	if got := eval.Decide(&policy.Program{Endpoints: program().Endpoints}, policy.Flow{Source: addr("10.0.0.1"), Destination: addr("10.0.0.2"), Protocol: tcp}); got.Verdict != policy.Deny {
		t.Errorf("endpoints of no class: %+v", got)
	}
}

func TestWhatAuditLetsPassIsReportedAsFarAsItGets(t *testing.T) {
	p := program()
	audit := &policy.Class{ID: "audit", Tiers: []policy.Tier{{Name: policy.DefaultTier, Else: policy.Audit}}}
	p.Classes[policy.Ingress]["undecided"], p.Classes[policy.Egress]["open"] = audit, audit // of odd and of web
	for _, c := range []struct {
		name, from, to  string
		verdict         policy.Verdict
		egress, ingress bool
	}{
		{"in both directions", "10.0.0.1", "10.0.0.3", policy.Allow, true, true},
		{"of the source", "10.0.0.1", "203.0.113.1", policy.Allow, true, false},
		{"of the destination", "203.0.113.1", "10.0.0.3", policy.Allow, false, true},
		{"denied at the other side", "10.0.0.1", "10.0.0.2", policy.Deny, true, false},
		{"denied before", "10.0.0.2", "10.0.0.3", policy.Deny, false, false},
		{"to itself", "10.0.0.1", "10.0.0.1", policy.Allow, false, false},
		{"from its node", "192.168.0.1", "10.0.0.3", policy.Allow, false, false},
	} {
		got := eval.Decide(p, policy.Flow{Source: addr(c.from), Destination: addr(c.to), Protocol: policy.UDP, DestinationPort: 9})
		if got.Verdict != c.verdict || got.Audited(policy.Egress) != c.egress || got.Audited(policy.Ingress) != c.ingress {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}

func TestNeighbourDiscoveryPassesOnTheLinkAlone(t *testing.T) {
	for kind := range 256 {
		for _, c := range []struct{ code, hopLimit uint8 }{{0, 255}, {0, 254}, {0, 64}, {0, 1}, {0, 0}, {1, 255}, {255, 255}} {
			f := policy.Flow{Source: addr("2001:db8::9"), Destination: addr("fd00::2"), Protocol: policy.ICMPv6,
				ICMPType: uint8(kind), ICMPCode: c.code, HopLimit: c.hopLimit}
			want := policy.Deny
			if kind >= 133 && kind <= 137 && c.code == 0 && c.hopLimit == 255 {
				want = policy.Allow
			}
			if got := eval.Decide(program(), f); got.Verdict != want {
				t.Errorf("type %d, %+v: %+v, want %s", kind, c, got, want)
			}
		}
	}
	f := policy.Flow{Source: addr("172.16.0.9"), Destination: addr("10.0.0.2"), Protocol: policy.ICMP, ICMPType: 135, HopLimit: 255}
	if got := eval.Decide(program(), f); got.Verdict != policy.Deny {
		t.Errorf("ICMP has no neighbour discovery: %+v", got)
	}
}

func TestDirection(t *testing.T) {
	p := program()
	for _, c := range []struct {
		name, endpoint string
		direction      policy.Direction
		peer           string
		port           uint16
		want           policy.Why
	}{
		{"ingress", "prod/db", policy.Ingress, "10.0.0.1", 5432,
			policy.Why{Verdict: policy.Allow, Endpoint: "prod/db", Tier: policy.NetworkPolicyTier, Rule: policy.RuleID{Kind: "Test", Name: "sql"}}},
		{"egress", "prod/db", policy.Egress, "10.0.0.1", 80,
			policy.Why{Verdict: policy.Allow, Endpoint: "prod/db", Tier: policy.NetworkPolicyTier, Rule: policy.RuleID{Kind: "Test", Name: "named"}}},
		{"from its node", "prod/db", policy.Ingress, "192.168.0.1", 23,
			policy.Why{Verdict: policy.Allow, Endpoint: "prod/db", Note: "a node reaches its own pods"}},
		{"to its node", "prod/db", policy.Egress, "192.168.0.1", 23,
			policy.Why{Endpoint: "prod/db", Tier: policy.NetworkPolicyTier}},
		{"no such endpoint", "prod/none", policy.Ingress, "10.0.0.1", 80,
			policy.Why{Endpoint: "prod/none", Note: "no such endpoint"}},
	} {
		got := eval.Direction(p, c.endpoint, c.direction, addr(c.peer), policy.TCP, c.port)
		if got != c.want || eval.New(p).Direction(c.endpoint, c.direction, addr(c.peer), policy.TCP, c.port) != got {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

func TestContains(t *testing.T) {
	p := program()
	if eval.Contains(nil, addr("10.0.0.1")) || eval.Contains(&policy.Set{}, addr("10.0.0.1")) {
		t.Error("a set that is not there, or empty, contains an address")
	}
	if eval.Contains(p.Sets["http"], addr("10.0.0.1")) {
		t.Error("a set of addresses and ports contains an address alone")
	}
}

func BenchmarkDecide(b *testing.B) {
	e := eval.New(program())
	f := policy.Flow{Source: addr("10.0.0.1"), Destination: addr("10.0.0.2"), Protocol: policy.TCP, DestinationPort: 5433}
	for b.Loop() {
		e.Decide(f)
	}
}
