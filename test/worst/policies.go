package main

import (
	"encoding/json"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"
)

// Policies are what a recipe makes, up to a size.
type Policies struct {
	Namespaced []*networkingv1.NetworkPolicy
	Cluster    []*policyv1alpha2.ClusterNetworkPolicy
	// Bytes is their size as JSON.
	Bytes int
}

const (
	// perObject is the API server's limit for an object (etcd's --max-request-bytes).
	perObject = 1_500_000
	// inList is the number of rules, peers and protocols of a ClusterNetworkPolicy (its CRD).
	inList = 25
)

// make makes policies until they have so many bytes. A policy that is too large has fewer peers and ports.
func (r Recipe) make(limit int) Policies {
	var out Policies
	for i, p := range r.Parts {
		share := limit * (i + 1) / len(r.Parts)
		for n := range p.Policies {
			if !out.add(p, fmt.Sprintf("part-%d-%d", i, n), n, share) {
				break
			}
		}
	}
	return out
}

// add adds a policy, and reports whether there was room.
func (o *Policies) add(p Part, name string, n, limit int) bool {
	for p = p.fit(min(limit-o.Bytes, perObject)); ; p = p.smaller() {
		var object any
		np, cnp := (*networkingv1.NetworkPolicy)(nil), (*policyv1alpha2.ClusterNetworkPolicy)(nil)
		if p.Cluster {
			cnp = p.clusterPolicy(name, n)
			object = cnp
		} else {
			np = p.policy(name, n)
			object = np
		}
		text, err := json.Marshal(object)
		switch {
		case err != nil:
			return false
		case len(text) <= perObject && o.Bytes+len(text) <= limit:
			o.Bytes += len(text)
			if p.Cluster {
				o.Cluster = append(o.Cluster, cnp)
			} else {
				o.Namespaced = append(o.Namespaced, np)
			}
			return true
		case n > 0 || p.smallest():
			return false
		}
	}
}

// fit is the part with no more rules, peers and ports than may have room, so that nothing is made in vain.
func (p Part) fit(room int) Part {
	const perEntry, perExcept = 25, 14 // bytes of JSON, at least
	for !p.smallest() && p.Rules*(p.Peers*(perEntry+p.Excepts*perExcept)+p.Ports*perEntry) > room {
		p = p.smaller()
	}
	return p
}

func (p Part) smallest() bool { return p.Rules*p.Peers*p.Ports == 1 && p.Excepts == 0 }

// smaller has fewer of everything.
func (p Part) smaller() Part {
	p.Rules, p.Peers, p.Ports, p.Excepts = max(1, p.Rules*3/4), max(1, p.Peers*3/4), max(1, p.Ports*3/4), p.Excepts*3/4
	return p
}

// subject are the labels of the pods that a policy selects.
func (p Part) subject(n int) metav1.LabelSelector {
	if p.Subjects == 0 {
		return metav1.LabelSelector{}
	}
	return metav1.LabelSelector{MatchLabels: map[string]string{"app": fmt.Sprint("app-", n%p.Subjects)}}
}

func (p Part) policy(name string, n int) *networkingv1.NetworkPolicy {
	np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: tenant, Name: name}}
	np.TypeMeta = metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "NetworkPolicy"}
	np.Spec.PodSelector = p.subject(n)
	for i := range p.Rules {
		at := n*p.Rules + i
		var peers []networkingv1.NetworkPolicyPeer
		for j := range p.Peers {
			peers = append(peers, p.peer(at*p.PeerStep+j))
		}
		var ports []networkingv1.NetworkPolicyPort
		for j := range p.Ports {
			ports = append(ports, p.ports(at*p.PortStep+j)...)
		}
		if p.Egress {
			np.Spec.Egress = append(np.Spec.Egress, networkingv1.NetworkPolicyEgressRule{To: peers, Ports: ports})
		} else {
			np.Spec.Ingress = append(np.Spec.Ingress, networkingv1.NetworkPolicyIngressRule{From: peers, Ports: ports})
		}
	}
	np.Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}
	if p.Egress {
		np.Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeEgress}
	}
	return np
}

func (p Part) peer(i int) networkingv1.NetworkPolicyPeer {
	var peer networkingv1.NetworkPolicyPeer
	switch p.Peer {
	case networks, lengths, exceptions:
		peer.IPBlock = p.block(i)
	case namespaces:
		s := p.selector(i)
		peer.NamespaceSelector = &s
	default:
		s := p.selector(i)
		peer.PodSelector, peer.NamespaceSelector = &s, &metav1.LabelSelector{}
	}
	return peer
}

// selector selects pods, or namespaces.
func (p Part) selector(i int) metav1.LabelSelector {
	expression := func(key string, operator metav1.LabelSelectorOperator, value string) metav1.LabelSelector {
		return metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: key, Operator: operator, Values: []string{value}}}}
	}
	switch p.Peer {
	case onePod:
		return expression("id", metav1.LabelSelectorOpIn, fmt.Sprint("id-", i%pods))
	case application:
		return expression("app", metav1.LabelSelectorOpIn, fmt.Sprint("app-", i%applications))
	case nobody:
		return expression("id", metav1.LabelSelectorOpIn, fmt.Sprint("none-", i))
	case namespaces:
		return expression("team", metav1.LabelSelectorOpNotIn, fmt.Sprint("team-", i))
	default:
		return expression("id", metav1.LabelSelectorOpNotIn, fmt.Sprint("id-", i))
	}
}

// block is a network. Of those with exceptions every other is of IPv6.
func (p Part) block(i int) *networkingv1.IPBlock {
	out := &networkingv1.IPBlock{}
	switch p.Peer {
	case lengths:
		a := netip.AddrFrom4([4]byte{byte(20 + i%200), byte(i >> 8), byte(i), 0xff})
		out.CIDR = netip.PrefixFrom(a, 8+i%25).Masked().String()
	case exceptions:
		out.CIDR = "::/0"
		if i%2 == 0 {
			out.CIDR = "0.0.0.0/0"
		}
		for n := range p.Excepts {
			if i%2 == 0 {
				out.Except = append(out.Except, netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(1 + n%200), byte(n >> 8), byte(i), byte(2 * n)}), 32).String())
			} else {
				out.Except = append(out.Except, fmt.Sprintf("2001:db8:%x:%x::1/128", i&0xffff, 2*n&0xffff))
			}
		}
	default:
		out.CIDR = fmt.Sprintf("%d.%d.%d.0/24", 20+i>>16&0x7f, i>>8&0xff, i&0xff)
	}
	return out
}

var protocols = []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP}

// span is the i-th range of ports.
func (p Part) span(i int) (first, last int32) {
	switch p.Port {
	case ranges:
		first = int32(1 + i*(p.Width+1)%64000)
		return first, min(first+int32(p.Width)-1, 65535)
	default:
		first = int32(1 + 2*i%65000)
		return first, first
	}
}

func (p Part) ports(i int) []networkingv1.NetworkPolicyPort {
	transport := protocols[i%len(protocols)]
	port := func(first, last int32) networkingv1.NetworkPolicyPort {
		n := intstr.FromInt32(first)
		out := networkingv1.NetworkPolicyPort{Protocol: &transport, Port: &n}
		if last > first {
			out.EndPort = &last
		}
		return out
	}
	switch p.Port {
	case named:
		n := intstr.FromString(fmt.Sprint("port-", i%namedPorts))
		transport = corev1.ProtocolTCP
		return []networkingv1.NetworkPolicyPort{{Protocol: &transport, Port: &n}}
	case protocol:
		return []networkingv1.NetworkPolicyPort{{Protocol: &transport}}
	case gaps:
		gap := int32(2 + i%65000)
		return []networkingv1.NetworkPolicyPort{port(1, gap-1), port(gap+1, 65535)}
	default:
		return []networkingv1.NetworkPolicyPort{port(p.span(i))}
	}
}
