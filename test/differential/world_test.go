package differential

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"
	"sigs.k8s.io/yaml"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/test/oracle"
)

// places are the addresses of the world of these tests: a shop in prod, a copy of its front in
// test, and DNS in kube-system, on two nodes, dual stack. "new" is a pod on n1 that nobody knows.
//
//	who             node  labels     named ports
//	prod/web        n1    app=web    http=TCP/80
//	prod/api        n2    app=api    http=TCP/8080, metrics=TCP/9090 of a sidecar
//	prod/db         n1    app=db     sql=TCP/5432 sql=UDP/5432
//	prod/job        n2    (none)
//	test/web        n2    app=web    http=TCP/81
//	kube-system/dns n1    app=dns    dns=UDP/53 dns=TCP/53
//	prod/agent      n1    app=agent  host network: the node's addresses
var places = map[string]string{
	"n1": "192.168.0.1 fd00:1::1", "n2": "192.168.0.2 fd00:1::2",
	"prod/web": "10.0.1.1 fd00:2:0:1::1", "prod/api": "10.0.2.2 fd00:2:0:2::2", "prod/db": "10.0.1.3 fd00:2:0:1::3",
	"prod/job": "10.0.2.4 fd00:2:0:2::4", "test/web": "10.0.2.5 fd00:2:0:2::5", "kube-system/dns": "10.0.1.6 fd00:2:0:1::6",
	"new": "10.0.1.99 fd00:2:0:1::99", "world": "203.0.113.9 2001:db8::9",
}

func at(name string) []netip.Addr {
	var out []netip.Addr
	for _, text := range strings.Fields(places[name]) {
		out = append(out, netip.MustParseAddr(text))
	}
	if len(out) == 0 {
		out = append(out, netip.MustParseAddr(name))
	}
	return out
}

// world is its objects; the default action allows.
func world() *oracle.Cluster {
	c := &oracle.Cluster{Defaults: policy.Defaults{Action: policy.Allow}}
	for name, env := range map[string]string{"prod": "live", "test": "", "kube-system": "-"} {
		n := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelMetadataName: name}}}
		if env != "-" {
			n.Labels["env"] = env
		}
		c.Namespaces = append(c.Namespaces, n)
	}
	for i, name := range []string{"n1", "n2"} {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"pool": name}}}
		n.Spec.PodCIDRs = []string{fmt.Sprintf("10.0.%d.0/24", i+1), fmt.Sprintf("fd00:2:0:%d::/64", i+1)}
		for _, a := range at(name) {
			n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a.String()})
		}
		c.Nodes = append(c.Nodes, n)
	}
	api := newPod("prod/api", "n2", "web", "http=TCP/8080")
	api.Labels["app"] = "api"
	always := corev1.ContainerRestartPolicyAlways
	api.Spec.InitContainers = []corev1.Container{{Name: "proxy", RestartPolicy: &always, Ports: []corev1.ContainerPort{{Name: "metrics", ContainerPort: 9090}}}}
	job := newPod("prod/job", "n2", "")
	agent := newPod("prod/agent", "n1", "agent")
	agent.Spec.HostNetwork = true
	occupy(agent, "n1")
	c.Pods = []*corev1.Pod{
		newPod("prod/web", "n1", "web", "http=TCP/80"), api, newPod("prod/db", "n1", "db", "sql=TCP/5432", "sql=UDP/5432"), job,
		newPod("test/web", "n2", "web", "http=TCP/81"), newPod("kube-system/dns", "n1", "dns", "dns=UDP/53", "dns=TCP/53"), agent,
	}
	return c
}

// newPod is a pod that runs, with its addresses, a label app unless that is empty, and ports such as http=TCP/80.
func newPod(key, node, app string, ports ...string) *corev1.Pod {
	namespace, name, _ := strings.Cut(key, "/")
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID(key), CreationTimestamp: metav1.Unix(1, 0)}}
	if app != "" {
		p.Labels = map[string]string{"app": app}
	}
	p.Spec.NodeName, p.Status.Phase = node, corev1.PodRunning
	var main corev1.Container
	for _, text := range ports {
		port := corev1.ContainerPort{}
		name, service, _ := strings.Cut(text, "=")
		protocol, number, _ := strings.Cut(service, "/")
		port.Name, port.Protocol = name, corev1.Protocol(protocol)
		_, _ = fmt.Sscan(number, &port.ContainerPort)
		main.Ports = append(main.Ports, port)
	}
	p.Spec.Containers = []corev1.Container{main}
	if places[key] != "" {
		occupy(p, key)
	}
	return p
}

// occupy gives a pod the addresses of a place.
func occupy(p *corev1.Pod, place string) {
	p.Status.PodIPs = nil
	for _, a := range at(place) {
		p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: a.String()})
	}
	p.Status.PodIP = p.Status.PodIPs[0].IP
}

// podOf is the pod with the key.
func podOf(c *oracle.Cluster, key string) *corev1.Pod {
	for _, p := range c.Pods {
		if p.Namespace+"/"+p.Name == key {
			return p
		}
	}
	panic("no pod " + key)
}

// add adds policies and roles, written in YAML and parted by "---". NetworkPolicies are in
// prod unless they say otherwise.
func add(t *testing.T, c *oracle.Cluster, documents string) {
	t.Helper()
	for i, text := range strings.Split(documents, "\n---\n") {
		if strings.TrimSpace(text) == "" {
			continue
		}
		var kind metav1.TypeMeta
		decode(t, text, &kind, yaml.Unmarshal)
		switch kind.Kind {
		case "ClusterNetworkPolicy":
			cnp := &policyv1alpha2.ClusterNetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("cnp-", i)}}
			decode(t, text, cnp, yaml.UnmarshalStrict)
			c.ClusterNetworkPolicies = append(c.ClusterNetworkPolicies, cnp)
		case "TierRole":
			tr := &v1alpha1.TierRole{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("role-", i)}}
			decode(t, text, tr, yaml.UnmarshalStrict)
			c.TierRoles = append(c.TierRoles, tr)
		default:
			np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: fmt.Sprint("np-", i)}}
			decode(t, text, np, yaml.UnmarshalStrict)
			c.NetworkPolicies = append(c.NetworkPolicies, np)
		}
	}
}

func decode(t *testing.T, text string, into any, unmarshal func([]byte, any, ...yaml.JSONOpt) error) {
	t.Helper()
	if err := unmarshal([]byte(text), into); err != nil {
		t.Fatalf("%v:\n%s", err, text)
	}
}

// expect checks lines such as "Allow prod/web -> prod/db TCP/5432", in both IP families and
// with all judges. With "=>" a pod reaches itself by way of a Service. What passes and is
// reported is "Audit", by its side if that is one, such as "Audit:egress".
func expect(t *testing.T, c *oracle.Cluster, lines string) {
	t.Helper()
	j, err := newJudges(c)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(lines) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		for _, f := range flowsOf(t, words[1], words[3], words[4]) {
			o, disagreement := j.judge(f)
			if disagreement != "" {
				t.Errorf("%s: %s", strings.TrimSpace(line), disagreement)
			}
			verdict, audited := o.decision.Verdict, directionsOf(o.decision)
			if words[2] == "=>" {
				verdict, audited = oracle.ToItself(c, f)
			}
			if got := outcome(verdict, audited); got != words[0] {
				t.Errorf("%s: %s, egress %+v, ingress %+v", strings.TrimSpace(line), got, o.egress, o.ingress)
			}
		}
	}
}

// outcome is what becomes of a flow, in one word.
func outcome(v policy.Verdict, audited []policy.Direction) string {
	switch {
	case v != policy.Allow || len(audited) == 0:
		return v.String()
	case len(audited) == 1:
		return "Audit:" + audited[0].String()
	default:
		return "Audit"
	}
}

// flowsOf are the flows from one place to another, one of each IP family that both have.
func flowsOf(t *testing.T, from, to, what string) []policy.Flow {
	t.Helper()
	var out []policy.Flow
	for _, a := range at(from) {
		for _, b := range at(to) {
			if a.Is4() == b.Is4() {
				out = append(out, flowOf(t, a, b, what))
			}
		}
	}
	if len(out) == 0 {
		t.Fatalf("no flow leads from %s to %s", from, to)
	}
	return out
}

// flowOf is a flow such as TCP/80, GRE, ping (an echo request) or nd (a neighbour
// solicitation); nd/64 has been forwarded, and nd-code has a code other than 0.
func flowOf(t *testing.T, from, to netip.Addr, what string) policy.Flow {
	t.Helper()
	f := policy.Flow{Source: from, Destination: to, Protocol: policy.ICMP}
	if from.Is6() {
		f.Protocol = policy.ICMPv6
	}
	name, number, _ := strings.Cut(what, "/")
	switch name {
	case "ping":
		return f
	case "nd":
		f.ICMPType, f.HopLimit = 135, 255
		if number != "" {
			_, _ = fmt.Sscan(number, &f.HopLimit)
		}
		return f
	case "nd-code":
		f.ICMPType, f.ICMPCode, f.HopLimit = 136, 1, 255
		return f
	case "GRE":
		f.Protocol = 47
		return f
	}
	for _, p := range []policy.Protocol{policy.TCP, policy.UDP, policy.SCTP} {
		if p.String() == name {
			f.Protocol = p
		}
	}
	if n, err := fmt.Sscan(number, &f.DestinationPort); n != 1 || err != nil || !f.Protocol.HasPorts() {
		t.Fatalf("no flow %q", what)
	}
	return f
}
