package compile_test

import (
	"net/netip"
	"testing"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
)

// row is one thing that the table of semantics in the design says.
type row struct {
	name   string
	change func(*compile.Snapshot)
	given  string // objects in YAML; NetworkPolicies are in prod unless they say otherwise
	then   string // verdicts
}

func (r row) check(t *testing.T) {
	s := world()
	if r.change != nil {
		r.change(s)
	}
	program, problems := compile.Compile(with(t, s, r.given), "")
	if len(problems) > 0 {
		t.Fatalf("the policies of this row are sound, but: %v", problems)
	}
	expect(t, program, r.then)
}

func checkRows(t *testing.T, rows []row) {
	for _, r := range rows {
		t.Run(r.name, r.check)
	}
}

func denyByDefault(s *compile.Snapshot) {
	s.Defaults = policy.Defaults{Action: policy.Deny, Exempt: []string{"kube-system"}}
}

func TestOrderOfEvaluation(t *testing.T) {
	const isolateDB = `
spec: {podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: {matchLabels: {app: api}}}]}]}`
	checkRows(t, []row{
		{name: "without policies the default action decides", then: `
			Allow prod/web -> prod/db TCP/5432
			Allow world -> prod/db TCP/5432`},
		{name: "a flow passes when both directions allow it", given: isolateDB + `
---
spec: {podSelector: {matchLabels: {app: api}}, policyTypes: [Egress], egress: [{to: [{podSelector: {matchLabels: {app: web}}}]}]}`, then: `
			Deny  prod/api -> prod/db TCP/5432
			Allow prod/api -> prod/web TCP/80
			Deny  prod/web -> prod/db TCP/5432`},
		{name: "NetworkPolicies add up: what any of them allows is allowed", given: isolateDB + `
---
spec: {podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]}`, then: `
			Allow prod/web -> prod/db TCP/5432
			Allow prod/api -> prod/db TCP/5432
			Deny  prod/job -> prod/db TCP/5432`},
		{name: "Admin goes before NetworkPolicy", given: isolateDB + `
---
kind: ClusterNetworkPolicy
spec:
  tier: Admin
  priority: 1
  subject: {namespaces: {}}
  ingress:
  - {action: Accept, from: [{pods: {podSelector: {matchLabels: {app: web}}}}]}
  - {action: Deny, from: [{pods: {podSelector: {matchLabels: {app: api}}}}]}`, then: `
			Allow prod/web -> prod/db TCP/5432
			Deny  prod/api -> prod/db TCP/5432
			Deny  prod/job -> prod/db TCP/5432`},
		{name: "NetworkPolicy goes before Baseline, and is final", given: isolateDB + `
---
kind: ClusterNetworkPolicy
spec:
  tier: Baseline
  priority: 1
  subject: {namespaces: {}}
  ingress:
  - {action: Accept, from: [{pods: {podSelector: {matchLabels: {app: web}}}}]}
  - {action: Deny, from: [{namespaces: {}}]}`, then: `
			Deny  prod/web -> prod/db TCP/5432
			Allow prod/api -> prod/db TCP/5432
			Allow prod/web -> prod/api TCP/8080
			Deny  prod/job -> prod/api TCP/8080
			Allow world -> prod/api TCP/8080`},
		{name: "Baseline goes before the default action", change: denyByDefault, given: `
kind: ClusterNetworkPolicy
spec:
  tier: Baseline
  priority: 0
  subject: {namespaces: {}}
  egress: [{action: Accept, to: [{namespaces: {matchLabels: {kubernetes.io/metadata.name: kube-system}}}], protocols: [{udp: {destinationPort: {number: 53}}}]}]`, then: `
			Allow prod/web -> kube-system/dns UDP/53
			Deny  prod/web -> kube-system/dns TCP/53
			Deny  prod/web -> world UDP/53`},
		{name: "by priority, then by name", given: `
kind: ClusterNetworkPolicy
metadata: {name: b}
spec: {tier: Admin, priority: 5, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{namespaces: {}}]}]}
---
kind: ClusterNetworkPolicy
metadata: {name: a}
spec: {tier: Admin, priority: 5, subject: {namespaces: {}}, ingress: [{action: Accept, from: [{pods: {podSelector: {matchLabels: {app: api}}}}]}]}
---
kind: ClusterNetworkPolicy
metadata: {name: z}
spec: {tier: Admin, priority: 4, subject: {namespaces: {}}, ingress: [{action: Accept, from: [{pods: {podSelector: {matchLabels: {app: web}}}}]}]}`, then: `
			Allow prod/web -> prod/db TCP/1
			Allow prod/api -> prod/db TCP/1
			Deny  prod/job -> prod/db TCP/1`},
		{name: "Pass in Admin leaves it to the NetworkPolicies, past every other Admin rule", given: isolateDB + `
---
kind: ClusterNetworkPolicy
spec: {tier: Admin, priority: 1, subject: {namespaces: {}}, ingress: [{action: Pass, from: [{namespaces: {}}]}, {action: Accept, from: [{namespaces: {}}]}]}
---
kind: ClusterNetworkPolicy
spec: {tier: Admin, priority: 2, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{namespaces: {}}]}]}`, then: `
			Deny  prod/web -> prod/db TCP/5432
			Allow prod/api -> prod/db TCP/5432
			Allow prod/web -> prod/api TCP/8080`},
		{name: "Pass in Baseline leaves it to the default action", change: denyByDefault, given: `
kind: ClusterNetworkPolicy
spec: {tier: Baseline, priority: 1, subject: {namespaces: {}}, ingress: [{action: Pass, from: [{namespaces: {}}]}]}
---
kind: ClusterNetworkPolicy
spec: {tier: Baseline, priority: 2, subject: {namespaces: {}}, ingress: [{action: Accept, from: [{namespaces: {}}]}]}`, then: `
			Deny prod/web -> prod/db TCP/5432`},
		{name: "a policy without rules for a direction does not affect it", given: `
kind: ClusterNetworkPolicy
spec: {tier: Admin, priority: 1, subject: {namespaces: {}}, egress: [{action: Deny, to: [{networks: [203.0.113.0/24, "2001:db8::/32"]}]}]}`, then: `
			Deny  prod/web -> world TCP/80
			Allow world -> prod/web TCP/80`},
	})
}

func TestDefaultAction(t *testing.T) {
	override := func(s *compile.Snapshot) {
		denyByDefault(s)
		s.Defaults.Namespaces = map[string]policy.Verdict{"test": policy.Allow, "kube-system": policy.Deny}
		s.Namespaces[0].Labels["tierwall.io/default-action"] = "Allow" // an owner's label means nothing
	}
	checkRows(t, []row{
		{name: "Deny, but for exempt namespaces", change: denyByDefault, then: `
			Deny  prod/web -> prod/db TCP/5432
			Deny  prod/web -> world TCP/443
			Deny  world -> prod/web TCP/80
			Deny  prod/web -> kube-system/dns UDP/53
			Allow world -> kube-system/dns UDP/53
			Allow kube-system/dns -> world UDP/53`},
		{name: "overridden per namespace by name; exempt goes first", change: override, then: `
			Allow world -> test/web TCP/80
			Allow test/web -> world TCP/80
			Allow world -> kube-system/dns UDP/53
			Deny  world -> prod/web TCP/80`},
		{name: "Allow is stock Kubernetes", then: `
			Allow world -> prod/web TCP/80
			Allow new -> prod/web TCP/80
			Allow prod/web -> new TCP/80`},
		{name: "Audit lets pass what no policy decides, and a pod that is not known yet", change: func(s *compile.Snapshot) {
			s.Defaults.Action = policy.Audit
		}, given: `
spec: {podSelector: {matchLabels: {app: db}}}`, then: `
			Allow world -> prod/web TCP/80
			Deny  world -> prod/db TCP/80
			Allow new -> prod/web TCP/80
			Allow prod/web -> new TCP/80`},
		{name: "a pod that is not known yet gets and sends nothing", change: denyByDefault, given: `
spec: {podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{}], egress: [{}]}`, then: `
			Deny  new -> prod/web TCP/80
			Deny  prod/web -> new TCP/80
			Deny  new -> world TCP/80
			Allow prod/web -> prod/db TCP/80
			Allow n1 -> new TCP/80
			Deny  n2 -> new TCP/80`},
	})
}

func TestEndpoints(t *testing.T) {
	const denyAll = `
spec: {podSelector: {}, policyTypes: [Ingress, Egress]}`
	// newcomer is a pod that claims the address of prod/db.
	newcomer := func(change func(db, other *compile.Pod)) func(*compile.Snapshot) {
		return func(s *compile.Snapshot) {
			db := s.Pods[2]
			db.Created = 5
			other := &compile.Pod{Namespace: "test", Name: "other", UID: "x", Node: "n1", Addrs: db.Addrs, Created: 6, Labels: app("db")}
			change(db, other)
			s.Pods = append(s.Pods, other)
		}
	}
	const fromTest = `
spec: {podSelector: {matchLabels: {app: web}}, ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: test}}}]}]}`
	checkRows(t, []row{
		{name: "host-network pods are no subjects, but their node's address", given: denyAll, then: `
			Allow n1 -> world TCP/443
			Allow world -> n1 TCP/443
			Allow n1 -> prod/web TCP/80
			Deny  n1 -> prod/api TCP/80`},
		{name: "host-network pods are in no pod peer", given: `
spec: {podSelector: {matchLabels: {app: api}}, ingress: [{from: [{podSelector: {}}]}]}`, then: `
			Deny  n1 -> prod/api TCP/80
			Allow prod/web -> prod/api TCP/80`},
		{name: "an ended pod has no address", change: func(s *compile.Snapshot) { s.Pods[2].Ended = true }, given: `
spec: {podSelector: {matchLabels: {app: web}}, ingress: [{from: [{podSelector: {matchLabels: {app: db}}}]}]}`, then: `
			Deny prod/db -> prod/web TCP/80`},
		{name: "the oldest pod owns an address", change: newcomer(func(_, _ *compile.Pod) {}), given: fromTest, then: `
			Deny prod/db -> prod/web TCP/80`},
		{name: "a terminating pod owns nothing that another claims, in peers neither", change: newcomer(func(db, _ *compile.Pod) { db.Terminating = true }), given: `
spec: {podSelector: {matchLabels: {app: web}}, ingress: [{from: [{podSelector: {matchLabels: {app: db}}}]}]}`, then: `
			Deny prod/db -> prod/web TCP/80`},
		{name: "a terminating pod yields to an older one", change: newcomer(func(_, other *compile.Pod) { other.Terminating = true }), given: fromTest, then: `
			Deny prod/db -> prod/web TCP/80`},
		{name: "an ended pod yields to a terminating one", change: newcomer(func(db, other *compile.Pod) {
			other.Terminating, db.Ended = true, true
		}), given: fromTest, then: `
			Allow prod/db -> prod/web TCP/80`},
		{name: "among equals the smaller UID", change: newcomer(func(db, other *compile.Pod) { db.UID, other.UID, other.Created = "b", "a", 5 }), given: fromTest, then: `
			Allow prod/db -> prod/web TCP/80`},
		{name: "IPv4-mapped addresses are IPv4", change: func(s *compile.Snapshot) {
			s.Pods[2].Addrs = []netip.Addr{netip.AddrFrom16(place("prod/db")[0].As16())}
		}, given: `
spec: {podSelector: {matchLabels: {app: db}}}`, then: `
			Deny 10.0.1.1 -> 10.0.1.3 TCP/80
			Deny ::ffff:10.0.1.1 -> ::ffff:10.0.1.3 TCP/80`},
		{name: "a node reaches its own pods, whatever policies say", change: denyByDefault, given: denyAll + `
---
kind: ClusterNetworkPolicy
spec: {tier: Admin, priority: 0, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{namespaces: {}}]}]}`, then: `
			Allow n1 -> prod/web TCP/80
			Allow n1 -> prod/web ping
			Deny  n2 -> prod/web TCP/80`},
		{name: "other nodes are their addresses: ipBlock matches them", given: `
spec: {podSelector: {matchLabels: {app: web}}, ingress: [{from: [{ipBlock: {cidr: 192.168.0.2/32}}, {ipBlock: {cidr: "fd00:1::2/128"}}]}]}`, then: `
			Allow n2 -> prod/web TCP/80
			Deny  prod/api -> prod/web TCP/80`},
		{name: "other nodes are their addresses: nodes peers match them", given: `
kind: ClusterNetworkPolicy
spec: {tier: Admin, priority: 0, subject: {namespaces: {}}, egress: [{action: Deny, to: [{nodes: {matchLabels: {pool: n2}}}]}]}`, then: `
			Deny  prod/web -> n2 TCP/10250
			Allow prod/web -> n1 TCP/10250
			Allow prod/web -> prod/api TCP/10250`},
		{name: "a pod to itself by its own address", given: denyAll, change: denyByDefault, then: `
			Allow prod/web -> prod/web TCP/80
			Deny  prod/web -> prod/api TCP/80`},
		{name: "a pod to its own node is subject to egress", given: denyAll, then: `
			Deny prod/web -> n1 TCP/10250`},
	})
}

func TestMissingVersusEmpty(t *testing.T) {
	checkRows(t, []row{
		{name: "from missing and from empty match all", given: `
spec: {podSelector: {matchLabels: {app: web}}, ingress: [{ports: [{port: 80}]}]}
---
spec: {podSelector: {matchLabels: {app: db}}, ingress: [{from: [], ports: [{port: 80}]}]}`, then: `
			Allow world -> prod/web TCP/80
			Allow test/web -> prod/db TCP/80
			Deny  world -> prod/db TCP/81`},
		{name: "ports missing and ports empty match all", given: `
spec: {podSelector: {matchLabels: {app: web}}, ingress: [{from: [{podSelector: {}}]}]}
---
spec: {podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: {}}], ports: []}]}`, then: `
			Allow prod/api -> prod/web SCTP/80
			Allow prod/api -> prod/db GRE
			Deny  test/web -> prod/db TCP/80`},
		{name: "ingress: [] isolates", given: `
spec: {podSelector: {matchLabels: {app: db}}, ingress: []}`, then: `
			Deny  prod/web -> prod/db TCP/5432
			Allow prod/db -> prod/web TCP/80
			Allow prod/web -> prod/api TCP/80`},
		{name: "ingress: [{}] allows all", given: `
spec: {podSelector: {matchLabels: {app: db}}, ingress: [{}]}`, then: `
			Allow world -> prod/db TCP/5432`},
		{name: "policyTypes missing: ingress is isolated in any case", given: `
spec: {podSelector: {matchLabels: {app: db}}, egress: []}`, then: `
			Deny  prod/web -> prod/db TCP/5432
			Allow prod/db -> prod/web TCP/80`},
		{name: "policyTypes missing: egress is isolated when there are egress rules", given: `
spec: {podSelector: {matchLabels: {app: db}}, egress: [{to: [{podSelector: {matchLabels: {app: api}}}]}]}`, then: `
			Deny  prod/web -> prod/db TCP/5432
			Deny  prod/db -> prod/web TCP/80
			Allow prod/db -> prod/api TCP/80`},
		{name: "policyTypes: [] is policyTypes missing", given: `
spec: {podSelector: {matchLabels: {app: db}}, policyTypes: [], ingress: [{}]}`, then: `
			Allow prod/web -> prod/db TCP/5432
			Allow prod/db -> world TCP/80`},
		{name: "policyTypes [Egress] leaves ingress alone", given: `
spec: {podSelector: {matchLabels: {app: db}}, policyTypes: [Egress]}`, then: `
			Allow prod/web -> prod/db TCP/5432
			Deny  prod/db -> prod/web TCP/80`},
		{name: "protocol missing is TCP, port missing is every port", given: `
spec: {podSelector: {matchLabels: {app: web}}, ingress: [{ports: [{port: 80}, {protocol: UDP}, {}]}]}
---
spec: {podSelector: {matchLabels: {app: db}}, ingress: [{ports: [{port: 80}]}]}`, then: `
			Allow prod/api -> prod/web UDP/1
			Allow prod/api -> prod/web TCP/65535
			Deny  prod/api -> prod/web SCTP/80
			Allow prod/api -> prod/db TCP/80
			Deny  prod/api -> prod/db UDP/80`},
		{name: "an empty podSelector selects all pods of the namespace", given: `
spec: {podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}`, then: `
			Allow prod/job -> prod/db TCP/1
			Deny  test/web -> prod/db TCP/1
			Allow prod/web -> test/web TCP/1`},
		{name: "an empty namespaceSelector selects all namespaces, but not the world", given: `
spec: {podSelector: {}, ingress: [{from: [{namespaceSelector: {}}]}]}`, then: `
			Allow kube-system/dns -> prod/db TCP/1
			Deny  world -> prod/db TCP/1
			Deny  n2 -> prod/db TCP/1`},
	})
}

func TestPorts(t *testing.T) {
	checkRows(t, []row{
		{name: "named ports at ingress are those of the endpoint itself", given: `
spec: {podSelector: {}, ingress: [{ports: [{port: http}]}]}`, then: `
			Allow world -> prod/web TCP/80
			Deny  world -> prod/web TCP/8080
			Allow world -> prod/api TCP/8080
			Deny  world -> prod/api TCP/80
			Deny  world -> prod/db TCP/80`},
		{name: "named ports at egress are those of each destination", given: `
spec: {podSelector: {matchLabels: {app: db}}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {}}], ports: [{port: http}]}]}`, then: `
			Allow prod/db -> prod/web TCP/80
			Allow prod/db -> prod/api TCP/8080
			Deny  prod/db -> prod/web TCP/8080
			Allow prod/db -> test/web TCP/81
			Deny  prod/db -> test/web TCP/80
			Deny  prod/db -> world TCP/80`},
		{name: "named ports at egress without peers are those of every pod", given: `
spec: {podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: [{ports: [{port: dns, protocol: UDP}]}]}`, then: `
			Allow prod/web -> prod/db UDP/53
			Allow prod/web -> kube-system/dns UDP/53
			Deny  prod/web -> kube-system/dns TCP/53
			Deny  prod/web -> world UDP/53`},
		{name: "a name and a protocol must both be right", given: `
spec: {podSelector: {}, ingress: [{ports: [{port: http, protocol: UDP}]}]}`, then: `
			Deny world -> prod/web TCP/80
			Deny world -> prod/web UDP/80`},
		{name: "all container ports of the name", change: func(s *compile.Snapshot) {
			s.Pods[0].Ports = append(s.Pods[0].Ports, namedPort("http", policy.TCP, 8000))
		}, given: `
spec: {podSelector: {}, ingress: [{ports: [{port: http}]}]}`, then: `
			Allow world -> prod/web TCP/80
			Allow world -> prod/web TCP/8000`},
		{name: "destinationNamedPort has no protocol", given: `
kind: ClusterNetworkPolicy
spec: {tier: Admin, priority: 1, subject: {namespaces: {}}, egress: [{action: Deny, to: [{namespaces: {}}], protocols: [{destinationNamedPort: dns}]}]}`, then: `
			Deny  prod/web -> kube-system/dns UDP/53
			Deny  prod/web -> kube-system/dns TCP/53
			Deny  prod/web -> prod/db UDP/53
			Allow prod/web -> prod/db TCP/53`},
		{name: "destinationNamedPort at ingress", given: `
kind: ClusterNetworkPolicy
spec: {tier: Admin, priority: 1, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{namespaces: {}}], protocols: [{destinationNamedPort: http}]}]}`, then: `
			Deny  prod/web -> prod/api TCP/8080
			Allow prod/web -> prod/api TCP/80
			Deny  prod/api -> prod/web TCP/80
			Allow prod/api -> prod/db TCP/80`},
		{name: "endPort is inclusive", given: `
spec: {podSelector: {}, ingress: [{ports: [{port: 80, endPort: 82}, {port: 65535, endPort: 65535}]}]}`, then: `
			Deny  prod/api -> prod/web TCP/79
			Allow prod/api -> prod/web TCP/80
			Allow prod/api -> prod/web TCP/82
			Deny  prod/api -> prod/web TCP/83
			Allow prod/api -> prod/web TCP/65535
			Deny  prod/api -> prod/web UDP/81`},
		{name: "ranges of ClusterNetworkPolicies are inclusive", given: `
kind: ClusterNetworkPolicy
spec: {tier: Admin, priority: 1, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{namespaces: {}}], protocols: [{sctp: {destinationPort: {range: {start: 80, end: 82}}}}]}]}`, then: `
			Allow prod/api -> prod/web SCTP/79
			Deny  prod/api -> prod/web SCTP/80
			Deny  prod/api -> prod/web SCTP/82
			Allow prod/api -> prod/web SCTP/83
			Allow prod/api -> prod/web TCP/80`},
		{name: "a rule for one protocol never opens another", given: `
spec: {podSelector: {}, ingress: [{ports: [{port: 80, protocol: SCTP}, {port: 53, protocol: UDP}]}]}`, then: `
			Allow prod/api -> prod/web SCTP/80
			Deny  prod/api -> prod/web TCP/80
			Deny  prod/api -> prod/web UDP/80
			Deny  prod/api -> prod/web SCTP/53
			Deny  prod/api -> prod/web GRE`},
		{name: "echo comes only from peers allowed on all ports", given: `
spec: {podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}, {from: [{podSelector: {matchLabels: {app: api}}}], ports: [{}, {protocol: UDP}, {protocol: SCTP}]}]}`, then: `
			Allow prod/web -> prod/db ping
			Deny  prod/api -> prod/db ping
			Deny  prod/job -> prod/db ping`},
	})
}

func TestSelectors(t *testing.T) {
	to := func(selector string) string {
		return "\nspec: {podSelector: {matchLabels: {app: db}}, ingress: [{from: [{" + selector + "}]}]}"
	}
	checkRows(t, []row{
		{name: "NotIn matches a missing key", given: to(`podSelector: {matchExpressions: [{key: app, operator: NotIn, values: [web]}]}`), then: `
			Deny  prod/web -> prod/db TCP/1
			Allow prod/api -> prod/db TCP/1
			Allow prod/job -> prod/db TCP/1
			Deny  kube-system/dns -> prod/db TCP/1`},
		{name: "In does not match a missing key, not even with an empty value", given: to(`namespaceSelector: {matchExpressions: [{key: env, operator: In, values: [""]}]}`), then: `
			Allow test/web -> prod/db TCP/1
			Deny  prod/web -> prod/db TCP/1
			Deny  kube-system/dns -> prod/db TCP/1`},
		{name: "NotIn with an empty value", given: to(`namespaceSelector: {matchExpressions: [{key: env, operator: NotIn, values: [""]}]}`), then: `
			Deny  test/web -> prod/db TCP/1
			Allow prod/web -> prod/db TCP/1
			Allow kube-system/dns -> prod/db TCP/1`},
		{name: "Exists and DoesNotExist", given: to(`podSelector: {matchExpressions: [{key: app, operator: Exists}]}, namespaceSelector: {matchExpressions: [{key: env, operator: DoesNotExist}]}`), then: `
			Allow kube-system/dns -> prod/db TCP/1
			Deny  prod/web -> prod/db TCP/1`},
		{name: "namespaceSelector and podSelector in one peer are and, in two peers or", given: to(`namespaceSelector: {matchLabels: {env: ""}}, podSelector: {matchLabels: {app: web}}`), then: `
			Allow test/web -> prod/db TCP/1
			Deny  prod/web -> prod/db TCP/1`},
		{name: "in two peers", given: to(`namespaceSelector: {matchLabels: {env: ""}}}, {podSelector: {matchLabels: {app: web}}`), then: `
			Allow test/web -> prod/db TCP/1
			Allow prod/web -> prod/db TCP/1
			Deny  prod/api -> prod/db TCP/1`},
		{name: "a namespace that is not known has its name for a label", change: func(s *compile.Snapshot) { s.Namespaces = nil },
			given: to(`namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: test}}}, {namespaceSelector: {matchExpressions: [{key: env, operator: Exists}]}`), then: `
			Allow test/web -> prod/db TCP/1
			Deny  prod/web -> prod/db TCP/1`},
		{name: "a namespace's name label is its name", change: func(s *compile.Snapshot) {
			s.Namespaces[1].Labels = map[string]string{"kubernetes.io/metadata.name": "prod"}
		}, given: to(`namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: prod}}}, {namespaceSelector: {matchExpressions: [{key: kubernetes.io/metadata.name, operator: NotIn, values: [prod, kube-system]}]}`), then: `
			Allow prod/web -> prod/db TCP/1
			Allow test/web -> prod/db TCP/1
			Deny  kube-system/dns -> prod/db TCP/1`},
		{name: "policies of another namespace select nothing here", given: `
metadata: {namespace: test}
spec: {podSelector: {}}`, then: `
			Deny  prod/web -> test/web TCP/1
			Allow test/web -> prod/web TCP/1`},
	})
}

func TestRolesInSelectors(t *testing.T) {
	const closed = `
spec:
  podSelector: {matchLabels: {tierwall.io/tier-role: data}}
  ingress: [{from: [{podSelector: {matchLabels: {tierwall.io/tier-role: backend}}}]}]
---
kind: TierRole
metadata: {name: backend}
spec: {role: backend, namespaces: [prod], serviceAccounts: [api]}
---
kind: TierRole
metadata: {name: data}
spec: {role: data, namespaces: [prod], podSelector: {matchLabels: {app: db}}}`
	forge := func(pod int, role string) func(*compile.Snapshot) {
		return func(s *compile.Snapshot) {
			labels := map[string]string{"tierwall.io/tier-role": role}
			for k, v := range s.Pods[pod].Labels {
				labels[k] = v
			}
			s.Pods[pod].Labels = labels
		}
	}
	checkRows(t, []row{
		{name: "roles are there though no label shows them", given: closed, then: `
			Allow prod/api -> prod/db TCP/5432
			Deny  prod/web -> prod/db TCP/5432`},
		{name: "a forged role as a peer buys nothing", change: forge(0, "backend"), given: closed, then: `
			Deny prod/web -> prod/db TCP/5432`},
		{name: "a forged role as a subject changes nothing", change: forge(2, "frontend"), given: closed, then: `
			Deny prod/web -> prod/db TCP/5432`},
		{name: "a forged role does not make a subject", change: forge(3, "data"), given: closed, then: `
			Allow prod/web -> prod/job TCP/5432`},
	})
}

func TestIPBlocks(t *testing.T) {
	checkRows(t, []row{
		{name: "except takes out of its own peer", given: `
spec: {podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 203.0.113.0/24, except: [203.0.113.0/29, 203.0.113.4/30, 203.0.113.16/32]}}]}]}`, then: `
			Deny  prod/web -> 203.0.112.255 TCP/1
			Deny  prod/web -> 203.0.113.0 TCP/1
			Deny  prod/web -> 203.0.113.7 TCP/1
			Allow prod/web -> 203.0.113.8 TCP/1
			Allow prod/web -> 203.0.113.15 TCP/1
			Deny  prod/web -> 203.0.113.16 TCP/1
			Allow prod/web -> 203.0.113.17 TCP/1
			Allow prod/web -> 203.0.113.255 TCP/1
			Deny  prod/web -> 203.0.114.0 TCP/1`},
		{name: "another peer can allow again", given: `
spec: {podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 203.0.113.0/24, except: [203.0.113.8/29]}}, {ipBlock: {cidr: 203.0.113.9/32}}]}]}`, then: `
			Deny  prod/web -> 203.0.113.8 TCP/1
			Allow prod/web -> 203.0.113.9 TCP/1`},
		{name: "pod addresses match too", given: `
spec: {podSelector: {matchLabels: {app: db}}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.1.0/24]}}, {ipBlock: {cidr: "fd00:2::/32", except: ["fd00:2:0:1::/64"]}}]}]}`, then: `
			Allow prod/api -> prod/db TCP/1
			Deny  prod/web -> prod/db TCP/1
			Allow test/web -> prod/db TCP/1
			Deny  world -> prod/db TCP/1`},
		{name: "one IP family says nothing of the other", given: `
spec: {podSelector: {matchLabels: {app: db}}, ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0}}]}]}`, then: `
			Allow 10.0.1.1 -> 10.0.1.3 TCP/1
			Allow 203.0.113.9 -> 10.0.1.3 TCP/1
			Deny  fd00:2:0:1::1 -> fd00:2:0:1::3 TCP/1`},
		{name: "bits beyond the prefix are ignored", given: `
spec: {podSelector: {matchLabels: {app: db}}, ingress: [{from: [{ipBlock: {cidr: 203.0.113.77/24, except: [203.0.113.77/28]}}]}]}`, then: `
			Allow 203.0.113.9 -> 10.0.1.3 TCP/1
			Deny  203.0.113.64 -> 10.0.1.3 TCP/1`},
		{name: "networks of ClusterNetworkPolicies, overlapping", given: `
kind: ClusterNetworkPolicy
spec: {tier: Admin, priority: 0, subject: {namespaces: {}}, egress: [{action: Deny, to: [{networks: [203.0.113.0/24, 203.0.113.9/32, 203.0.112.0/24, "2001:db8::/32"]}]}]}`, then: `
			Deny  prod/web -> world TCP/1
			Deny  prod/web -> 203.0.112.0 TCP/1
			Allow prod/web -> 203.0.111.255 TCP/1
			Allow prod/web -> 203.0.114.0 TCP/1`},
	})
}
