package differential

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/test/generate"
	"github.com/tierwall/tierwall/test/oracle"
)

// FuzzObjects puts anything into one place of a random cluster's objects: a pod's address, a
// namespace's label, an operator of a selector, a port. All judges must still agree.
func FuzzObjects(f *testing.F) {
	for i, text := range []string{
		`null`, `""`, `[]`, `{}`, `-1`, `65536`, `"Gt"`, `"10.0.0.0/33"`, `"::ffff:10.0.0.1"`, `"fe80::1%eth0"`, `"010.0.0.1"`,
		`{"matchExpressions":[{"key":"app","operator":"NotIn"}]}`, `{"podSelector":{},"ipBlock":{"cidr":"0.0.0.0/0"}}`,
		`{"domainNames":["example.org"]}`, `"Failed"`, `"http"`, `"prod"`, `"kubernetes.io/metadata.name"`, `[{},{}]`, `"\u0000\n\""`,
	} {
		for place := range uint64(6) {
			f.Add(uint64(i), place*37+uint64(i), text)
		}
	}
	f.Fuzz(func(t *testing.T, seed, place uint64, text string) {
		c := newTrial(seed%1000, generate.Small, 40)
		if !c.put(t, place, text) || !c.asServed() {
			return
		}
		if disagreement := c.run(func(policy.Flow, opinion) {}); disagreement != "" {
			t.Errorf("%s at %d of cluster %d: %s", text, place, seed%1000, disagreement)
		}
	})
}

// put replaces what is at a place of the cluster's objects, counted over all of them. It is
// false if an API server could not even decode that.
func (c *trial) put(t *testing.T, place uint64, text string) bool {
	var tree any
	whole, err := json.Marshal(c.Cluster)
	if err == nil {
		err = json.Unmarshal(whole, &tree)
	}
	if err != nil {
		t.Fatal(err)
	}
	var value any
	if json.Unmarshal([]byte(text), &value) != nil {
		value = text
	}
	places := placesIn(tree)
	places[place%uint64(len(places))](value)
	if whole, err = json.Marshal(tree); err != nil {
		t.Fatal(err)
	}
	c.Cluster = &oracle.Cluster{Defaults: c.Cluster.Defaults}
	return json.Unmarshal(whole, c.Cluster) == nil
}

// placesIn are the places of a JSON value, each as what puts another value there.
func placesIn(tree any) []func(any) {
	var out []func(any)
	switch v := tree.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			if key != "Defaults" {
				out = append(append(out, func(value any) { v[key] = value }), placesIn(v[key])...)
			}
		}
	case []any:
		for i := range v {
			out = append(append(out, func(value any) { v[i] = value }), placesIn(v[i])...)
		}
	}
	return out
}

// asServed reports whether the objects can be what the API server serves, whoever wrote
// them: none is nothing, no two of a kind have one name, namespaces are labelled by
// their names, and pods run on nodes that are there.
func (c *trial) asServed() bool {
	o := c.Cluster
	for _, n := range o.Namespaces {
		if n == nil || n.Labels[corev1.LabelMetadataName] != n.Name {
			return false
		}
	}
	return distinct(o.Pods) && distinct(o.Namespaces) && distinct(o.Nodes) && distinct(o.NetworkPolicies) &&
		distinct(o.ClusterNetworkPolicies) && distinct(o.TierRoles) && c.possible()
}

func distinct[O interface {
	comparable
	metav1.Object
}](objects []O) bool {
	names := map[string]bool{}
	var none O
	for _, o := range objects {
		if o == none || names[o.GetNamespace()+"/"+o.GetName()] {
			return false
		}
		names[o.GetNamespace()+"/"+o.GetName()] = true
	}
	return true
}

// twoPods are a cluster of two nodes with a pod on each.
func twoPods() *oracle.Cluster {
	c := &oracle.Cluster{Defaults: policy.Defaults{Action: policy.Allow}}
	for i, name := range []string{"a", "b"} {
		c.Nodes = append(c.Nodes, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.NodeSpec{PodCIDR: fmt.Sprintf("10.0.%d.0/24", i)}})
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: name, UID: types.UID(name)}, Spec: corev1.PodSpec{NodeName: name}}
		pod.Status.PodIPs = []corev1.PodIP{{IP: fmt.Sprintf("10.0.%d.2", i)}, {IP: fmt.Sprintf("fd00:%d::2", i)}}
		pod.Spec.Containers = []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 80}, {Name: "dns", Protocol: "UDP", ContainerPort: 53}}}}
		c.Pods = append(c.Pods, pod)
	}
	return c
}

// agree fails where the judges do not agree on the flows.
func agree(t *testing.T, c *oracle.Cluster, flows []policy.Flow) {
	t.Helper()
	if disagreement := (&trial{c, flows}).run(func(policy.Flow, opinion) {}); disagreement != "" {
		t.Error(disagreement)
	}
}

// FuzzPorts makes a port of a NetworkPolicy and one of a ClusterNetworkPolicy of whatever
// numbers and names.
func FuzzPorts(f *testing.F) {
	f.Add("TCP", "http", int32(0), int32(0), true, false)
	f.Add("TCP", "", int32(80), int32(80), false, true)
	f.Add("SCTP", "", int32(1), int32(65535), false, true)
	f.Add("UDP", "", int32(65535), int32(65536), false, true)
	f.Add("tcp", "", int32(-1), int32(-1), false, false)
	f.Add("", "80", int32(80), int32(79), true, true)
	f.Add("ICMP", "UPPER", int32(65616), int32(0), false, false)
	f.Fuzz(func(t *testing.T, protocol, name string, first, last int32, named, ranged bool) {
		port := networkingv1.NetworkPolicyPort{}
		if protocol != "" {
			p := corev1.Protocol(protocol)
			port.Protocol = &p
		}
		number := intstr.FromInt32(first)
		if named {
			number = intstr.FromString(name)
		}
		if port.Port = &number; ranged {
			port.EndPort = &last
		}
		np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: "np"}}
		np.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{Ports: []networkingv1.NetworkPolicyPort{port}}}
		np.Spec.Egress = []networkingv1.NetworkPolicyEgressRule{{Ports: []networkingv1.NetworkPolicyPort{port}}}
		flows := flowsTo(first, last)
		namespaced := twoPods()
		namespaced.NetworkPolicies = []*networkingv1.NetworkPolicy{np}
		agree(t, namespaced, flows)

		for _, action := range []policyv1alpha2.ClusterNetworkPolicyRuleAction{"Accept", "Deny", "Pass"} {
			cluster := twoPods()
			cluster.Defaults.Action = policy.Deny
			cluster.ClusterNetworkPolicies = []*policyv1alpha2.ClusterNetworkPolicy{clusterPolicyOf(action, clusterPort(protocol, name, first, last, named, ranged))}
			agree(t, cluster, flows)
		}
	})
}

func clusterPort(protocol, name string, first, last int32, named, ranged bool) policyv1alpha2.ClusterNetworkPolicyProtocol {
	var out policyv1alpha2.ClusterNetworkPolicyProtocol
	if named {
		out.DestinationNamedPort = name
	}
	port := &policyv1alpha2.Port{Number: first}
	if ranged {
		port = &policyv1alpha2.Port{Range: &policyv1alpha2.PortRange{Start: first, End: last}}
	}
	switch protocol {
	case "TCP":
		out.TCP = &policyv1alpha2.ClusterNetworkPolicyProtocolTCP{DestinationPort: port}
	case "UDP":
		out.UDP = &policyv1alpha2.ClusterNetworkPolicyProtocolUDP{DestinationPort: port}
	case "SCTP":
		out.SCTP = &policyv1alpha2.ClusterNetworkPolicyProtocolSCTP{DestinationPort: port}
	}
	return out
}

// clusterPolicyOf accepts, denies or passes on all flows between pods of the protocol, both ways.
func clusterPolicyOf(action policyv1alpha2.ClusterNetworkPolicyRuleAction, p policyv1alpha2.ClusterNetworkPolicyProtocol) *policyv1alpha2.ClusterNetworkPolicy {
	all := &metav1.LabelSelector{}
	cnp := &policyv1alpha2.ClusterNetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: "cnp"}}
	cnp.Spec.Tier, cnp.Spec.Subject.Namespaces = "Admin", all
	cnp.Spec.Ingress = []policyv1alpha2.ClusterNetworkPolicyIngressRule{{Action: action,
		From: []policyv1alpha2.ClusterNetworkPolicyIngressPeer{{Namespaces: all}}, Protocols: []policyv1alpha2.ClusterNetworkPolicyProtocol{p}}}
	cnp.Spec.Egress = []policyv1alpha2.ClusterNetworkPolicyEgressRule{{Action: action,
		To: []policyv1alpha2.ClusterNetworkPolicyEgressPeer{{Namespaces: all}}, Protocols: []policyv1alpha2.ClusterNetworkPolicyProtocol{p}}}
	return cnp
}

// flowsTo are flows between the two pods to ports at and beside the numbers, also where these
// do not fit in 16 bits, in every protocol.
func flowsTo(numbers ...int32) []policy.Flow {
	var out []policy.Flow
	for _, n := range append(numbers, 1, 53, 80, policy.MaxPort) {
		for _, port := range []uint16{uint16(n - 1), uint16(n), uint16(n + 1)} {
			for _, protocol := range []policy.Protocol{policy.TCP, policy.UDP, policy.SCTP, policy.ICMP} {
				f := policy.Flow{Source: netip.MustParseAddr("10.0.0.2"), Destination: netip.MustParseAddr("10.0.1.2"), Protocol: protocol}
				if protocol.HasPorts() {
					f.DestinationPort = max(port, 1)
				}
				out = append(out, f)
			}
		}
	}
	return out
}

// FuzzNetworks makes an ipBlock and a list of networks of whatever texts. A block whose texts
// cannot all be read must hold nothing.
func FuzzNetworks(f *testing.F) {
	for _, s := range [][3]string{
		{"10.0.0.0/8", "10.0.1.0/24", "10.0.1.2/32"}, {"0.0.0.0/0", "10.0.0.2/31", ""}, {"::/0", "fd00::/8", "fd00:1::2/128"},
		{"10.0.0.0/8", "10.0.0.0/8", ""}, {"10.0.0.0/8", "10.0.0.0/4", ""}, {"010.0.0.0/8", "", ""}, {"::ffff:10.0.0.0/104", "", ""},
		{"fe80::%eth0/64", "", ""}, {"10.0.0.2", "", ""}, {"10.0.0.0/08", "", ""}, {" 10.0.0.0/8", "", ""}, {"10.0.0.0/-1", "", ""},
	} {
		f.Add(s[0], s[1], s[2])
	}
	f.Fuzz(func(t *testing.T, cidr, except, other string) {
		block := &networkingv1.IPBlock{CIDR: cidr}
		for _, text := range []string{except, other} {
			if text != "" {
				block.Except = append(block.Except, text)
			}
		}
		c := twoPods()
		np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: "np"}}
		np.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{From: []networkingv1.NetworkPolicyPeer{{IPBlock: block}}}}
		c.NetworkPolicies = []*networkingv1.NetworkPolicy{np}
		cnp := clusterPolicyOf("Deny", policyv1alpha2.ClusterNetworkPolicyProtocol{TCP: &policyv1alpha2.ClusterNetworkPolicyProtocolTCP{DestinationPort: &policyv1alpha2.Port{Number: 80}}})
		cnp.Spec.Ingress, cnp.Spec.Egress[0].To = nil, []policyv1alpha2.ClusterNetworkPolicyEgressPeer{{Networks: []policyv1alpha2.CIDR{policyv1alpha2.CIDR(cidr), policyv1alpha2.CIDR(other)}}}
		c.ClusterNetworkPolicies = []*policyv1alpha2.ClusterNetworkPolicy{cnp}
		agree(t, c, flowsAround(cidr, except, other))
	})
}

// flowsAround are flows to the second pod from, and of the first pod to, addresses in and
// beside the networks.
func flowsAround(texts ...string) []policy.Flow {
	pods := [2][2]netip.Addr{
		{netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("fd00::2")},
		{netip.MustParseAddr("10.0.1.2"), netip.MustParseAddr("fd00:1::2")},
	}
	all := []netip.Addr{pods[0][0], pods[0][1], netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("2001:db8::1")}
	for _, text := range texts {
		if p, err := netip.ParsePrefix(text); err == nil && !p.Addr().Is4In6() && p.Addr().Zone() == "" {
			first := p.Masked().Addr()
			all = append(all, first, first.Prev(), p.Addr().Next())
		}
	}
	var out []policy.Flow
	for _, a := range all {
		if !a.IsValid() {
			continue
		}
		family := 0
		if a.Is6() {
			family = 1
		}
		out = append(out,
			policy.Flow{Source: a, Destination: pods[1][family], Protocol: policy.TCP, DestinationPort: 80},
			policy.Flow{Source: pods[0][family], Destination: a, Protocol: policy.TCP, DestinationPort: 80})
	}
	return out
}
