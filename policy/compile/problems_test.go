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

func TestBrokenClusterNetworkPolicies(t *testing.T) {
	rule := func(action, rest string) string {
		return `
kind: ClusterNetworkPolicy
spec:
  tier: Admin
  priority: 1
  subject: {pods: {podSelector: {matchLabels: {app: db}}}}
  egress: [{action: ` + action + `, ` + rest + `}, {action: Deny, to: [{networks: [203.0.113.0/24, "2001:db8::/32"]}]}]
---
spec: {podSelector: {matchLabels: {app: db}}, policyTypes: [Egress], egress: [{to: [{podSelector: {matchLabels: {app: web}}}]}]}`
	}
	const (
		acceptsNothing = `
			Allow prod/db -> prod/web TCP/80
			Deny  prod/db -> prod/api TCP/80
			Deny  prod/db -> world TCP/80
			Allow prod/web -> world TCP/80`
		deniesAll = `
			Deny  prod/db -> prod/web TCP/80
			Deny  prod/db -> prod/api TCP/80
			Deny  prod/db -> world TCP/80
			Allow prod/web -> world TCP/80
			Allow prod/web -> prod/db TCP/80`
		to0, protocol0 = "/spec/egress/0/to/0", "/spec/egress/0/protocols/0"
	)
	for _, b := range []broken{
		{"Accept to an unknown peer matches nothing", rule("Accept", "to: [{}]"), to0, "exactly one field", acceptsNothing},
		{"Deny to an unknown peer denies all", rule("Deny", "to: [{}]"), to0, "exactly one field", deniesAll},
		{"Pass to an unknown peer denies all", rule("Pass", "to: [{}]"), to0, "exactly one field", deniesAll},
		{"Accept to an unknown peer beside a known one matches nothing", rule("Accept", "to: [{namespaces: {}}, {}]"), "/spec/egress/0/to/1", "exactly one field", acceptsNothing},
		{"Accept to domain names matches nothing", rule("Accept", "to: [{domainNames: [example.org]}]"), to0 + "/domainNames", "not supported", acceptsNothing},
		{"Deny to domain names denies all", rule("Deny", "to: [{domainNames: [example.org]}]"), to0 + "/domainNames", "not supported", deniesAll},
		{"Pass to domain names denies all", rule("Pass", "to: [{domainNames: [example.org]}]"), to0 + "/domainNames", "not supported", deniesAll},
		{"two fields in a peer", rule("Accept", "to: [{namespaces: {}, networks: [0.0.0.0/0]}]"), to0, "not 2", acceptsNothing},
		{"no peers", rule("Accept", "to: []"), "/spec/egress/0/to", "at least one peer", acceptsNothing},
		{"no peers to deny", rule("Deny", "to: []"), "/spec/egress/0/to", "at least one peer", deniesAll},
		{"a bad network", rule("Accept", "to: [{networks: [0.0.0.0/0, 10.0.0.0/99]}]"), to0 + "/networks/1", "is not a CIDR", acceptsNothing},
		{"a bad network to deny", rule("Deny", "to: [{networks: [10.0.0.0/99]}]"), to0 + "/networks/0", "is not a CIDR", deniesAll},
		{"a bad selector", rule("Accept", "to: [{pods: {podSelector: {matchExpressions: [{key: a, operator: In}]}}}]"), to0 + "/pods/podSelector/matchExpressions/0", "values", acceptsNothing},
		{"a bad selector of nodes", rule("Deny", "to: [{nodes: {matchExpressions: [{key: a, operator: Is}]}}]"), to0 + "/nodes/matchExpressions/0/operator", "unknown operator", deniesAll},
		{"an unknown protocol", rule("Accept", "to: [{namespaces: {}}], protocols: [{}]"), protocol0, "exactly one field", acceptsNothing},
		{"an unknown match of a protocol", rule("Accept", "to: [{namespaces: {}}], protocols: [{tcp: {}}]"), protocol0 + "/tcp", "needs a destinationPort", acceptsNothing},
		{"two protocols in one", rule("Deny", "to: [{namespaces: {}}], protocols: [{tcp: {destinationPort: {number: 1}}, udp: {destinationPort: {number: 1}}}]"), protocol0, "not 2", deniesAll},
		{"a range that begins at its end", rule("Accept", "to: [{namespaces: {}}], protocols: [{tcp: {destinationPort: {range: {start: 80, end: 80}}}}]"), protocol0 + "/tcp/destinationPort", "must be below", acceptsNothing},
		{"a port and a range", rule("Accept", "to: [{namespaces: {}}], protocols: [{udp: {destinationPort: {number: 80, range: {start: 1, end: 2}}}}]"), protocol0 + "/udp/destinationPort", "exactly one", acceptsNothing},
		{"a port too high", rule("Pass", "to: [{namespaces: {}}], protocols: [{sctp: {destinationPort: {number: 65536}}}]"), protocol0 + "/sctp/destinationPort", "between", deniesAll},
		{"a named port of networks", rule("Accept", "to: [{networks: [0.0.0.0/0]}], protocols: [{destinationNamedPort: http}]"), protocol0 + "/destinationNamedPort", "no named ports", acceptsNothing},
		{"a name that is none", rule("Accept", `to: [{namespaces: {}}], protocols: [{destinationNamedPort: "80"}]`), protocol0 + "/destinationNamedPort", "not a port name", acceptsNothing},
		{"an unknown action denies", rule("Allow", "to: [{namespaces: {}}]"), "/spec/egress/0/action", `unknown action "Allow"`, deniesAll},
	} {
		t.Run(b.name, b.check)
	}
}

// A ClusterNetworkPolicy that may be meant for any pod, or for any place in the order, takes
// nothing from the others' denials.
func TestClusterNetworkPoliciesOfUnknownScope(t *testing.T) {
	scope := func(tier, priority, subject string) string {
		return `
kind: ClusterNetworkPolicy
spec:
  tier: ` + tier + `
  priority: ` + priority + `
  subject: ` + subject + `
  ingress:
  - {action: Accept, from: [{pods: {podSelector: {matchLabels: {app: web}}}}]}
  - {action: Pass, from: [{pods: {podSelector: {matchLabels: {app: api}}}}]}
  - {action: Deny, from: [{pods: {podSelector: {matchLabels: {app: dns}}}}]}
---
spec: {podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: {matchLabels: {app: api}}}]}]}`
	}
	const closed = `
		Deny  prod/web -> prod/db TCP/1
		Deny  prod/api -> prod/db TCP/1
		Deny  kube-system/dns -> prod/db TCP/1
		Allow prod/web -> prod/job TCP/1
		Deny  prod/api -> prod/job TCP/1
		Deny  kube-system/dns -> prod/job TCP/1`
	for _, b := range []broken{
		{"no subject", scope("Admin", "1", "{}"), "/spec/subject", "exactly one", closed},
		{"two subjects", scope("Admin", "1", "{namespaces: {}, pods: {podSelector: {}}}"), "/spec/subject", "exactly one", closed},
		{"a bad subject", scope("Baseline", "1", "{namespaces: {matchExpressions: [{key: a, operator: In}]}}"), "/spec/subject/namespaces/matchExpressions/0", "", `
			Allow prod/api -> prod/db TCP/1
			Deny  prod/api -> prod/job TCP/1`},
		{"a bad half of a subject: the other half counts", scope("Admin", "1", "{pods: {namespaceSelector: {matchLabels: {env: live}}, podSelector: {matchExpressions: [{key: a, operator: In}]}}}"),
			"/spec/subject/pods/podSelector/matchExpressions/0", "", closed + `
			Allow prod/api -> test/web TCP/1`},
		{"an unknown tier", scope("Network", "1", "{namespaces: {}}"), "/spec/tier", "unknown tier", closed},
		{"no tier", scope(`""`, "1", "{namespaces: {}}"), "/spec/tier", "unknown tier", closed},
		{"a priority too high", scope("Admin", "1001", "{namespaces: {}}"), "/spec/priority", "between 0 and 1000", closed},
		{"a priority too low", scope("Admin", "-1", "{namespaces: {}}"), "/spec/priority", "between 0 and 1000", closed},
	} {
		t.Run(b.name, b.check)
	}
}

// One bad object stops nothing else.
func TestABrokenPolicyLeavesTheOthersInForce(t *testing.T) {
	s := with(t, world(), `
metadata: {name: bad}
spec: {podSelector: {matchLabels: {app: db}}, ingress: [{from: [{ipBlock: {cidr: nonsense}}]}]}
---
metadata: {name: good}
spec: {podSelector: {matchLabels: {app: web}}, ingress: [{from: [{podSelector: {matchLabels: {app: api}}}]}]}`)
	program, problems := compile.Compile(s, "")
	if len(problems) != 1 || problems[0].ID.Name != "bad" {
		t.Errorf("problems %v", problems)
	}
	expect(t, program, `
		Allow prod/api -> prod/web TCP/80
		Deny  prod/db -> prod/web TCP/80
		Deny  prod/api -> prod/db TCP/80
		Allow prod/web -> prod/job TCP/80`)
}
