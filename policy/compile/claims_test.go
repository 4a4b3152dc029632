package compile_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
)

// claimant is a pod in the namespace test that reports the addresses of a place, older than the owner.
func claimant(node, place string, labels map[string]string) *compile.Pod {
	p := &compile.Pod{Namespace: "test", Name: "claimant", UID: "0", Node: node, Labels: labels, Created: -1}
	p.Addrs = addrsAt(place)
	return p
}

// addrsAt are the addresses of a place, or those that are written.
func addrsAt(name string) []netip.Addr {
	if places[name] != "" {
		return place(name)
	}
	var out []netip.Addr
	for _, text := range strings.Fields(name) {
		out = append(out, netip.MustParseAddr(text))
	}
	return out
}

const onlyTestIsolated = `
metadata: {name: np, namespace: test}
spec: {podSelector: {matchLabels: {role: claimant}}, policyTypes: [Ingress, Egress]}`

const onlyTestOpen = `
metadata: {name: np, namespace: test}
spec: {podSelector: {matchLabels: {role: claimant}}, ingress: [{}], egress: [{}]}`

const prodIsolated = `
spec: {podSelector: {}, policyTypes: [Ingress, Egress]}`

// A pod's status gives it no address of another pod, whatever the default action, and whoever is older.
func TestAStatusTakesOverNoAddress(t *testing.T) {
	role := map[string]string{"role": "claimant"}
	stranger := func(node string) func(*compile.Snapshot) {
		return func(s *compile.Snapshot) { s.Pods = append(s.Pods, claimant(node, "prod/db", role)) }
	}
	atNode := func(s *compile.Snapshot) { s.Pods = append(s.Pods, claimant("n2", "n1", role)) }
	later := func(s *compile.Snapshot) {
		p := claimant("n1", "prod/db", role)
		p.Created = 1
		s.Pods = append(s.Pods, p)
	}
	whileTerminating := func(s *compile.Snapshot) {
		s.Pods[2].Terminating = true
		stranger("n2")(s)
	}
	bare := func(s *compile.Snapshot) {
		for _, n := range s.Nodes {
			n.PodCIDRs = nil
		}
		later(s)
	}
	rows := []row{
		{name: "under Allow the node's address is not closed", change: atNode, given: onlyTestIsolated, then: `
			Allow world -> n1 TCP/10250
			Allow n1 -> world TCP/443`},
		{name: "under Allow the node's address is not closed where no node has podCIDRs", change: func(s *compile.Snapshot) {
			bare(s)
			atNode(s)
		}, given: onlyTestIsolated, then: `
			Allow world -> n1 TCP/10250`},
	}
	for name, change := range map[string]func(*compile.Snapshot){
		"a pod of another node": stranger("n2"), "a pod of a node that does not exist": stranger("gone"), "a pod without a node": stranger(""),
		"a newer pod of the same node": later, "a pod of another node, of a terminating owner": whileTerminating,
		"a newer pod, where no node has podCIDRs": bare,
	} {
		rows = append(rows,
			row{name: "under Allow the owner stays isolated from " + name, change: change, given: prodIsolated + "\n---" + onlyTestOpen, then: `
				Deny world -> prod/db TCP/5432
				Deny prod/db -> world TCP/443`},
			row{name: "under Deny the owner is not cut off by " + name, change: func(s *compile.Snapshot) {
				denyByDefault(s)
				change(s)
			}, given: onlyTestIsolated + `
---
spec: {podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}], egress: [{}]}
---
spec: {podSelector: {matchLabels: {app: web}}, ingress: [{from: [{podSelector: {matchLabels: {app: db}}}]}], egress: [{}]}`, then: `
				Allow prod/web -> prod/db TCP/5432
				Allow prod/db -> prod/web TCP/80
				Deny  prod/api -> prod/db TCP/5432`})
	}
	checkRows(t, rows)
}

// An address outside of the networks of its pod's node closes, and opens nothing.
func TestForeignAddressesOnlyClose(t *testing.T) {
	const toClaimants = `
spec: {podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress, Egress], ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: test}}}]}], egress: [{to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: test}}}]}]}`
	const action = `
kind: ClusterNetworkPolicy
spec: {tier: Admin, priority: 0, subject: {pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: web}}}}, egress: [{action: %[1]s, to: [{pods: {namespaceSelector: {}, podSelector: {matchLabels: {role: claimant}}}}]}], ingress: [{action: %[1]s, from: [{pods: {namespaceSelector: {}, podSelector: {matchLabels: {role: claimant}}}}]}]}`
	named := func(s *compile.Snapshot) {
		s.Pods[len(s.Pods)-1].Ports = []compile.NamedPort{namedPort("http", policy.TCP, 8000)}
	}
	for _, node := range []string{"n1", "gone", ""} {
		foreign := func(s *compile.Snapshot) {
			s.Pods = append(s.Pods, claimant(node, "world", map[string]string{"role": "claimant"}))
		}
		checkRows(t, []row{
			{name: "no NetworkPolicy allows it " + node, change: foreign, given: toClaimants, then: `
				Deny  world -> prod/web TCP/80
				Deny  prod/web -> world TCP/443
				Allow test/web -> prod/web TCP/80`},
			{name: "no Accept is about it " + node, change: foreign, given: fmt.Sprintf(action, "Accept") + "\n---" + prodIsolated, then: `
				Deny world -> prod/web TCP/80
				Deny prod/web -> world TCP/443`},
			{name: "a Deny is about it " + node, change: foreign, given: fmt.Sprintf(action, "Deny"), then: `
				Deny  world -> prod/web TCP/80
				Deny  prod/web -> world TCP/443
				Allow prod/api -> prod/web TCP/80`},
			{name: "its named ports are not allowed " + node, change: func(s *compile.Snapshot) { foreign(s); named(s) }, given: `
spec: {podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: [{ports: [{port: http}]}]}`, then: `
				Deny  prod/web -> world TCP/8000
				Allow prod/web -> prod/api TCP/8080`},
			{name: "it is isolated as its pod is " + node, change: foreign, given: onlyTestIsolated, then: `
				Deny  prod/web -> world TCP/443
				Deny  world -> prod/web TCP/80
				Allow prod/api -> prod/web TCP/80`},
		})
	}
	for _, addrs := range []string{"127.0.0.1 ::1", "169.254.169.254 fe80::1", "224.0.0.1 ff02::1", "0.0.0.0 ::", "255.255.255.255"} {
		s := world()
		s.Pods = append(s.Pods, claimant("n1", addrs, nil))
		p, _ := compile.Compile(s, "")
		for _, e := range p.Endpoints {
			if e.Name == "claimant" {
				t.Errorf("a pod has %v", e.Addrs)
			}
		}
	}
}

// What a node reports of addresses within the networks of another node's pods opens none of them.
func TestANodeTakesOverNoAddressOfAnotherNode(t *testing.T) {
	hostile := func(place string) func(*compile.Snapshot) {
		return func(s *compile.Snapshot) {
			denyByDefault(s)
			s.Nodes[1].Addrs = append(s.Nodes[1].Addrs, addrsAt(place)...)
		}
	}
	const fromNodes = `
kind: ClusterNetworkPolicy
spec: {tier: Admin, priority: 0, subject: {namespaces: {}}, egress: [{action: Accept, to: [{nodes: {}}]}]}`
	checkRows(t, []row{
		{name: "of a pod", change: hostile("prod/db"), given: fromNodes, then: `
			Deny world -> prod/db TCP/5432
			Deny prod/web -> prod/db TCP/5432
			Deny prod/db -> prod/api TCP/80`},
		{name: "of a pod that is not known", change: hostile("new"), given: fromNodes, then: `
			Deny world -> new TCP/80
			Deny new -> prod/api TCP/80`},
		{name: "its bridge, in its own network, is its own", change: hostile("10.0.2.1 fd00:2:0:2::1"), given: fromNodes, then: `
			Allow 10.0.2.1 -> prod/api TCP/80`},
	})
}

func TestPodsThatAreNotKnownAreClosed(t *testing.T) {
	for name, addrs := range map[string]string{"an address outside": "203.0.113.9 2001:db8::9", "none": ""} {
		s := world()
		denyByDefault(s)
		s.Pods[2].Addrs = addrsAt(addrs)
		p, _ := compile.Compile(s, "n1")
		t.Run(name, func(t *testing.T) {
			expect(t, p, `
				Deny prod/db -> world TCP/443
				Deny world -> prod/db TCP/5432`)
		})
	}
}

// Who operates the cluster is told which pods report addresses that are not theirs.
func TestRejectedAddressesAreReported(t *testing.T) {
	s := world()
	e := compile.NewEngine("n1", s.Defaults)
	e.Commit(s.Update())
	if found, pods := e.AddressProblems(); len(found) > 0 || pods > 0 {
		t.Fatalf("reported of sound pods: %v", found)
	}
	for _, c := range []struct{ node, place, says string }{
		{"n1", "prod/api", "belongs to pod prod/api"}, {"n1", "n2", "is a node's address"}, {"n1", "world", "outside of the podCIDRs"},
		{"gone", "world", "outside of the podCIDRs"}, {"", "prod/db", "belongs to pod prod/db"}, {"n1", "127.0.0.1 ::1", "cannot be the address"},
		{"n2", "world", ""}, // its own agent reports it
	} {
		u := &compile.Update{}
		p := claimant(c.node, c.place, nil)
		u.Pods.Set(types.NamespacedName{Namespace: p.Namespace, Name: p.Name}, p)
		e.Commit(u)
		found, pods := e.AddressProblems()
		if want := map[bool]int{true: 2, false: 0}[c.says != ""]; len(found) != want || pods != want/2 || !e.AddressProblemsChanged() {
			t.Errorf("%v: reported of %d pods: %v", c, pods, found)
		}
		for _, p := range found {
			if p.ID.Object() != "Pod test/claimant" || !strings.Contains(p.Message, c.says) {
				t.Errorf("%v: reported: %v", c, p)
			}
		}
	}
	many := &compile.Update{}
	for i := range 300 {
		p := claimant("n1", "prod/api", nil)
		p.Name = fmt.Sprint("many-", i)
		many.Pods.Set(types.NamespacedName{Namespace: p.Namespace, Name: p.Name}, p)
	}
	e.Commit(many)
	if found, pods := e.AddressProblems(); len(found) != 100 || pods != 300 {
		t.Errorf("%d problems of %d pods", len(found), pods)
	}
}
