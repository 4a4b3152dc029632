package policy_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/tierwall/tierwall/policy"
)

func TestTheZeroValueDenies(t *testing.T) {
	var (
		v    policy.Verdict
		tier policy.Tier
		d    policy.Decision
		p    policy.Program
	)
	if v != policy.Deny || tier.Else != policy.Deny || d.Verdict != policy.Deny || p.Unknown != policy.Deny {
		t.Error("a zero value does not deny")
	}
	if got := policy.Verdict(77).String(); got != "Deny" {
		t.Errorf("an unknown verdict is called %s", got)
	}
}

func TestDefaultsFor(t *testing.T) {
	d := policy.Defaults{Action: policy.Deny, Exempt: []string{"kube-system"},
		Namespaces: map[string]policy.Verdict{"test": policy.Allow, "kube-system": policy.Deny, "prod": policy.Deny}}
	for namespace, want := range map[string]policy.Verdict{
		"kube-system": policy.Allow, "test": policy.Allow, "prod": policy.Deny, "other": policy.Deny, "": policy.Deny,
	} {
		if got := d.For(namespace); got != want {
			t.Errorf("%q: %s, want %s", namespace, got, want)
		}
	}
}

func TestAuditsSaysWhetherAnyNamespaceIsAudited(t *testing.T) {
	for name, c := range map[string]struct {
		defaults policy.Defaults
		want     bool
	}{
		"by the cluster":                 {policy.Defaults{Action: policy.Audit}, true},
		"by its own action":              {policy.Defaults{Namespaces: map[string]policy.Verdict{"a": policy.Allow, "b": policy.Audit}}, true},
		"none":                           {policy.Defaults{Action: policy.Allow, Namespaces: map[string]policy.Verdict{"a": policy.Deny}}, false},
		"one that is exempt in any case": {policy.Defaults{Exempt: []string{"a"}, Namespaces: map[string]policy.Verdict{"a": policy.Audit}}, false},
	} {
		if got := c.defaults.Audits(); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestWhatPermits(t *testing.T) {
	for v, want := range map[policy.Verdict]bool{policy.Deny: false, policy.Allow: true, policy.Pass: false, policy.Audit: true, 77: false} {
		if v.Permits() != want {
			t.Errorf("%d permits: %v", v, !want)
		}
	}
}

func TestParseAction(t *testing.T) {
	for text, want := range map[string]policy.Verdict{"Deny": policy.Deny, "Allow": policy.Allow, "Audit": policy.Audit} {
		if got, err := policy.ParseAction(text); err != nil || got != want {
			t.Errorf("%s: %s, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "allow", "Pass", "audit", "Verdict"} {
		if got, err := policy.ParseAction(text); err == nil || got != policy.Deny {
			t.Errorf("%q: %s, %v", text, got, err)
		}
	}
}

func TestPorts(t *testing.T) {
	for want, p := range map[string]policy.Port{
		"TCP":            policy.AllPorts(policy.TCP),
		"UDP/53":         {Protocol: policy.UDP, First: 53, Last: 53},
		"SCTP/1-65535":   {Protocol: policy.SCTP, First: 1, Last: 65535},
		"named:a1":       {Protocol: policy.TCP, Named: "a1"},
		"protocol-47/1":  {Protocol: 47, First: 1, Last: 1},
		"ICMP/0-8":       {Protocol: policy.ICMP, Last: 8},
		"ICMPv6/128":     {Protocol: policy.ICMPv6, First: 128, Last: 128},
		"named:all-zero": {Protocol: policy.TCP, Last: policy.MaxPort, Named: "all-zero"},
	} {
		if p.String() != want {
			t.Errorf("%s, want %s", p, want)
		}
		if p.All() != (want == "TCP") {
			t.Errorf("%s: All is %v", p, p.All())
		}
	}
}

func TestRuleIDs(t *testing.T) {
	for want, id := range map[string]policy.RuleID{
		"NetworkPolicy prod/db /spec/ingress/0": {Kind: "NetworkPolicy", Namespace: "prod", Name: "db", Field: "/spec/ingress/0"},
		"ClusterNetworkPolicy dns /spec/tier":   {Kind: "ClusterNetworkPolicy", Name: "dns", Field: "/spec/tier"},
		"Default":                               {Kind: "Default"},
	} {
		if id.String() != want {
			t.Errorf("%q, want %q", id, want)
		}
	}
	problem := policy.Problem{ID: policy.RuleID{Kind: "NetworkPolicy", Namespace: "a", Name: "b", Field: "/spec"}, Message: "is wrong"}
	if got := problem.Error(); got != "NetworkPolicy a/b /spec: is wrong" {
		t.Error(got)
	}
}

// Text that is equal for different programs would hide differences from golden files.
func TestDumpsTellProgramsApart(t *testing.T) {
	base := func() *policy.Program {
		return &policy.Program{
			Endpoints: []policy.Endpoint{{Namespace: "a", Name: "b", Node: "n", Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}, Class: [2]policy.ClassID{"i", "e"}}},
			Classes: [2]map[policy.ClassID]*policy.Class{
				{"i": {ID: "i", Tiers: []policy.Tier{{Name: policy.NetworkPolicyTier, Rules: []policy.Rule{{Verdict: policy.Allow, Peers: []policy.SetID{"s"}, Ports: []policy.Port{{Protocol: policy.TCP, First: 1, Last: 2}}}}}}}},
				{"e": {ID: "e"}},
			},
			Sets:  map[policy.SetID]*policy.Set{"s": {ID: "s", Elements: []policy.Element{{Prefix: netip.MustParsePrefix("10.0.0.0/32")}}}},
			Hosts: []policy.Host{{Name: "n", Addrs: []netip.Addr{netip.MustParseAddr("192.168.0.1")}}},
			Local: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")},
		}
	}
	ingressRule := func(p *policy.Program) *policy.Rule { return &p.Classes[0]["i"].Tiers[0].Rules[0] }
	seen := map[string]string{base().String(): "nothing"}
	for name, change := range map[string]func(*policy.Program){
		"unknown":       func(p *policy.Program) { p.Unknown = policy.Allow },
		"address":       func(p *policy.Program) { p.Endpoints[0].Addrs[0] = netip.MustParseAddr("10.0.0.2") },
		"node":          func(p *policy.Program) { p.Endpoints[0].Node = "m" },
		"class":         func(p *policy.Program) { p.Endpoints[0].Class[1] = "f" },
		"verdict":       func(p *policy.Program) { ingressRule(p).Verdict = policy.Pass },
		"any peer":      func(p *policy.Program) { ingressRule(p).AnyPeer = true },
		"no peer":       func(p *policy.Program) { ingressRule(p).Peers = nil },
		"any port":      func(p *policy.Program) { ingressRule(p).AnyPort = true },
		"no port":       func(p *policy.Program) { ingressRule(p).Ports = nil },
		"port":          func(p *policy.Program) { ingressRule(p).Ports[0].Last = 3 },
		"rule ID":       func(p *policy.Program) { ingressRule(p).ID.Field = "/x" },
		"else":          func(p *policy.Program) { p.Classes[0]["i"].Tiers[0].Else = policy.Allow },
		"else ID":       func(p *policy.Program) { p.Classes[0]["i"].Tiers[0].ElseID.Name = "x" },
		"set kind":      func(p *policy.Program) { p.Sets["s"].Kind = policy.Networks },
		"set meaning":   func(p *policy.Program) { p.Sets["s"].Description = "x" },
		"element":       func(p *policy.Program) { p.Sets["s"].Elements[0].Prefix = netip.MustParsePrefix("10.0.0.0/31") },
		"exception":     func(p *policy.Program) { p.Sets["s"].Elements[0].Except = true },
		"element port":  func(p *policy.Program) { p.Sets["s"].Elements[0].Protocol = policy.TCP },
		"no elements":   func(p *policy.Program) { p.Sets["s"].Elements = nil },
		"host":          func(p *policy.Program) { p.Hosts[0].Addrs = nil },
		"host networks": func(p *policy.Program) { p.Hosts[0].PodCIDRs = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")} },
		"local":         func(p *policy.Program) { p.Local = nil },
	} {
		p := base()
		change(p)
		if other, taken := seen[p.String()]; taken {
			t.Errorf("a change of %s shows as one of %s:\n%s", name, other, p)
		}
		seen[p.String()] = name
	}
	if strings.Contains(base().String(), "%!") {
		t.Errorf("a value is not formatted:\n%s", base())
	}
}

func TestElementsAreOrderedByAddressProtocolPortAndExcept(t *testing.T) {
	e := func(prefix string, protocol policy.Protocol, port uint16) policy.Element {
		return policy.Element{Prefix: netip.MustParsePrefix(prefix), Protocol: protocol, Port: port}
	}
	ordered := []policy.Element{
		e("10.0.0.0/8", 0, 0), {Prefix: netip.MustParsePrefix("10.0.0.0/8"), Except: true}, e("10.0.0.0/9", 0, 0), e("10.0.0.1/32", 0, 0), e("10.0.0.1/32", policy.TCP, 80),
		e("10.0.0.1/32", policy.TCP, 81), e("10.0.0.1/32", policy.UDP, 1), e("10.0.0.2/32", 0, 0), e("fd00::/8", 0, 0),
	}
	for i, a := range ordered {
		for j, b := range ordered {
			if got := a.Compare(b); got < 0 != (i < j) || got == 0 != (i == j) {
				t.Errorf("%s and %s compare as %d", a, b, got)
			}
		}
	}
}

func TestAProgramWithAChange(t *testing.T) {
	element := func(last byte) policy.Element {
		return policy.AddressElement(netip.AddrFrom4([4]byte{10, 0, 0, last}))
	}
	endpoint := func(name string, class policy.ClassID) policy.Endpoint {
		return policy.Endpoint{Namespace: "a", Name: name, Class: [2]policy.ClassID{class, class}}
	}
	class := func(id policy.ClassID) *policy.Class { return &policy.Class{ID: id} }
	before := &policy.Program{
		Endpoints: []policy.Endpoint{endpoint("b", "old"), endpoint("d", "old"), endpoint("e", "stays")},
		Classes:   [2]map[policy.ClassID]*policy.Class{{"old": class("old"), "stays": class("stays")}, {"old": class("old"), "stays": class("stays")}},
		Sets: map[policy.SetID]*policy.Set{"s": {ID: "s", Elements: []policy.Element{element(2), element(4), element(6)}},
			"gone": {ID: "gone"}, "same": {ID: "same"}},
	}
	text := before.String()
	got := before.With(&policy.Change{
		Endpoints:     []policy.Endpoint{endpoint("d", "new"), endpoint("c", "stays")},
		EndpointsGone: []string{"a/b"},
		Classes:       [2][]*policy.Class{{class("new")}, {class("new")}},
		ClassesGone:   [2][]policy.ClassID{{"old"}, {"old"}},
		Sets:          []*policy.Set{{ID: "new", Elements: []policy.Element{element(9)}}},
		SetsGone:      []policy.SetID{"gone"},
		Members:       []policy.SetChange{{ID: "s", Added: []policy.Element{element(1), element(5), element(7)}, Removed: []policy.Element{element(4), element(6)}}},
		Frame:         &policy.NodeConfig{Unknown: policy.Allow},
	})
	want := &policy.Program{
		Endpoints: []policy.Endpoint{endpoint("c", "stays"), endpoint("d", "new"), endpoint("e", "stays")},
		Classes:   [2]map[policy.ClassID]*policy.Class{{"new": class("new"), "stays": class("stays")}, {"new": class("new"), "stays": class("stays")}},
		Sets: map[policy.SetID]*policy.Set{"s": {ID: "s", Elements: []policy.Element{element(1), element(2), element(5), element(7)}},
			"new": {ID: "new", Elements: []policy.Element{element(9)}}, "same": {ID: "same"}},
		Unknown: policy.Allow,
	}
	if got.String() != want.String() {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if before.String() != text {
		t.Errorf("the program itself became\n%s", before)
	}
	if got.Sets["same"] != before.Sets["same"] {
		t.Error("a set that is as before is copied")
	}
	if same := before.With(&policy.Change{}); same.String() != text {
		t.Errorf("without a change it becomes\n%s", same)
	}
}
