package compile

import (
	"fmt"
	"iter"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/tierwall/tierwall/policy"
)

// Spec reads the spec of a policy of either kind as it is written, valid or not. It tells which selectors, networks and
// port names a policy mentions; what the policy allows is for the compiler alone to decide.
type Spec struct {
	network *networkingv1.NetworkPolicy
	cluster *policyv1alpha2.ClusterNetworkPolicy
}

// NetworkPolicySpec returns the spec of a NetworkPolicy.
func NetworkPolicySpec(np *networkingv1.NetworkPolicy) Spec { return Spec{network: np} }

// ClusterNetworkPolicySpec returns the spec of a ClusterNetworkPolicy.
func ClusterNetworkPolicySpec(cnp *policyv1alpha2.ClusterNetworkPolicy) Spec {
	return Spec{cluster: cnp}
}

// Specs returns the specs of a snapshot's policies.
func (s *Snapshot) Specs() iter.Seq[Spec] {
	return func(yield func(Spec) bool) {
		for _, np := range s.NetworkPolicies {
			if !yield(NetworkPolicySpec(np)) {
				return
			}
		}
		for _, cnp := range s.ClusterNetworkPolicies {
			if !yield(ClusterNetworkPolicySpec(cnp)) {
				return
			}
		}
	}
}

// PodSelector selects pods by namespace and labels. The label selectors are the policy's own, not copies.
type PodSelector struct {
	// Namespaces is nil if only pods of Namespace are selected, which is the policy's own.
	Namespaces *metav1.LabelSelector
	Namespace  string
	// Pods is nil if the policy has no selector for pods: all pods of the namespaces are selected.
	Pods *metav1.LabelSelector
}

// SelectorList has one selector at most, unless the policy is invalid and gives two where one is allowed.
type SelectorList struct {
	selectors [2]PodSelector
	count     int
}

// All returns the selectors.
func (l *SelectorList) All() []PodSelector { return l.selectors[:l.count] }

// First returns the selector that stands for the list, if there is one.
func (l *SelectorList) First() (PodSelector, bool) { return l.selectors[0], l.count > 0 }

func (l *SelectorList) append(s PodSelector) {
	l.selectors[l.count] = s
	l.count++
}

func clusterSelectors(namespaces *metav1.LabelSelector, pods *policyv1alpha2.NamespacedPod) (out SelectorList) {
	if pods != nil {
		out.append(PodSelector{Namespaces: &pods.NamespaceSelector, Pods: &pods.PodSelector})
	}
	if namespaces != nil {
		out.append(PodSelector{Namespaces: namespaces})
	}
	return out
}

// Subject returns whom the policy is for, and the field that says so. An invalid subject may have no selector.
func (s Spec) Subject() (out SelectorList, field string) {
	if s.network != nil {
		out.append(PodSelector{Namespace: s.network.Namespace, Pods: &s.network.Spec.PodSelector})
		return out, "/spec/podSelector"
	}
	subject := &s.cluster.Spec.Subject
	return clusterSelectors(subject.Namespaces, subject.Pods), "/spec/subject"
}

// RuleSpec is a rule as it is written.
type RuleSpec struct {
	Direction policy.Direction
	Index     int
	// Accepts is true of rules of a NetworkPolicy and of those whose action is Accept.
	Accepts bool
	// AnyPeer is true of a NetworkPolicy's rule that has no peers, and so matches any.
	AnyPeer bool

	namespace string
	peers     []networkingv1.NetworkPolicyPeer
	ports     []networkingv1.NetworkPolicyPort
	from      []policyv1alpha2.ClusterNetworkPolicyIngressPeer
	to        []policyv1alpha2.ClusterNetworkPolicyEgressPeer
	protocols []policyv1alpha2.ClusterNetworkPolicyProtocol
}

// Rules returns the rules in their order, those for ingress first.
func (s Spec) Rules() iter.Seq[RuleSpec] {
	if s.network != nil {
		return s.networkRules
	}
	return s.clusterRules
}

func (s Spec) networkRules(yield func(RuleSpec) bool) {
	np := s.network
	rule := func(d policy.Direction, i int, peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort) RuleSpec {
		return RuleSpec{Direction: d, Index: i, Accepts: true, AnyPeer: len(peers) == 0, namespace: np.Namespace, peers: peers, ports: ports}
	}
	for i := range np.Spec.Ingress {
		if r := &np.Spec.Ingress[i]; !yield(rule(policy.Ingress, i, r.From, r.Ports)) {
			return
		}
	}
	for i := range np.Spec.Egress {
		if r := &np.Spec.Egress[i]; !yield(rule(policy.Egress, i, r.To, r.Ports)) {
			return
		}
	}
}

func (s Spec) clusterRules(yield func(RuleSpec) bool) {
	const accept = policyv1alpha2.ClusterNetworkPolicyRuleActionAccept
	for i := range s.cluster.Spec.Ingress {
		r := &s.cluster.Spec.Ingress[i]
		if !yield(RuleSpec{Direction: policy.Ingress, Index: i, Accepts: r.Action == accept, from: r.From, protocols: r.Protocols}) {
			return
		}
	}
	for i := range s.cluster.Spec.Egress {
		r := &s.cluster.Spec.Egress[i]
		if !yield(RuleSpec{Direction: policy.Egress, Index: i, Accepts: r.Action == accept, to: r.To, protocols: r.Protocols}) {
			return
		}
	}
}

// Field returns the JSON pointer of the rule.
func (r *RuleSpec) Field() string { return item(fieldOf(r.Direction), r.Index) }

// PeerSpec is a peer of a rule as it is written. A valid one has pods, nodes, networks or domain names.
type PeerSpec struct {
	Selectors   SelectorList
	Nodes       *metav1.LabelSelector
	DomainNames []policyv1alpha2.DomainName

	ipBlock *networkingv1.IPBlock
	cidrs   []policyv1alpha2.CIDR
}

// Networks returns the networks of the peer.
func (p *PeerSpec) Networks() []NetworkSpec {
	var out []NetworkSpec
	if p.ipBlock != nil {
		out = append(out, NetworkSpec{CIDR: p.ipBlock.CIDR, Except: p.ipBlock.Except})
	}
	for _, cidr := range p.cidrs {
		out = append(out, NetworkSpec{CIDR: string(cidr)})
	}
	return out
}

// NetworkSpec is a network with exceptions as it is written.
type NetworkSpec struct {
	CIDR   string
	Except []string
}

// Peers returns the peers of the rule with their indexes.
func (r *RuleSpec) Peers() iter.Seq2[int, PeerSpec] {
	return func(yield func(int, PeerSpec) bool) {
		for i := range r.peers {
			if !yield(i, r.networkPeer(&r.peers[i])) {
				return
			}
		}
		for i := range r.from {
			if !yield(i, PeerSpec{Selectors: clusterSelectors(r.from[i].Namespaces, r.from[i].Pods)}) {
				return
			}
		}
		for i := range r.to {
			if !yield(i, clusterPeer(&r.to[i])) {
				return
			}
		}
	}
}

func (r *RuleSpec) networkPeer(p *networkingv1.NetworkPolicyPeer) PeerSpec {
	out := PeerSpec{ipBlock: p.IPBlock}
	if p.PodSelector != nil || p.NamespaceSelector != nil {
		out.Selectors.append(PodSelector{Namespaces: p.NamespaceSelector, Namespace: r.namespace, Pods: p.PodSelector})
	}
	return out
}

func clusterPeer(p *policyv1alpha2.ClusterNetworkPolicyEgressPeer) PeerSpec {
	return PeerSpec{Selectors: clusterSelectors(p.Namespaces, p.Pods), Nodes: p.Nodes, DomainNames: p.DomainNames, cidrs: p.Networks}
}

// PeerField returns the JSON pointer of a peer of the rule.
func (r *RuleSpec) PeerField(i int) string {
	list := "from"
	if r.Direction == policy.Egress {
		list = "to"
	}
	return fmt.Sprintf("%s/%s/%d", r.Field(), list, i)
}

// NamedPortSpec is a port that a rule gives by name. A ClusterNetworkPolicy means the name in every protocol.
type NamedPortSpec struct {
	Field     string
	Name      string
	Protocols []policy.Protocol
}

var allProtocols = []policy.Protocol{policy.TCP, policy.UDP, policy.SCTP}

// NamedPorts returns the ports that the rule gives by name. One with an unknown protocol counts as TCP.
func (r *RuleSpec) NamedPorts() []NamedPortSpec {
	var out []NamedPortSpec
	for i := range r.ports {
		p := &r.ports[i]
		if p.Port == nil || p.Port.Type != intstr.String {
			continue
		}
		protocol := policy.TCP
		if p.Protocol != nil {
			if known, ok := protocols[*p.Protocol]; ok {
				protocol = known
			}
		}
		out = append(out, NamedPortSpec{item(r.Field()+"/ports", i), p.Port.StrVal, []policy.Protocol{protocol}})
	}
	for i := range r.protocols {
		if name := r.protocols[i].DestinationNamedPort; name != "" {
			out = append(out, NamedPortSpec{item(r.Field()+"/protocols", i), name, allProtocols})
		}
	}
	return out
}

// PodSelectors returns the selectors of pods in the subject and in all peers.
func (s Spec) PodSelectors() iter.Seq[PodSelector] {
	return func(yield func(PodSelector) bool) {
		subject, _ := s.Subject()
		for _, selector := range subject.All() {
			if !yield(selector) {
				return
			}
		}
		for r := range s.Rules() {
			for _, p := range r.Peers() {
				for _, selector := range p.Selectors.All() {
					if !yield(selector) {
						return
					}
				}
			}
		}
	}
}
