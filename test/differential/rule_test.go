package differential

import (
	"net/netip"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/test/oracle"
)

// rule is what the coverage looks at of a rule of either kind.
type rule struct {
	// subject and peers are selectors of namespaces and pods; nil selects by nothing.
	subject selectors
	peers   []selectors

	portNames []string
	ranges    []portRange
	endPorts  [][2]int32

	blocks      []block
	networks    []netip.Prefix
	nodes       bool
	action      policyv1alpha2.ClusterNetworkPolicyRuleAction
	unknownPeer bool
}

type selectors struct{ namespaces, pods *metav1.LabelSelector }

type portRange struct {
	protocol    string
	first, last int32
}

type block struct {
	cidr    netip.Prefix
	excepts []netip.Prefix
}

// excepted is how many of the excepts hold the address.
func (b block) excepted(a netip.Addr) int {
	n := 0
	for _, e := range b.excepts {
		if e.Contains(a) {
			n++
		}
	}
	return n
}

func (b block) holds(a netip.Addr) bool { return b.cidr.Contains(a) && b.excepted(a) == 0 }

// pair is a selector and the labels that it is held against.
type pair struct {
	selector *metav1.LabelSelector
	// labels are the object's own; role is the one that a pod holds.
	labels map[string]string
	role   string
}

// asks reports whether the selector has such a requirement.
func (p pair) asks(is func(key, op string, values []string) bool) bool {
	for k, v := range p.selector.MatchLabels {
		if is(k, "In", []string{v}) {
			return true
		}
	}
	for _, e := range p.selector.MatchExpressions {
		if is(e.Key, string(e.Operator), e.Values) {
			return true
		}
	}
	return false
}

func (p pair) asksForRole() bool {
	return p.asks(func(key, _ string, _ []string) bool { return key == v1alpha1.RoleLabel })
}

func (p pair) shownRole() string { return p.labels[v1alpha1.RoleLabel] }

// pairs are the rule's selectors with the labels that they are held against on a side.
func (r rule) pairs(c *oracle.Cluster, x side) []pair {
	out := r.subject.against(c, x.own)
	for _, p := range r.peers {
		out = append(out, p.against(c, x.peer)...)
	}
	return out
}

func (s selectors) against(c *oracle.Cluster, p *corev1.Pod) []pair {
	var out []pair
	if p == nil {
		return nil
	}
	if s.pods != nil {
		out = append(out, pair{s.pods, p.Labels, oracle.RoleOf(c, p)})
	}
	for _, n := range c.Namespaces {
		if s.namespaces != nil && n.Name == p.Namespace {
			out = append(out, pair{selector: s.namespaces, labels: n.Labels})
		}
	}
	return out
}

// rulesAt is the rule of an ID, or all of the policy in the direction if the ID is a policy's.
func rulesAt(c *oracle.Cluster, d policy.Direction, id policy.RuleID) []rule {
	var all []rule
	for _, p := range c.NetworkPolicies {
		if id.Kind == "NetworkPolicy" && p.Namespace == id.Namespace && p.Name == id.Name {
			all = namespacedRules(p, d)
		}
	}
	for _, p := range c.ClusterNetworkPolicies {
		if id.Kind == "ClusterNetworkPolicy" && p.Name == id.Name {
			all = clusterRules(p, d)
		}
	}
	last := id.Field[strings.LastIndex(id.Field, "/")+1:]
	if i, err := strconv.Atoi(last); err == nil {
		return all[i : i+1]
	}
	return all
}

func namespacedRules(p *networkingv1.NetworkPolicy, d policy.Direction) []rule {
	var out []rule
	add := func(peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort) {
		r := rule{subject: selectors{pods: &p.Spec.PodSelector}}
		for _, peer := range peers {
			r.peers = append(r.peers, selectors{peer.NamespaceSelector, peer.PodSelector})
			if peer.IPBlock != nil {
				r.addBlock(peer.IPBlock)
			}
		}
		for _, port := range ports {
			r.addPort(port)
		}
		out = append(out, r)
	}
	if d == policy.Ingress {
		for _, r := range p.Spec.Ingress {
			add(r.From, r.Ports)
		}
		return out
	}
	for _, r := range p.Spec.Egress {
		add(r.To, r.Ports)
	}
	return out
}

func (r *rule) addBlock(b *networkingv1.IPBlock) {
	cidr, err := netip.ParsePrefix(b.CIDR)
	if err != nil {
		return
	}
	out := block{cidr: cidr}
	for _, text := range b.Except {
		if e, err := netip.ParsePrefix(text); err == nil {
			out.excepts = append(out.excepts, e)
		}
	}
	r.blocks = append(r.blocks, out)
}

func (r *rule) addPort(p networkingv1.NetworkPolicyPort) {
	protocol := "TCP"
	if p.Protocol != nil {
		protocol = string(*p.Protocol)
	}
	switch {
	case p.Port == nil:
		r.ranges = append(r.ranges, portRange{protocol, 0, policy.MaxPort})
	case p.Port.Type == intstr.String:
		r.portNames = append(r.portNames, p.Port.StrVal)
	case p.EndPort != nil:
		r.endPorts = append(r.endPorts, [2]int32{p.Port.IntVal, *p.EndPort})
		r.ranges = append(r.ranges, portRange{protocol, p.Port.IntVal, *p.EndPort})
	default:
		r.ranges = append(r.ranges, portRange{protocol, p.Port.IntVal, p.Port.IntVal})
	}
}

func clusterRules(p *policyv1alpha2.ClusterNetworkPolicy, d policy.Direction) []rule {
	var out []rule
	subject := selectors{namespaces: p.Spec.Subject.Namespaces}
	if pods := p.Spec.Subject.Pods; pods != nil {
		subject = selectors{&pods.NamespaceSelector, &pods.PodSelector}
	}
	if d == policy.Egress {
		for _, e := range p.Spec.Egress {
			r := rule{subject: subject, action: e.Action}
			for _, to := range e.To {
				r.addClusterPeer(to)
			}
			r.addProtocols(e.Protocols)
			out = append(out, r)
		}
		return out
	}
	for _, in := range p.Spec.Ingress {
		r := rule{subject: subject, action: in.Action}
		for _, from := range in.From {
			r.addClusterPeer(policyv1alpha2.ClusterNetworkPolicyEgressPeer{Namespaces: from.Namespaces, Pods: from.Pods})
		}
		r.addProtocols(in.Protocols)
		out = append(out, r)
	}
	return out
}

func (r *rule) addClusterPeer(p policyv1alpha2.ClusterNetworkPolicyEgressPeer) {
	switch {
	case p.Namespaces != nil:
		r.peers = append(r.peers, selectors{namespaces: p.Namespaces})
	case p.Pods != nil:
		r.peers = append(r.peers, selectors{&p.Pods.NamespaceSelector, &p.Pods.PodSelector})
	case p.Nodes != nil:
		r.nodes = true
	case len(p.Networks) > 0:
		for _, text := range p.Networks {
			if n, err := netip.ParsePrefix(string(text)); err == nil {
				r.networks = append(r.networks, n)
			}
		}
	default:
		r.unknownPeer = true
	}
}

func (r *rule) addProtocols(protocols []policyv1alpha2.ClusterNetworkPolicyProtocol) {
	for _, p := range protocols {
		switch {
		case p.TCP != nil:
			r.addClusterPort("TCP", p.TCP.DestinationPort)
		case p.UDP != nil:
			r.addClusterPort("UDP", p.UDP.DestinationPort)
		case p.SCTP != nil:
			r.addClusterPort("SCTP", p.SCTP.DestinationPort)
		case p.DestinationNamedPort != "":
			r.portNames = append(r.portNames, p.DestinationNamedPort)
		}
	}
}

func (r *rule) addClusterPort(protocol string, p *policyv1alpha2.Port) {
	switch {
	case p == nil:
	case p.Range != nil:
		r.ranges = append(r.ranges, portRange{protocol, p.Range.Start, p.Range.End})
	default:
		r.ranges = append(r.ranges, portRange{protocol, p.Number, p.Number})
	}
}
