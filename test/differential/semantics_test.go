package differential

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/test/oracle"
)

// claim is one thing that a row of the table of semantics in the design says.
type claim struct {
	says   string
	change func(*oracle.Cluster)
	given  string // objects in YAML
	then   string // verdicts
}

// TestTheTableOfSemantics has a test for each row of the table, by the row's name, and in it one for
// each thing that the row says. All judges are asked: the oracle, the evaluator, and the
// rules of every node on the way.
func TestTheTableOfSemantics(t *testing.T) {
	for _, row := range []struct {
		name   string
		claims []claim
	}{
		{"order", order}, {"default action", defaultAction}, {"DNS", dns}, {"endpoints", endpoints},
		{"node to its own pods", nodeToItsOwnPods}, {"other nodes, host-network pods", otherNodes},
		{"pod to itself", podToItself}, {"pod to its own node", podToItsOwnNode}, {"Services", services},
		{"missing versus empty", missingVersusEmpty}, {"named ports", namedPorts}, {"ipBlock except", ipBlockExcept},
		{"selectors", selectorRow}, {"ICMP", icmp}, {"CNP", cnp}, {"SCTP, UDP", sctpAndUDP},
	} {
		t.Run(row.name, func(t *testing.T) {
			for _, c := range row.claims {
				t.Run(c.says, func(t *testing.T) {
					objects := world()
					if c.change != nil {
						c.change(objects)
					}
					add(t, objects, c.given)
					expect(t, objects, c.then)
				})
			}
		})
	}
}

func denyByDefault(c *oracle.Cluster) {
	c.Defaults = policy.Defaults{Action: policy.Deny, Exempt: []string{"kube-system"}}
}

const (
	denyAll = `
spec: {podSelector: {}, policyTypes: [Ingress, Egress]}`
	fromAPI = `
spec: {podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: {matchLabels: {app: api}}}]}]}`
)

var order = []claim{
	{says: "Admin by priority, then name", given: `
kind: ClusterNetworkPolicy
metadata: {name: b}
spec: {tier: Admin, priority: 5, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{namespaces: {}}]}]}
---
kind: ClusterNetworkPolicy
metadata: {name: a}
spec: {tier: Admin, priority: 5, subject: {namespaces: {}}, ingress: [{action: Accept, from: [{pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: api}}}}]}]}
---
kind: ClusterNetworkPolicy
metadata: {name: z}
spec: {tier: Admin, priority: 4, subject: {namespaces: {}}, ingress: [{action: Accept, from: [{pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: web}}}}]}]}`, then: `
		Allow prod/web -> prod/db TCP/1
		Allow prod/api -> prod/db TCP/1
		Deny  prod/job -> prod/db TCP/1`},
	{says: "Admin before NetworkPolicy", given: fromAPI + `
---
kind: ClusterNetworkPolicy
spec:
  tier: Admin
  priority: 1
  subject: {namespaces: {}}
  ingress:
  - {action: Accept, from: [{pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: web}}}}]}
  - {action: Deny, from: [{pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: api}}}}]}`, then: `
		Allow prod/web -> prod/db TCP/5432
		Deny  prod/api -> prod/db TCP/5432
		Deny  prod/job -> prod/db TCP/5432`},
	{says: "NetworkPolicies allow what any of them allows, else deny", given: fromAPI + `
---
spec: {podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]}`, then: `
		Allow prod/web -> prod/db TCP/5432
		Allow prod/api -> prod/db TCP/5432
		Deny  prod/job -> prod/db TCP/5432`},
	{says: "NetworkPolicy before Baseline, Baseline for whom none selects", given: fromAPI + `
---
kind: ClusterNetworkPolicy
spec: {tier: Baseline, priority: 1, subject: {namespaces: {}}, ingress: [{action: Accept, from: [{pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: web}}}}]}, {action: Deny, from: [{namespaces: {}}]}]}`, then: `
		Deny  prod/web -> prod/db TCP/5432
		Allow prod/api -> prod/db TCP/5432
		Allow prod/web -> prod/api TCP/8080
		Deny  prod/job -> prod/api TCP/8080`},
	{says: "Baseline before the default action", change: denyByDefault, given: `
kind: ClusterNetworkPolicy
spec: {tier: Baseline, priority: 1, subject: {namespaces: {}}, ingress: [{action: Accept, from: [{namespaces: {}}]}], egress: [{action: Accept, to: [{namespaces: {}}]}]}`, then: `
		Allow prod/web -> prod/db TCP/5432
		Deny  world -> prod/db TCP/5432`},
	{says: "a flow passes when egress and ingress both allow it", given: fromAPI + `
---
spec: {podSelector: {matchLabels: {app: api}}, policyTypes: [Egress], egress: [{to: [{podSelector: {matchLabels: {app: web}}}]}]}`, then: `
		Deny  prod/api -> prod/db TCP/5432
		Allow prod/api -> prod/web TCP/80`},
}

var defaultAction = []claim{
	{says: "Deny", change: denyByDefault, then: `
		Deny  prod/web -> prod/db TCP/5432
		Deny  prod/web -> world TCP/443
		Deny  world -> prod/web TCP/80`},
	{says: "but for exempt namespaces", change: denyByDefault, then: `
		Allow world -> kube-system/dns UDP/53
		Allow kube-system/dns -> world UDP/53
		Deny  prod/web -> kube-system/dns UDP/53`},
	{says: "by name, never by a label that its owner could set", change: func(c *oracle.Cluster) {
		denyByDefault(c)
		for _, n := range c.Namespaces {
			for key, value := range map[string]string{"tierwall.io/default-action": "Allow", "tierwall.io/exempt": "true", "name": "kube-system"} {
				n.Labels[key] = value
			}
		}
	}, then: `
		Deny world -> prod/web TCP/80
		Deny prod/web -> prod/db TCP/80`},
	{says: "Allow is stock Kubernetes", then: `
		Allow world -> prod/web TCP/80
		Allow prod/web -> prod/db GRE
		Allow new -> prod/web TCP/80
		Allow prod/web -> new TCP/80`},
	{says: "one setting for the cluster, overridable per namespace", change: func(c *oracle.Cluster) {
		denyByDefault(c)
		c.Defaults.Namespaces = map[string]policy.Verdict{"test": policy.Allow}
	}, then: `
		Allow world -> test/web TCP/80
		Allow test/web -> world TCP/443
		Deny  world -> prod/web TCP/80`},
	{says: "Audit lets pass and reports what Deny would have dropped", change: func(c *oracle.Cluster) {
		c.Defaults = policy.Defaults{Action: policy.Audit, Exempt: []string{"kube-system"}}
	}, given: fromAPI + "\n---" + dnsPolicy, then: `
		Audit         prod/web -> prod/api TCP/80
		Audit         test/web -> prod/job GRE
		Audit:egress  prod/web -> world TCP/443
		Audit:egress  prod/web -> n1 TCP/10250
		Audit:ingress world -> prod/web TCP/80
		Audit:egress  prod/web -> kube-system/dns TCP/80
		Allow         prod/web -> kube-system/dns UDP/53
		Allow         kube-system/dns -> world UDP/53
		Allow         n1 -> prod/web TCP/80
		Allow         prod/web -> prod/web TCP/80
		Audit         prod/web => prod/web TCP/80
		Audit:egress  prod/api -> prod/db TCP/5432
		Deny          prod/web -> prod/db TCP/5432
		Deny          world -> prod/db TCP/5432`},
	{says: "under Audit a pod that is not known yet passes, and nothing is known to report of it", change: func(c *oracle.Cluster) {
		c.Defaults.Action = policy.Audit
	}, then: `
		Audit:ingress new -> prod/web TCP/80
		Audit:egress  prod/web -> new TCP/80
		Allow         new -> world TCP/80`},
	{says: "Audit for one namespace, where the cluster denies", change: func(c *oracle.Cluster) {
		denyByDefault(c)
		c.Defaults.Namespaces = map[string]policy.Verdict{"test": policy.Audit, "kube-system": policy.Audit}
	}, then: `
		Audit:ingress world -> test/web TCP/80
		Audit:egress  test/web -> kube-system/dns TCP/80
		Deny          test/web -> prod/web TCP/80
		Deny          prod/web -> test/web TCP/80
		Deny          new -> test/web TCP/80`},
	{says: "overridable both ways", change: func(c *oracle.Cluster) {
		c.Defaults.Namespaces = map[string]policy.Verdict{"test": policy.Deny}
	}, then: `
		Deny  world -> test/web TCP/80
		Allow world -> prod/web TCP/80`},
}

// dnsPolicy is what the chart installs.
const dnsPolicy = `
kind: ClusterNetworkPolicy
metadata: {name: tierwall-dns}
spec:
  tier: Baseline
  priority: 1000
  subject: {namespaces: {}}
  egress:
  - name: cluster-dns
    action: Accept
    to: [{pods: {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}, podSelector: {matchLabels: {app: dns}}}}]
    protocols: [{udp: {destinationPort: {number: 53}}}, {tcp: {destinationPort: {number: 53}}}]`

var dns = []claim{
	{says: "under default deny pods still reach the cluster's DNS", change: denyByDefault, given: dnsPolicy, then: `
		Allow prod/web -> kube-system/dns UDP/53
		Allow test/web -> kube-system/dns TCP/53
		Deny  prod/web -> kube-system/dns TCP/80
		Deny  prod/web -> world UDP/53`},
	{says: "not by a hidden rule", change: denyByDefault, then: `
		Deny prod/web -> kube-system/dns UDP/53`},
	{says: "in Baseline: a NetworkPolicy goes first", change: denyByDefault, given: denyAll + "\n---" + dnsPolicy, then: `
		Deny  prod/web -> kube-system/dns UDP/53
		Allow test/web -> kube-system/dns UDP/53`},
}

// replaced has another pod claim the addresses of prod/db.
func replaced(change func(db, other *corev1.Pod)) func(*oracle.Cluster) {
	return func(c *oracle.Cluster) {
		other := newPod("test/other", "n1", "other")
		other.CreationTimestamp = metav1.Unix(2, 0)
		occupy(other, "prod/db")
		change(podOf(c, "prod/db"), other)
		c.Pods = append(c.Pods, other)
	}
}

func ending(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{} }

const onlyDBReachesWeb = `
spec: {podSelector: {matchLabels: {app: web}}, ingress: [{from: [{podSelector: {matchLabels: {app: db}}}]}]}`

var endpoints = []claim{
	{says: "pods not on the host network", given: denyAll, then: `
		Allow n1 -> world TCP/443
		Allow world -> n1 TCP/10250`},
	{says: "with an address: without one a pod is neither subject nor peer", change: func(c *oracle.Cluster) {
		podOf(c, "prod/db").Status.PodIPs = nil
	}, given: onlyDBReachesWeb, then: `
		Deny prod/db -> prod/web TCP/80`},
	{says: "with an address of one IP family alone", change: func(c *oracle.Cluster) {
		db := podOf(c, "prod/db")
		db.Status.PodIPs = db.Status.PodIPs[:1]
	}, given: onlyDBReachesWeb, then: `
		Allow 10.0.1.3 -> 10.0.1.1 TCP/80
		Deny  fd00:2:0:1::3 -> fd00:2:0:1::1 TCP/80`},
	{says: "not Succeeded", change: func(c *oracle.Cluster) { podOf(c, "prod/db").Status.Phase = corev1.PodSucceeded }, given: onlyDBReachesWeb, then: `
		Deny prod/db -> prod/web TCP/80`},
	{says: "not Failed", change: func(c *oracle.Cluster) { podOf(c, "prod/db").Status.Phase = corev1.PodFailed }, given: onlyDBReachesWeb, then: `
		Deny prod/db -> prod/web TCP/80`},
	{says: "a pod that is ending still is one", change: func(c *oracle.Cluster) { ending(podOf(c, "prod/db")) }, given: onlyDBReachesWeb, then: `
		Allow prod/db -> prod/web TCP/80`},
	{says: "an address is judged as the one's who has it: the older", change: replaced(func(_, _ *corev1.Pod) {}), given: onlyDBReachesWeb, then: `
		Allow prod/db -> prod/web TCP/80`},
	{says: "an address is judged as the one's who has it: not the one's that is ending", change: replaced(func(_, other *corev1.Pod) { ending(other) }), given: onlyDBReachesWeb, then: `
		Allow prod/db -> prod/web TCP/80`},
	{says: "an address is judged as the one's who has it: not the one's that ended", change: replaced(func(db, other *corev1.Pod) {
		db.Status.Phase = corev1.PodSucceeded
		ending(other)
	}), given: onlyDBReachesWeb, then: `
		Deny prod/db -> prod/web TCP/80`},
	{says: "policies of the old owner do not apply to the new", change: replaced(func(db, _ *corev1.Pod) { ending(db) }), given: denyAll, then: `
		Allow world -> prod/db TCP/80`},
	{says: "a pod of another node takes over nothing: the owner stays isolated", change: replaced(func(db, other *corev1.Pod) {
		other.Spec.NodeName, other.CreationTimestamp = "n2", metav1.Unix(0, 0)
		ending(db)
	}), given: denyAll, then: `
		Deny world -> prod/db TCP/80`},
	{says: "a pod of another node takes over nothing: the owner is not cut off", change: replaced(func(_, other *corev1.Pod) {
		other.Spec.NodeName, other.CreationTimestamp = "n2", metav1.Unix(0, 0)
	}), given: onlyDBReachesWeb + `
---
kind: ClusterNetworkPolicy
spec: {tier: Admin, priority: 0, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{namespaces: {matchLabels: {kubernetes.io/metadata.name: test}}}]}]}`, then: `
		Allow prod/db -> prod/web TCP/80`},
	{says: "a pod of a node that does not exist takes over nothing", change: replaced(func(_, other *corev1.Pod) {
		other.Spec.NodeName, other.CreationTimestamp = "gone", metav1.Unix(0, 0)
	}), given: onlyDBReachesWeb, then: `
		Allow prod/db -> prod/web TCP/80`},
	{says: "a pod takes over no address of a node", change: func(c *oracle.Cluster) { occupy(podOf(c, "prod/db"), "n2") }, given: onlyDBReachesWeb, then: `
		Deny  n2 -> prod/web TCP/80
		Allow world -> n2 TCP/10250`},
	{says: "an address outside of the networks of the pod's node is allowed nothing", change: func(c *oracle.Cluster) { occupy(podOf(c, "prod/db"), "world") }, given: onlyDBReachesWeb, then: `
		Deny world -> prod/web TCP/80
		Deny prod/db -> prod/web TCP/80`},
	{says: "an address outside of the networks of the pod's node is denied what the pod is", change: func(c *oracle.Cluster) { occupy(podOf(c, "prod/db"), "world") }, given: `
kind: ClusterNetworkPolicy
spec: {tier: Admin, priority: 0, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{pods: {podSelector: {matchLabels: {app: db}}}}]}]}`, then: `
		Deny  world -> prod/web TCP/80
		Allow prod/api -> prod/web TCP/80`},
	{says: "an address outside of the networks of the pod's node stays isolated", change: func(c *oracle.Cluster) { occupy(podOf(c, "prod/db"), "world") }, given: denyAll, then: `
		Deny test/web -> world TCP/80`},
	{says: "a node takes over no address within the networks of another", change: func(c *oracle.Cluster) {
		c.Nodes[1].Status.Addresses = append(c.Nodes[1].Status.Addresses, corev1.NodeAddress{Type: corev1.NodeExternalIP, Address: "10.0.1.3"},
			corev1.NodeAddress{Type: corev1.NodeExternalIP, Address: "fd00:2:0:1::3"})
	}, given: denyAll, then: `
		Deny world -> prod/db TCP/80
		Deny prod/db -> prod/job TCP/80`},
}

var nodeToItsOwnPods = []claim{
	{says: "always allowed, in every protocol, whatever policies and the default say", change: denyByDefault, given: denyAll + `
---
kind: ClusterNetworkPolicy
spec: {tier: Admin, priority: 0, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{namespaces: {}}]}], egress: [{action: Deny, to: [{networks: [0.0.0.0/0, "::/0"]}]}]}`, then: `
		Allow n1 -> prod/web TCP/80
		Allow n1 -> prod/web UDP/80
		Allow n1 -> prod/web SCTP/80
		Allow n1 -> prod/web GRE
		Allow n1 -> prod/web ping
		Allow n2 -> prod/api TCP/8080`},
	{says: "before the agent knows the pod", change: denyByDefault, then: `
		Allow n1 -> new TCP/80
		Deny  n2 -> new TCP/80`},
	{says: "its own only", given: denyAll, then: `
		Deny n2 -> prod/web TCP/80
		Deny n1 -> prod/api TCP/80`},
}

var otherNodes = []claim{
	{says: "ipBlock can match a node", given: `
spec: {podSelector: {matchLabels: {app: web}}, ingress: [{from: [{ipBlock: {cidr: 192.168.0.2/32}}, {ipBlock: {cidr: "fd00:1::2/128"}}]}]}`, then: `
		Allow n2 -> prod/web TCP/80
		Deny  prod/api -> prod/web TCP/80`},
	{says: "a nodes peer can match a node, by its labels", given: `
kind: ClusterNetworkPolicy
spec: {tier: Admin, priority: 0, subject: {namespaces: {}}, egress: [{action: Deny, to: [{nodes: {matchLabels: {pool: n2}}}]}]}`, then: `
		Deny  prod/web -> n2 TCP/10250
		Deny  prod/job -> n2 TCP/10250
		Allow prod/web -> n1 TCP/10250
		Allow prod/web -> prod/api TCP/10250`},
	{says: "an empty nodes peer is every node", given: `
kind: ClusterNetworkPolicy
spec: {tier: Admin, priority: 0, subject: {namespaces: {}}, egress: [{action: Deny, to: [{nodes: {}}]}]}`, then: `
		Deny  prod/web -> n1 TCP/10250
		Deny  prod/web -> n2 TCP/10250
		Allow prod/web -> world TCP/443`},
	{says: "a host-network pod is its node's address, and in no pod peer", given: `
spec: {podSelector: {matchLabels: {app: api}}, ingress: [{from: [{podSelector: {matchLabels: {app: agent}}}]}]}`, then: `
		Deny n1 -> prod/api TCP/80`},
	{says: "pods on other nodes are not their nodes", given: `
spec: {podSelector: {matchLabels: {app: web}}, ingress: [{from: [{ipBlock: {cidr: 10.0.2.0/24}}, {ipBlock: {cidr: "fd00:2:0:2::/64"}}]}]}`, then: `
		Allow prod/api -> prod/web TCP/80
		Deny  n2 -> prod/web TCP/80`},
}

var podToItself = []claim{
	{says: "by its own address always allowed", change: denyByDefault, given: denyAll, then: `
		Allow prod/web -> prod/web TCP/80
		Allow prod/web -> prod/web SCTP/80
		Deny  prod/web -> prod/api TCP/80`},
	{says: "through a Service subject to policy", given: denyAll, then: `
		Deny prod/web => prod/web TCP/80`},
	{says: "through a Service subject to policy, which can allow it", given: denyAll + `
---
spec: {podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress, Egress], ingress: [{from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: 80}]}], egress: [{to: [{podSelector: {matchLabels: {app: web}}}]}]}`, then: `
		Allow prod/web => prod/web TCP/80
		Deny  prod/web => prod/web TCP/81
		Deny  prod/db => prod/db TCP/80`},
}

var podToItsOwnNode = []claim{
	{says: "egress policy applies", given: denyAll, then: `
		Deny prod/web -> n1 TCP/10250
		Deny prod/web -> n1 UDP/53
		Deny prod/web -> n1 ping`},
	{says: "egress policy can allow it", given: denyAll + `
---
spec: {podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 192.168.0.0/24}}, {ipBlock: {cidr: "fd00:1::/64"}}], ports: [{port: 10250}]}]}`, then: `
		Allow prod/web -> n1 TCP/10250
		Deny  prod/web -> n1 TCP/22
		Deny  prod/db -> n1 TCP/10250`},
	{says: "the default action applies", change: denyByDefault, then: `
		Deny  prod/web -> n1 TCP/10250
		Allow kube-system/dns -> n1 TCP/10250
		Deny  new -> n1 TCP/10250`},
}

var services = []claim{
	{says: "judged after DNAT: as the pod behind it, whatever the Service's own address is", given: `
spec: {podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 10.96.0.0/12}}, {ipBlock: {cidr: "fd00:96::/32"}}]}]}`, then: `
		Deny prod/web -> prod/db TCP/5432`},
	{says: "judged after DNAT: by the pod's port, not the Service's", given: `
spec: {podSelector: {matchLabels: {app: api}}, ingress: [{ports: [{port: 8080}]}]}`, then: `
		Allow prod/web -> prod/api TCP/8080
		Deny  prod/web -> prod/api TCP/80`},
	{says: "judged before SNAT: by the address of the pod that sent it", given: fromAPI, then: `
		Allow prod/api -> prod/db TCP/5432
		Deny  prod/web -> prod/db TCP/5432`},
}

var missingVersusEmpty = []claim{
	{says: "from missing or empty matches all", given: `
spec: {podSelector: {matchLabels: {app: web}}, ingress: [{ports: [{port: 80}]}]}
---
spec: {podSelector: {matchLabels: {app: db}}, ingress: [{from: [], ports: [{port: 80}]}]}`, then: `
		Allow world -> prod/web TCP/80
		Allow world -> prod/db TCP/80
		Deny  world -> prod/db TCP/81`},
	{says: "to missing or empty matches all", given: `
spec: {podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: [{ports: [{port: 80}]}]}
---
spec: {podSelector: {matchLabels: {app: db}}, policyTypes: [Egress], egress: [{to: [], ports: [{port: 80}]}]}`, then: `
		Allow prod/web -> world TCP/80
		Allow prod/db -> world TCP/80
		Allow prod/db -> n2 TCP/80
		Deny  prod/db -> world TCP/81`},
	{says: "ports missing or empty match all", given: `
spec: {podSelector: {matchLabels: {app: web}}, ingress: [{from: [{podSelector: {}}]}]}
---
spec: {podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: {}}], ports: []}]}`, then: `
		Allow prod/api -> prod/web SCTP/80
		Allow prod/api -> prod/db GRE
		Allow prod/api -> prod/db ping
		Deny  test/web -> prod/db TCP/80`},
	{says: "protocols missing match all", given: `
kind: ClusterNetworkPolicy
spec: {tier: Admin, priority: 0, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{namespaces: {}}]}]}`, then: `
		Deny prod/web -> prod/db TCP/5432
		Deny prod/web -> prod/db SCTP/1
		Deny prod/web -> prod/db GRE
		Deny prod/web -> prod/db ping`},
	{says: "ingress: [] isolates", given: `
spec: {podSelector: {matchLabels: {app: db}}, ingress: []}`, then: `
		Deny  prod/web -> prod/db TCP/5432
		Allow prod/db -> prod/web TCP/80`},
	{says: "ingress: [{}] allows all", given: `
spec: {podSelector: {matchLabels: {app: db}}, ingress: [{}]}`, then: `
		Allow world -> prod/db TCP/5432
		Allow world -> prod/db ping`},
	{says: "policyTypes missing: Ingress always, Egress with egress rules", given: `
spec: {podSelector: {matchLabels: {app: db}}}
---
spec: {podSelector: {matchLabels: {app: web}}, egress: [{to: [{podSelector: {matchLabels: {app: api}}}]}]}`, then: `
		Deny  prod/job -> prod/db TCP/5432
		Allow prod/db -> prod/api TCP/8080
		Deny  prod/job -> prod/web TCP/80
		Allow prod/web -> prod/api TCP/8080
		Deny  prod/web -> world TCP/443`},
	{says: "policyTypes missing: egress: [] is no egress rule", given: `
spec: {podSelector: {matchLabels: {app: db}}, egress: []}`, then: `
		Allow prod/db -> world TCP/443
		Deny  world -> prod/db TCP/443`},
	{says: "policyTypes [Egress] leaves ingress alone", given: `
spec: {podSelector: {matchLabels: {app: db}}, policyTypes: [Egress]}`, then: `
		Allow prod/web -> prod/db TCP/5432
		Deny  prod/db -> prod/web TCP/80`},
}

var namedPorts = []claim{
	{says: "resolved per destination at ingress", given: `
spec: {podSelector: {}, ingress: [{ports: [{port: http}]}]}`, then: `
		Allow world -> prod/web TCP/80
		Deny  world -> prod/web TCP/8080
		Allow world -> prod/api TCP/8080
		Deny  world -> prod/api TCP/80
		Deny  world -> prod/db TCP/80`},
	{says: "resolved per destination at egress", given: `
spec: {podSelector: {matchLabels: {app: db}}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {}}], ports: [{port: http}]}]}`, then: `
		Allow prod/db -> prod/web TCP/80
		Allow prod/db -> prod/api TCP/8080
		Deny  prod/db -> prod/web TCP/8080
		Allow prod/db -> test/web TCP/81
		Deny  prod/db -> world TCP/80
		Deny  prod/db -> n1 TCP/80`},
	{says: "by name and protocol", given: `
spec: {podSelector: {matchLabels: {app: db}}, ingress: [{ports: [{port: sql, protocol: UDP}]}]}
---
spec: {podSelector: {matchLabels: {app: web}}, ingress: [{ports: [{port: http, protocol: UDP}]}]}`, then: `
		Allow world -> prod/db UDP/5432
		Deny  world -> prod/db TCP/5432
		Deny  world -> prod/web TCP/80
		Deny  world -> prod/web UDP/80`},
	{says: "of sidecars too, of init containers that have ended not", change: func(c *oracle.Cluster) {
		db := podOf(c, "prod/db")
		db.Spec.InitContainers = []corev1.Container{{Name: "migrate", Ports: []corev1.ContainerPort{{Name: "metrics", ContainerPort: 9090}}}}
	}, given: `
spec: {podSelector: {}, ingress: [{ports: [{port: metrics}]}]}`, then: `
		Allow world -> prod/api TCP/9090
		Deny  world -> prod/db TCP/9090`},
	{says: "all that a pod has of the name", change: func(c *oracle.Cluster) {
		web := &podOf(c, "prod/web").Spec.Containers[0]
		web.Ports = append(web.Ports, corev1.ContainerPort{Name: "http", ContainerPort: 8000})
	}, given: `
spec: {podSelector: {}, ingress: [{ports: [{port: http}]}]}`, then: `
		Allow world -> prod/web TCP/80
		Allow world -> prod/web TCP/8000
		Deny  world -> prod/web TCP/8080`},
	{says: "destinationNamedPort, in whatever protocol the destination has it", given: `
kind: ClusterNetworkPolicy
spec: {tier: Admin, priority: 1, subject: {namespaces: {}}, egress: [{action: Deny, to: [{namespaces: {}}], protocols: [{destinationNamedPort: dns}]}], ingress: [{action: Deny, from: [{namespaces: {}}], protocols: [{destinationNamedPort: sql}]}]}`, then: `
		Deny  prod/web -> kube-system/dns UDP/53
		Deny  prod/web -> kube-system/dns TCP/53
		Allow prod/web -> kube-system/dns SCTP/53
		Deny  prod/web -> prod/db TCP/5432
		Deny  prod/web -> prod/db UDP/5432
		Allow prod/web -> prod/db UDP/53
		Allow world -> prod/db TCP/5432`},
}

var ipBlockExcept = []claim{
	{says: "belongs to its own peer: another peer can allow again", given: `
spec: {podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 203.0.113.0/24, except: [203.0.113.8/29]}}, {ipBlock: {cidr: 203.0.113.9/32}}]}]}`, then: `
		Deny  10.0.1.1 -> 203.0.113.8 TCP/1
		Allow 10.0.1.1 -> 203.0.113.9 TCP/1
		Allow 10.0.1.1 -> 203.0.113.7 TCP/1`},
	{says: "another rule can allow again", given: `
spec: {podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 203.0.113.0/24, except: [203.0.113.8/29]}}]}, {to: [{ipBlock: {cidr: 203.0.113.9/32}}], ports: [{port: 443}]}]}`, then: `
		Deny  10.0.1.1 -> 203.0.113.9 TCP/80
		Allow 10.0.1.1 -> 203.0.113.9 TCP/443`},
	{says: "another policy can allow again", given: `
spec: {podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 203.0.113.0/24, except: [203.0.113.8/29]}}]}]}
---
spec: {podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 203.0.113.9/32}}]}]}`, then: `
		Allow 10.0.1.1 -> 203.0.113.9 TCP/1
		Deny  10.0.1.3 -> 203.0.113.9 TCP/1`},
	{says: "overlapping and nested", given: `
spec: {podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 203.0.113.0/24, except: [203.0.113.0/29, 203.0.113.4/30, 203.0.113.16/32]}}]}]}`, then: `
		Deny  10.0.1.1 -> 203.0.112.255 TCP/1
		Deny  10.0.1.1 -> 203.0.113.0 TCP/1
		Deny  10.0.1.1 -> 203.0.113.7 TCP/1
		Allow 10.0.1.1 -> 203.0.113.8 TCP/1
		Allow 10.0.1.1 -> 203.0.113.15 TCP/1
		Deny  10.0.1.1 -> 203.0.113.16 TCP/1
		Allow 10.0.1.1 -> 203.0.113.255 TCP/1
		Deny  10.0.1.1 -> 203.0.114.0 TCP/1`},
	{says: "pod addresses match too", given: `
spec: {podSelector: {matchLabels: {app: db}}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.1.0/24]}}, {ipBlock: {cidr: "fd00:2::/32", except: ["fd00:2:0:1::/64"]}}]}]}`, then: `
		Allow prod/api -> prod/db TCP/1
		Deny  prod/web -> prod/db TCP/1
		Deny  world -> prod/db TCP/1`},
	{says: "one IP family says nothing of the other", given: `
spec: {podSelector: {matchLabels: {app: db}}, ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0}}]}]}`, then: `
		Allow 203.0.113.9 -> 10.0.1.3 TCP/1
		Deny  2001:db8::9 -> fd00:2:0:1::3 TCP/1`},
}

var selectorRow = []claim{
	{says: "NotIn matches a missing key", given: `
spec: {podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: {matchExpressions: [{key: app, operator: NotIn, values: [web]}]}}]}]}`, then: `
		Deny  prod/web -> prod/db TCP/1
		Allow prod/api -> prod/db TCP/1
		Allow prod/job -> prod/db TCP/1`},
	{says: "In matches no missing key, not even with an empty value", given: `
spec: {podSelector: {matchLabels: {app: db}}, ingress: [{from: [{namespaceSelector: {matchExpressions: [{key: env, operator: In, values: [""]}]}}]}]}`, then: `
		Allow test/web -> prod/db TCP/1
		Deny  prod/web -> prod/db TCP/1
		Deny  kube-system/dns -> prod/db TCP/1`},
	{says: "NotIn with an empty value", given: `
spec: {podSelector: {matchLabels: {app: db}}, ingress: [{from: [{namespaceSelector: {matchExpressions: [{key: env, operator: NotIn, values: [""]}]}}]}]}`, then: `
		Deny  test/web -> prod/db TCP/1
		Allow prod/web -> prod/db TCP/1
		Allow kube-system/dns -> prod/db TCP/1`},
	{says: "Exists and DoesNotExist", given: `
spec: {podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: {matchExpressions: [{key: app, operator: Exists}]}, namespaceSelector: {matchExpressions: [{key: env, operator: DoesNotExist}]}}]}]}`, then: `
		Allow kube-system/dns -> prod/db TCP/1
		Deny  prod/web -> prod/db TCP/1`},
	{says: "an empty selector is everything, requirements are and", given: `
spec: {podSelector: {}, ingress: [{from: [{namespaceSelector: {}, podSelector: {matchLabels: {app: web}, matchExpressions: [{key: nowhere, operator: DoesNotExist}]}}]}]}`, then: `
		Allow test/web -> prod/job TCP/1
		Deny  prod/api -> prod/job TCP/1
		Deny  world -> prod/job TCP/1`},
}

var icmp = []claim{
	{says: "an isolated endpoint gets echo only from peers allowed on all ports", given: `
spec: {podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}, {from: [{podSelector: {matchLabels: {app: api}}}], ports: [{}, {protocol: UDP}, {protocol: SCTP}]}]}`, then: `
		Allow prod/web -> prod/db ping
		Deny  prod/api -> prod/db ping
		Deny  prod/job -> prod/db ping`},
	{says: "and sends echo only to such peers", given: `
spec: {podSelector: {matchLabels: {app: db}}, policyTypes: [Egress], egress: [{to: [{podSelector: {matchLabels: {app: web}}}]}, {ports: [{port: 1, endPort: 65535}]}]}`, then: `
		Allow prod/db -> prod/web ping
		Deny  prod/db -> prod/api ping
		Deny  prod/db -> world ping`},
	{says: "one that is not isolated gets it from all", then: `
		Allow world -> prod/db ping`},
	{says: "neighbour discovery passes on the link, and is judged as any other packet elsewhere", change: denyByDefault, given: denyAll, then: `
		Allow fd00:2:0:1::1 -> fd00:2:0:1::3 nd
		Allow fd00:1::1 -> fd00:2:0:1::3 nd
		Allow fd00:2:0:1::3 -> fd00:1::1 nd
		Allow fd00:2:0:1::99 -> fd00:1::1 nd
		Deny  fd00:2:0:1::1 -> fd00:2:0:1::3 nd/64
		Deny  fd00:2:0:1::1 -> world nd/254
		Deny  world -> fd00:2:0:1::3 nd/254
		Deny  fd00:2:0:1::3 -> fd00:1::1 nd/1
		Deny  fd00:2:0:1::3 -> fd00:1::1 nd-code
		Deny  fd00:2:0:1::1 -> fd00:2:0:1::3 nd-code
		Deny  fd00:2:0:1::1 -> fd00:2:0:1::3 ping`},
}

const readers = `
spec: {podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: {matchLabels: {app: api}}}]}]}
---
kind: ClusterNetworkPolicy
metadata: {name: last}
spec: {tier: Admin, priority: 9, subject: {namespaces: {matchLabels: {kubernetes.io/metadata.name: test}}}, ingress: [{action: Deny, from: [{namespaces: {}}]}]}
---
kind: ClusterNetworkPolicy
metadata: {name: first}
spec: {tier: Admin, priority: 1, subject: {namespaces: {}}, `

var cnp = []claim{
	{says: "Accept is final", given: readers + `ingress: [{action: Accept, from: [{namespaces: {}}]}]}`, then: `
		Allow prod/web -> prod/db TCP/5432
		Allow prod/web -> test/web TCP/80
		Deny  world -> prod/db TCP/5432`},
	{says: "Deny is final", given: readers + `ingress: [{action: Deny, from: [{namespaces: {}}]}]}`, then: `
		Deny  prod/api -> prod/db TCP/5432
		Deny  prod/web -> prod/api TCP/8080
		Allow world -> prod/api TCP/8080`},
	{says: "Pass leaves it to the next tier, past the rest of its own", given: readers + `ingress: [{action: Pass, from: [{namespaces: {}}]}]}`, then: `
		Allow prod/api -> prod/db TCP/5432
		Deny  prod/web -> prod/db TCP/5432
		Allow prod/web -> test/web TCP/80`},
	{says: "Pass in Baseline leaves it to the default action", change: denyByDefault, given: `
kind: ClusterNetworkPolicy
metadata: {name: a}
spec: {tier: Baseline, priority: 1, subject: {namespaces: {}}, egress: [{action: Pass, to: [{namespaces: {}}]}]}
---
kind: ClusterNetworkPolicy
metadata: {name: b}
spec: {tier: Baseline, priority: 2, subject: {namespaces: {}}, egress: [{action: Accept, to: [{networks: [0.0.0.0/0, "::/0"]}]}]}`, then: `
		Deny  prod/web -> kube-system/dns UDP/53
		Allow prod/web -> world TCP/443`},
	{says: "the rules of a policy in their order", given: `
kind: ClusterNetworkPolicy
spec: {tier: Admin, priority: 1, subject: {namespaces: {}}, ingress: [{action: Accept, from: [{pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: web}}}}]}, {action: Deny, from: [{namespaces: {}}]}]}`, then: `
		Allow prod/web -> prod/db TCP/5432
		Deny  prod/api -> prod/db TCP/5432`},
	{says: "an unknown peer: Accept matches nothing", given: denyAll + `
---
kind: ClusterNetworkPolicy
spec: {tier: Admin, priority: 1, subject: {namespaces: {}}, ingress: [{action: Accept, from: [{}, {namespaces: {}}]}], egress: [{action: Accept, to: [{}, {namespaces: {}}]}]}`, then: `
		Deny  prod/web -> prod/db TCP/5432
		Allow world -> test/web TCP/80`},
	{says: "an unknown peer: Deny denies all", given: `
kind: ClusterNetworkPolicy
spec: {tier: Admin, priority: 1, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{}], protocols: [{tcp: {destinationPort: {number: 80}}}]}]}`, then: `
		Deny  prod/web -> prod/db TCP/5432
		Deny  world -> prod/db UDP/1
		Allow prod/web -> world TCP/80`},
	{says: "an unknown peer: Pass denies all", given: `
kind: ClusterNetworkPolicy
spec: {tier: Admin, priority: 1, subject: {namespaces: {}}, egress: [{action: Pass, to: [{namespaces: {}}, {}]}]}`, then: `
		Deny  prod/web -> prod/db TCP/5432
		Deny  prod/web -> world TCP/80
		Deny  prod/web -> n2 ping
		Allow world -> prod/web TCP/80`},
	{says: "subject excludes host-network pods", given: `
kind: ClusterNetworkPolicy
spec: {tier: Admin, priority: 1, subject: {pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: agent}}}}, ingress: [{action: Deny, from: [{namespaces: {}}]}], egress: [{action: Deny, to: [{networks: [0.0.0.0/0, "::/0"]}]}]}`, then: `
		Allow n1 -> world TCP/443
		Allow prod/web -> n1 TCP/80
		Allow n1 -> prod/api TCP/80`},
}

var sctpAndUDP = []claim{
	{says: "a rule for one protocol never opens another", given: `
spec: {podSelector: {}, ingress: [{ports: [{port: 80, protocol: SCTP}, {port: 53, protocol: UDP}, {port: 22}]}]}`, then: `
		Allow prod/api -> prod/web SCTP/80
		Deny  prod/api -> prod/web TCP/80
		Deny  prod/api -> prod/web UDP/80
		Allow prod/api -> prod/web UDP/53
		Deny  prod/api -> prod/web SCTP/53
		Allow prod/api -> prod/web TCP/22
		Deny  prod/api -> prod/web UDP/22`},
	{says: "all ports of one protocol are not those of another", given: `
spec: {podSelector: {}, ingress: [{ports: [{protocol: SCTP}]}]}`, then: `
		Allow prod/api -> prod/web SCTP/1
		Deny  prod/api -> prod/web TCP/1
		Deny  prod/api -> prod/web UDP/1
		Deny  prod/api -> prod/web GRE`},
	{says: "an unsupported protocol still isolates", given: `
spec: {podSelector: {}, ingress: [{ports: [{port: 80, protocol: DCCP}]}]}`, then: `
		Deny world -> prod/web TCP/80
		Deny world -> prod/web UDP/80
		Deny world -> prod/web GRE`},
	{says: "a flow of a protocol that policies cannot name is isolated too", given: `
spec: {podSelector: {}, ingress: [{ports: [{port: 1, endPort: 65535}]}]}`, then: `
		Deny  world -> prod/web GRE
		Allow world -> test/web GRE`},
}

// What belongs to a flow that was allowed passes on every hop: answers, and errors that are
// related to it.
func TestWhatIsRelatedToAnAllowedFlowPasses(t *testing.T) {
	c := world()
	add(t, c, denyAll)
	j, err := newJudges(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, ends := range [][2]string{{"prod/db", "prod/web"}, {"prod/db", "prod/api"}, {"world", "prod/web"}, {"prod/web", "n1"}, {"n2", "prod/web"}} {
		for _, f := range flowsOf(t, ends[0], ends[1], "ping") {
			if len(path(c, f)) == 0 {
				t.Errorf("%+v meets no hook", f)
			}
			for _, h := range path(c, f) {
				k := h.packet(f)
				k.established = true
				for name, v := range j.decideAt(t, h, k) {
					if !v.accepted {
						t.Errorf("%+v is dropped in %s of %s by %s: %v", f, h.hook, h.node, name, v.trace)
					}
				}
			}
		}
	}
}

// decideAt is what each backend's rules do with a packet.
func (j *judges) decideAt(t *testing.T, h hop, k packet) map[string]answer {
	t.Helper()
	out := map[string]answer{}
	for name, rules := range j.nodes[h.node].rules {
		var err error
		if out[name], err = rules.judge(h.hook, k); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// Deny drops silently: nothing tells the sender.
func TestDenyDropsSilently(t *testing.T) {
	c := world()
	add(t, c, `
kind: ClusterNetworkPolicy
spec: {tier: Admin, priority: 1, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{namespaces: {}}]}], egress: [{action: Deny, to: [{nodes: {}}]}]}`)
	j, err := newJudges(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, ends := range [][2]string{{"prod/web", "prod/db"}, {"prod/api", "prod/db"}, {"prod/web", "n1"}} {
		for _, f := range flowsOf(t, ends[0], ends[1], "TCP/80") {
			for name, drop := range map[string]string{"iptables": "-j DROP", "nftables": "drop"} {
				dropped := slices.ContainsFunc(path(c, f), func(h hop) bool {
					v := j.decideAt(t, h, h.packet(f))[name]
					return !v.accepted && strings.HasSuffix(strings.TrimSpace(v.trace[len(v.trace)-1]), drop)
				})
				if !dropped {
					t.Errorf("%s to %s: no rule of %s drops %+v", ends[0], ends[1], name, f)
				}
			}
		}
	}
}

// A pod's traffic to its own node is judged in the INPUT hook, a node's to its own pods passes in OUTPUT.
func TestTrafficBetweenANodeAndItsPodsMeetsItsOwnHooks(t *testing.T) {
	c := world()
	for _, x := range []struct{ from, to, want string }{
		{"prod/web", "n1", "n1 INPUT"}, {"n1", "prod/web", "n1 OUTPUT"}, {"prod/web", "n2", "n1 FORWARD, n2 INPUT"},
		{"n2", "prod/web", "n2 OUTPUT, n1 FORWARD"}, {"prod/web", "prod/db", "n1 FORWARD"}, {"prod/web", "prod/api", "n1 FORWARD, n2 FORWARD"},
		{"world", "prod/web", "n1 FORWARD"}, {"prod/web", "world", "n1 FORWARD"}, {"n1", "n2", "n1 OUTPUT, n2 INPUT"},
		{"n1", "n1", "n1 OUTPUT, n1 INPUT"}, {"world", "n1", "n1 INPUT"}, {"prod/web", "prod/web", ""}, {"new", "prod/web", "n1 FORWARD"},
	} {
		for _, f := range flowsOf(t, x.from, x.to, "TCP/80") {
			var got []string
			for _, h := range path(c, f) {
				got = append(got, h.node+" "+h.hook)
			}
			if strings.Join(got, ", ") != x.want {
				t.Errorf("%s to %s meets %v, want %s", x.from, x.to, got, x.want)
			}
		}
	}
}
