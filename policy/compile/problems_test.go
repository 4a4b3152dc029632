package compile_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
)

// broken is a policy of which something cannot be understood.
type broken struct {
	name  string
	given string // one object in YAML
	at    string // the fields that are at fault
	says  string // part of the message
	then  string
}

func (b broken) check(t *testing.T) {
	s := with(t, world(), b.given)
	program, problems := compile.Compile(s, "")
	var fields []string
	for _, p := range problems {
		fields = append(fields, p.ID.Field)
		if !strings.Contains(p.Message, b.says) {
			t.Errorf("%v does not say %q", p, b.says)
		}
		if p.ID.Name == "" || p.ID.Kind == "" {
			t.Errorf("%v does not say whose field it is", p)
		}
	}
	if got := strings.Join(fields, " "); got != b.at {
		t.Errorf("problems at %q, want %q: %v", got, b.at, problems)
	}
	var alone []policy.Problem
	for _, np := range s.NetworkPolicies {
		alone = append(alone, compile.ValidateNetworkPolicy(np)...)
	}
	for _, cnp := range s.ClusterNetworkPolicies {
		alone = append(alone, compile.ValidateClusterNetworkPolicy(cnp)...)
	}
	if !slices.Equal(alone, problems) {
		t.Errorf("validation finds %v, the compiler %v", alone, problems)
	}
	expect(t, program, b.then)
}

func TestBrokenNetworkPolicies(t *testing.T) {
	ingress := func(rule string) string {
		return "\nspec: {podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: {matchLabels: {app: api}}}]}, " + rule + "]}"
	}
	const onlyAPI = `
		Allow prod/api -> prod/db TCP/5432
		Deny  prod/web -> prod/db TCP/5432
		Deny  world -> prod/db TCP/5432
		Allow prod/web -> prod/api TCP/80`
	block := func(b string) string { return ingress("{from: [{ipBlock: " + b + "}]}") }
	const cidr, except0 = "/spec/ingress/1/from/0/ipBlock/cidr", "/spec/ingress/1/from/0/ipBlock/except/0"
	port := func(p string) string { return ingress("{ports: [" + p + "]}") }
	const port0 = "/spec/ingress/1/ports/0"
	for _, b := range []broken{
		{"no CIDR at all", block(`{cidr: ""}`), cidr, "is not a CIDR", onlyAPI},
		{"an address for a CIDR", block(`{cidr: 10.0.0.1}`), cidr, "is not a CIDR", onlyAPI},
		{"a prefix that is too long", block(`{cidr: 0.0.0.0/33}`), cidr, "is not a CIDR", onlyAPI},
		{"leading zeros, which some read as octal", block(`{cidr: 010.0.0.0/8}`), cidr, "is not a CIDR", onlyAPI},
		{"an IPv4-mapped IPv6 network", block(`{cidr: "::ffff:0.0.0.0/96"}`), cidr, "write it as IPv4", onlyAPI},
		{"a zone", block(`{cidr: "fe80::1%eth0/64"}`), cidr, "is not a CIDR", onlyAPI},
		{"an except that is none", block(`{cidr: 0.0.0.0/0, except: [all]}`), except0, "is not a CIDR", onlyAPI},
		{"an except outside", block(`{cidr: 10.0.0.0/8, except: [192.168.0.0/16]}`), except0, "strict subset", onlyAPI},
		{"an except of the other IP family", block(`{cidr: 0.0.0.0/0, except: ["fd00::/8"]}`), except0, "strict subset", onlyAPI},
		{"an except that is wider", block(`{cidr: 10.0.0.0/8, except: [0.0.0.0/0]}`), except0, "strict subset", onlyAPI},
		{"an except that is everything", block(`{cidr: 10.0.0.0/8, except: [10.0.0.0/8]}`), except0, "strict subset", onlyAPI},
		{"excepts that are everything together", block(`{cidr: 10.0.0.0/8, except: [10.0.0.0/9, 10.128.0.0/9]}`),
			"/spec/ingress/1/from/0/ipBlock/except", "nothing remains", onlyAPI},
		{"an empty peer", ingress("{from: [{}]}"), "/spec/ingress/1/from/0", "needs a podSelector", onlyAPI},
		{"an ipBlock with a selector", ingress("{from: [{ipBlock: {cidr: 0.0.0.0/0}, podSelector: {}}]}"), "/spec/ingress/1/from/0", "cannot be combined", onlyAPI},
		{"an unknown operator", ingress("{from: [{podSelector: {matchExpressions: [{key: app, operator: in, values: [web]}]}}]}"),
			"/spec/ingress/1/from/0/podSelector/matchExpressions/0/operator", "unknown operator", onlyAPI},
		{"In without values", ingress("{from: [{namespaceSelector: {matchExpressions: [{key: app, operator: In}]}}]}"),
			"/spec/ingress/1/from/0/namespaceSelector/matchExpressions/0", "values", onlyAPI},
		{"Exists with values", ingress("{from: [{podSelector: {matchExpressions: [{key: app, operator: Exists, values: [web]}]}}]}"),
			"/spec/ingress/1/from/0/podSelector/matchExpressions/0", "values", onlyAPI},
		{"a label that cannot be", ingress(`{from: [{podSelector: {matchLabels: {"a/b/c": x}}}]}`),
			"/spec/ingress/1/from/0/podSelector/matchLabels/a~1b~1c", "", onlyAPI},
		{"a bad half of a peer", ingress("{from: [{namespaceSelector: {matchExpressions: [{key: a, operator: In}]}, podSelector: {}}]}"),
			"/spec/ingress/1/from/0/namespaceSelector/matchExpressions/0", "values", onlyAPI},
		{"the other bad half of a peer", ingress("{from: [{namespaceSelector: {}, podSelector: {matchExpressions: [{key: a, operator: In}]}}]}"),
			"/spec/ingress/1/from/0/podSelector/matchExpressions/0", "values", onlyAPI},
		{"a bad peer beside a good one", ingress("{from: [{podSelector: {matchLabels: {app: web}}}, {ipBlock: {cidr: everywhere}}]}"),
			"/spec/ingress/1/from/1/ipBlock/cidr", "", `
			Allow prod/web -> prod/db TCP/5432
			Deny  world -> prod/db TCP/5432`},
		{"port 0", port("{port: 0}"), port0 + "/port", "not between", onlyAPI},
		{"port 65536", port("{port: 65536}"), port0 + "/port", "not between", onlyAPI},
		{"endPort below port", port("{port: 80, endPort: 79}"), port0 + "/endPort", "below port 80", onlyAPI},
		{"endPort too high", port("{port: 80, endPort: 65536}"), port0 + "/endPort", "not between", onlyAPI},
		{"endPort without port", port("{endPort: 80}"), port0 + "/endPort", "needs a port", onlyAPI},
		{"endPort with a named port", port("{port: http, endPort: 80}"), port0 + "/endPort", "needs a port number", onlyAPI},
		{"a number for a name", port(`{port: "80"}`), port0 + "/port", "not a port name", onlyAPI},
		{"a name that is too long", port(`{port: a-name-of-20-letters}`), port0 + "/port", "not a port name", onlyAPI},
		{"an unknown protocol", port("{protocol: ICMP}"), port0 + "/protocol", `unknown protocol "ICMP"`, onlyAPI},
		{"a protocol in small letters", port("{protocol: tcp, port: 5432}"), port0 + "/protocol", "unknown protocol", onlyAPI},
		{"a bad port beside a good one", port("{port: 5432}, {port: 0}"), "/spec/ingress/1/ports/1/port", "", `
			Allow world -> prod/db TCP/5432
			Deny  world -> prod/db TCP/5433`},
		{"rules of a direction that policyTypes leaves out", `
spec: {podSelector: {matchLabels: {app: db}}, policyTypes: [Ingress], egress: [{to: [{podSelector: {}}]}]}`, "/spec/egress", "never apply", `
			Deny  prod/web -> prod/db TCP/1
			Allow prod/db -> world TCP/1`},
		{"an unknown policy type isolates in both directions", `
spec: {podSelector: {matchLabels: {app: db}}, policyTypes: [egress], ingress: [{}], egress: [{}]}`, "/spec/policyTypes/0", `unknown policy type "egress"`, `
			Deny  prod/web -> prod/db TCP/1
			Deny  prod/db -> world TCP/1
			Allow prod/web -> world TCP/1`},
		{"a subject that cannot be understood isolates the namespace", `
spec: {podSelector: {matchExpressions: [{key: app, operator: Gt, values: ["1"]}]}, ingress: [{}]}`,
			"/spec/podSelector/matchExpressions/0/operator", "unknown operator", `
			Deny  world -> prod/db TCP/1
			Deny  prod/web -> prod/api TCP/1
			Allow prod/web -> test/web TCP/1
			Allow world -> test/web TCP/1`},
		{"a subject that cannot be understood leaves other policies what they allow", `
spec: {podSelector: {matchExpressions: [{key: app, operator: In}]}, ingress: [{}]}
---
spec: {podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]}`,
			"/spec/podSelector/matchExpressions/0", "", `
			Allow prod/web -> prod/db TCP/1
			Deny  prod/api -> prod/db TCP/1`},
	} {
		t.Run(b.name, b.check)
	}
}
