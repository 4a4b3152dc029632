package compile_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"
	"sigs.k8s.io/yaml"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/policy/eval"
)

// The world of the tests: a shop in prod, a copy of its front in test, DNS in kube-system,
// on two nodes, dual stack. The last byte of an address is its pod's number.
//
//	who         node  number  labels             named ports
//	prod/web    n1    1       app=web            http=TCP/80
//	prod/api    n2    2       app=api            http=TCP/8080
//	prod/db     n1    3       app=db             sql=TCP/5432 dns=UDP/53
//	prod/job    n2    4       (none)
//	test/web    n2    5       app=web            http=TCP/81
//	kube-system/dns n1 6      app=dns            dns=UDP/53 dns=TCP/53
//	prod/agent  n1    node's  app=agent          host network
var places = map[string]string{
	"n1": "192.168.0.1 fd00:1::1", "n2": "192.168.0.2 fd00:1::2",
	"world": "203.0.113.9 2001:db8::9", "new": "10.0.1.99 fd00:2:0:1::99",
	"prod/web": addrs(1, 1), "prod/api": addrs(2, 2), "prod/db": addrs(1, 3), "prod/job": addrs(2, 4),
	"test/web": addrs(2, 5), "kube-system/dns": addrs(1, 6),
}

func addrs(node, number int) string {
	return fmt.Sprintf("10.0.%d.%d fd00:2:0:%d::%d", node, number, node, number)
}

func place(name string) []netip.Addr {
	var out []netip.Addr
	for _, a := range strings.Fields(places[name]) {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

func pod(name string, labels map[string]string, ports ...compile.NamedPort) *compile.Pod {
	namespace, short, _ := strings.Cut(name, "/")
	p := &compile.Pod{Namespace: namespace, Name: short, Labels: labels, Addrs: place(name), Ports: ports, ServiceAccount: short}
	p.Node = fmt.Sprintf("n%d", p.Addrs[0].As4()[2])
	return p
}

func app(name string) map[string]string { return map[string]string{"app": name} }

func namedPort(name string, protocol policy.Protocol, port uint16) compile.NamedPort {
	return compile.NamedPort{Name: name, Protocol: protocol, Port: port}
}

func world() *compile.Snapshot {
	s := &compile.Snapshot{
		Pods: []*compile.Pod{
			pod("prod/web", app("web"), namedPort("http", policy.TCP, 80)),
			pod("prod/api", app("api"), namedPort("http", policy.TCP, 8080)),
			pod("prod/db", app("db"), namedPort("sql", policy.TCP, 5432), namedPort("dns", policy.UDP, 53)),
			pod("prod/job", nil),
			pod("test/web", app("web"), namedPort("http", policy.TCP, 81)),
			pod("kube-system/dns", app("dns"), namedPort("dns", policy.UDP, 53), namedPort("dns", policy.TCP, 53)),
			{Namespace: "prod", Name: "agent", Node: "n1", Labels: app("agent"), Addrs: place("n1"), HostNetwork: true},
		},
		Namespaces: []*compile.Namespace{
			{Name: "prod", Labels: map[string]string{"kubernetes.io/metadata.name": "prod", "env": "live"}},
			{Name: "test", Labels: map[string]string{"kubernetes.io/metadata.name": "test", "env": ""}},
			{Name: "kube-system", Labels: map[string]string{"kubernetes.io/metadata.name": "kube-system"}},
		},
		Defaults: policy.Defaults{Action: policy.Allow},
	}
	for i := 1; i <= 2; i++ {
		name := fmt.Sprintf("n%d", i)
		s.Nodes = append(s.Nodes, &compile.Node{Name: name, Labels: map[string]string{"pool": name}, Addrs: place(name), PodCIDRs: []netip.Prefix{
			netip.MustParsePrefix(fmt.Sprintf("10.0.%d.0/24", i)), netip.MustParsePrefix(fmt.Sprintf("fd00:2:0:%d::/64", i))}})
	}
	return s
}

// with adds the objects, written in YAML and parted by "---", to the snapshot.
func with(t testing.TB, s *compile.Snapshot, documents string) *compile.Snapshot {
	t.Helper()
	for i, text := range strings.Split(documents, "\n---\n") {
		if strings.TrimSpace(text) == "" {
			continue
		}
		var meta metav1.TypeMeta
		must(t, yaml.Unmarshal([]byte(text), &meta))
		switch meta.Kind {
		case "", "NetworkPolicy":
			np := &networkingv1.NetworkPolicy{}
			must(t, yaml.UnmarshalStrict([]byte(text), np))
			np.Namespace, np.Name = orElse(np.Namespace, "prod"), orElse(np.Name, fmt.Sprint("np-", i))
			s.NetworkPolicies = append(s.NetworkPolicies, np)
		case "ClusterNetworkPolicy":
			cnp := &policyv1alpha2.ClusterNetworkPolicy{}
			must(t, yaml.UnmarshalStrict([]byte(text), cnp))
			cnp.Name = orElse(cnp.Name, fmt.Sprint("cnp-", i))
			s.ClusterNetworkPolicies = append(s.ClusterNetworkPolicies, cnp)
		case "TierRole":
			tr := &v1alpha1.TierRole{}
			must(t, yaml.UnmarshalStrict([]byte(text), tr))
			s.TierRoles = append(s.TierRoles, tr)
		default:
			t.Fatalf("kind %q", meta.Kind)
		}
	}
	return s
}

func orElse(s, standard string) string {
	if s == "" {
		return standard
	}
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// expect checks lines such as "Allow prod/web -> prod/db TCP/5432", in both IP families.
func expect(t testing.TB, p *policy.Program, lines string) {
	t.Helper()
	e := eval.New(p)
	for line := range strings.Lines(lines) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		want, flows := parseProbe(t, line)
		for _, f := range flows {
			got := e.Decide(f)
			if got.Verdict.String() != want {
				t.Errorf("%s: %s: egress %+v, ingress %+v", line, got.Verdict, got.Egress, got.Ingress)
			}
		}
	}
}

func parseProbe(t testing.TB, line string) (want string, flows []policy.Flow) {
	t.Helper()
	var from, to, what string
	if n, err := fmt.Sscanf(line, "%s %s -> %s %s", &want, &from, &to, &what); n != 4 || err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	src, dst := at(from), at(to)
	for _, a := range src {
		for _, b := range dst {
			if a.BitLen() == b.BitLen() {
				f := policy.Flow{Source: a, Destination: b}
				f.Protocol, f.DestinationPort = parseService(t, what, a)
				flows = append(flows, f)
			}
		}
	}
	if len(flows) == 0 {
		t.Fatalf("%q: no such flow", line)
	}
	return want, flows
}

// at are the addresses of a place, or the address itself.
func at(name string) []netip.Addr {
	if a, err := netip.ParseAddr(name); err == nil {
		return []netip.Addr{a}
	}
	return place(name)
}

func parseService(t testing.TB, what string, a netip.Addr) (policy.Protocol, uint16) {
	t.Helper()
	name, number, _ := strings.Cut(what, "/")
	switch name {
	case "ping":
		if a.Is6() {
			return policy.ICMPv6, 0
		}
		return policy.ICMP, 0
	case "GRE":
		return 47, 0
	}
	var port uint16
	if _, err := fmt.Sscan(number, &port); err != nil {
		t.Fatalf("%q: %v", what, err)
	}
	for _, p := range []policy.Protocol{policy.TCP, policy.UDP, policy.SCTP} {
		if p.String() == name {
			return p, port
		}
	}
	t.Fatalf("protocol %q", name)
	return 0, 0
}
