package compile_test

import (
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/policy/eval"
)

var update = flag.Bool("update", false, "write the golden files anew")

const shop = `
metadata: {name: backend}
spec:
  podSelector: {matchLabels: {app: api}}
  ingress: [{from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: http}]}]
  egress: [{to: [{podSelector: {matchLabels: {tierwall.io/tier-role: data}}}], ports: [{port: sql}]}]
---
metadata: {name: data}
spec:
  podSelector: {matchLabels: {tierwall.io/tier-role: data}}
  policyTypes: [Ingress, Egress]
  ingress:
  - {from: [{podSelector: {matchLabels: {app: api}}}], ports: [{port: 5432, endPort: 5439}, {protocol: UDP, port: dns}]}
  - {from: [{ipBlock: {cidr: 10.9.0.0/16, except: [10.9.4.0/22]}}]}
---
kind: TierRole
metadata: {name: data}
spec: {role: data, namespaces: [prod], serviceAccounts: [db]}
---
kind: ClusterNetworkPolicy
metadata: {name: dns}
spec:
  tier: Baseline
  priority: 10
  subject: {namespaces: {}}
  egress:
  - action: Accept
    to: [{pods: {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}, podSelector: {matchLabels: {app: dns}}}}]
    protocols: [{udp: {destinationPort: {number: 53}}}, {destinationNamedPort: dns}]
---
kind: ClusterNetworkPolicy
metadata: {name: metadata-service}
spec:
  tier: Admin
  priority: 1
  subject: {namespaces: {matchExpressions: [{key: env, operator: Exists}]}}
  egress:
  - {action: Deny, to: [{networks: [169.254.169.254/32]}]}
  - {action: Pass, to: [{nodes: {matchLabels: {pool: n1}}}]}`

func TestGoldenProgram(t *testing.T) {
	for _, node := range []string{"", "n1"} {
		s := with(t, world(), shop)
		denyByDefault(s)
		program, problems := compile.Compile(s, node)
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		file := filepath.Join("testdata", "shop"+orElse(node, "-all")+".txt")
		if *update {
			must(t, os.MkdirAll("testdata", 0o755))
			must(t, os.WriteFile(file, []byte(program.String()), 0o644))
		}
		want, err := os.ReadFile(file)
		must(t, err)
		if program.String() != string(want) {
			t.Errorf("%s differs; -update writes it anew. Now:\n%s", file, program)
		}
	}
}

func TestSelectorsThatMeanTheSameShareASet(t *testing.T) {
	peer := func(p string) policy.SetID {
		t.Helper()
		program, problems := compile.Compile(with(t, world(), "\nspec: {podSelector: {}, ingress: [{from: [{"+p+"}]}]}"), "")
		ids := slices.Collect(maps.Keys(program.Sets))
		if len(ids) != 1 || len(problems) > 0 {
			t.Fatalf("%s: sets %v, problems %v", p, ids, problems)
		}
		return ids[0]
	}
	same := [][]string{
		{`podSelector: {matchLabels: {app: web}}`,
			`podSelector: {matchExpressions: [{key: app, operator: In, values: [web]}]}`,
			`podSelector: {matchLabels: {app: web}, matchExpressions: [{key: app, operator: In, values: [web, web]}]}`,
			`podSelector: {matchLabels: {app: web}}, namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: prod}}`},
		{`podSelector: {matchExpressions: [{key: a, operator: NotIn, values: [y, x]}, {key: b, operator: Exists}]}`,
			`podSelector: {matchExpressions: [{key: b, operator: Exists}, {key: a, operator: NotIn, values: [x, y]}]}`},
		{`namespaceSelector: {}`, `namespaceSelector: {}, podSelector: {}`},
		{`podSelector: {}`, `namespaceSelector: {matchExpressions: [{key: kubernetes.io/metadata.name, operator: In, values: [prod]}]}`},
		{`podSelector: {matchExpressions: [{key: app, operator: In, values: [a, b]}]}`},
		{`podSelector: {matchExpressions: [{key: app, operator: NotIn, values: [a, b]}]}`},
		{`podSelector: {matchExpressions: [{key: app, operator: NotIn, values: [a]}]}`},
		{`podSelector: {matchExpressions: [{key: app, operator: Exists}]}`},
		{`podSelector: {matchExpressions: [{key: app, operator: DoesNotExist}]}`},
		{`podSelector: {matchLabels: {app: ""}}`},
		{`namespaceSelector: {matchLabels: {app: web}}`},
		{`ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/9]}`, `ipBlock: {cidr: 10.128.0.0/9}`, `ipBlock: {cidr: 10.129.0.0/9}`,
			`ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/10, 10.64.0.0/10]}`},
	}
	seen := map[policy.SetID]string{}
	for _, group := range same {
		first := peer(group[0])
		if other, taken := seen[first]; taken {
			t.Errorf("%s and %s share %s", other, group[0], first)
		}
		seen[first] = group[0]
		for _, p := range group[1:] {
			if got := peer(p); got != first {
				t.Errorf("%s is %s, but %s is %s", group[0], first, p, got)
			}
		}
	}
}

func TestEndpointsWithEqualProgramsShareAClass(t *testing.T) {
	s := with(t, world(), `
spec: {podSelector: {}, ingress: [{ports: [{port: http}]}]}`)
	s.Pods = append(s.Pods, &compile.Pod{Namespace: "prod", Name: "web2", Node: "n1", Addrs: at("10.0.1.77"), Ports: []compile.NamedPort{namedPort("http", policy.TCP, 80)}})
	program, _ := compile.Compile(s, "")
	classes := map[string]policy.ClassID{}
	for _, e := range program.Endpoints {
		classes[e.Key()] = e.Class[policy.Ingress]
	}
	if classes["prod/web"] != classes["prod/web2"] {
		t.Error("web and web2 have the same named port, but not one class")
	}
	if classes["prod/web"] == classes["prod/api"] {
		t.Error("web and api have different named ports, but one class")
	}
	if classes["prod/db"] != classes["prod/job"] {
		t.Error("db and job both lack the named port, but have not one class")
	}
}

func TestTiersThatNoFlowGetsToAreLeftOut(t *testing.T) {
	tier := func(tier, action, peer string) string {
		return "\nkind: ClusterNetworkPolicy\nspec: {tier: " + tier + ", priority: 1, subject: {namespaces: {}}, ingress: [{action: " + action + ", from: [" + peer + "]}]}"
	}
	const isolate = "\nspec: {podSelector: {}}"
	for _, c := range []struct{ name, given, want string }{
		{"no policies", "", "Default"},
		{"NetworkPolicy is final", isolate + "\n---" + tier("Baseline", "Accept", "{namespaces: {}}"), "NetworkPolicy"},
		{"Admin before it is not", isolate + "\n---" + tier("Admin", "Accept", "{namespaces: {}}"), "Admin NetworkPolicy"},
		{"Baseline goes on to the default", tier("Baseline", "Accept", "{namespaces: {}}"), "Baseline Default"},
		{"an Admin rule for everything is final", isolate + "\n---" + tier("Admin", "Deny", "{}"), "Admin"},
		{"other directions do not count", "\nspec: {podSelector: {}, policyTypes: [Egress]}", "Default"},
	} {
		program, _ := compile.Compile(with(t, world(), c.given), "")
		var names []string
		for _, e := range program.Endpoints {
			if e.Key() == "prod/db" {
				for _, tier := range program.Classes[policy.Ingress][e.Class[policy.Ingress]].Tiers {
					names = append(names, string(tier.Name))
				}
			}
		}
		if got := strings.Join(names, " "); got != c.want {
			t.Errorf("%s: tiers %s, want %s", c.name, got, c.want)
		}
	}
}

func TestEveryVerdictHasAWhy(t *testing.T) {
	s := with(t, world(), shop)
	denyByDefault(s)
	program, _ := compile.Compile(s, "")
	for _, c := range []struct {
		flow            string
		egress, ingress string
	}{
		{"Allow prod/api -> prod/db TCP/5432", "NetworkPolicy prod/backend /spec/egress/0", "NetworkPolicy prod/data /spec/ingress/0"},
		{"Deny prod/web -> prod/db TCP/5432", "Default", "NetworkPolicy prod/data /spec/ingress"},
		{"Deny prod/db -> kube-system/dns UDP/53", "NetworkPolicy prod/data /spec/egress", "Default"},
		{"Allow prod/web -> kube-system/dns UDP/53", "ClusterNetworkPolicy dns /spec/egress/0", "Default"},
		{"Deny prod/web -> 169.254.169.254 TCP/80", "ClusterNetworkPolicy metadata-service /spec/egress/0", ""},
	} {
		_, flows := parseProbe(t, c.flow)
		expect(t, program, c.flow)
		for _, f := range flows {
			got := eval.Decide(program, f)
			if got.Egress.Rule.String() != c.egress || strings.TrimSpace(got.Ingress.Rule.String()) != c.ingress {
				t.Errorf("%s: because of %q and %q, want %q and %q", c.flow, got.Egress.Rule, got.Ingress.Rule, c.egress, c.ingress)
			}
		}
	}
}
