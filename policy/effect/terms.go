package effect

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
)

// terms are the selectors, networks and port names that a policy mentions. They tell which pods and addresses to
// evaluate. What the policy does is for the compiler alone to decide.
type terms struct {
	id            policy.RuleID
	name          string // id as text
	policy        any    // API object
	spec          any
	compiled      func() *compile.Policy // compiles it once
	subject       selection
	peers         []selection
	networks      []netip.Prefix
	networkBlocks []networkBlock
	ports         []namedPort
	rules         int // how many
	// denies is true if a ClusterNetworkPolicy has a rule other than Accept. Baseline is true if it is in the
	// Baseline tier.
	denies, baseline bool
	// tier and priority are those of a ClusterNetworkPolicy.
	tier     policyv1alpha2.Tier
	priority int32
}

// selection selects pods by namespace and labels.
type selection struct {
	ref Ref
	// namespaces is nil if the selection is about the one namespace named.
	namespaces *metav1.LabelSelector
	namespace  string
	pods       *metav1.LabelSelector
	// byNamespaces and byPods are the parsed selectors; nil if invalid. The compiler reports those and allows nothing
	// by them.
	byNamespaces, byPods labels.Selector
}

func newSelection(ref Ref, namespaces *metav1.LabelSelector, namespace string, pods *metav1.LabelSelector) selection {
	s := selection{ref: ref, namespaces: namespaces, namespace: namespace, pods: pods}
	if by, err := metav1.LabelSelectorAsSelector(pods); err == nil {
		s.byPods = by
	}
	if by, err := metav1.LabelSelectorAsSelector(namespaces); err == nil {
		s.byNamespaces = by
	}
	return s
}

// coversNamespace reports whether the selection may select pods in a namespace with the labels.
func (s selection) coversNamespace(name string, l labels.Set) bool {
	if s.namespaces == nil {
		return s.namespace == name
	}
	return s.byNamespaces != nil && s.byNamespaces.Matches(l)
}

// networkBlock is a network with exceptions.
type networkBlock struct {
	cidr   netip.Prefix
	except []netip.Prefix
}

// namedPort is a port of a rule by name.
type namedPort struct {
	ref       Ref
	rule      Ref
	name      string
	protocol  policy.Protocol
	direction policy.Direction
	peers     []selection // of the rule; empty is any
}

// protocols are those whose ports policies can name.
var protocols = []policy.Protocol{policy.TCP, policy.UDP, policy.SCTP}

// unknownPort stands for the number of a named port of a hypothetical pod.
const unknownPort = 0

var everything = &metav1.LabelSelector{}

func networkPolicyTerms(np *networkingv1.NetworkPolicy) *terms {
	id := policy.RuleID{Kind: compile.NetworkPolicyKind, Namespace: np.Namespace, Name: np.Name}
	t := &terms{id: id, name: id.Object(), policy: np, spec: np.Spec,
		compiled: sync.OnceValue(func() *compile.Policy { return compile.ReadNetworkPolicy(np) })}
	t.subject = newSelection(t.refTo("/spec/podSelector"), nil, np.Namespace, &np.Spec.PodSelector)
	t.rules = len(np.Spec.Ingress) + len(np.Spec.Egress)
	for i, r := range np.Spec.Ingress {
		t.addRule(policy.Ingress, i, "from", r.From, r.Ports)
	}
	for i, r := range np.Spec.Egress {
		t.addRule(policy.Egress, i, "to", r.To, r.Ports)
	}
	return t
}

func (t *terms) refTo(field string) Ref { return Ref{Policy: t.name, Rule: field} }

func (t *terms) addRule(d policy.Direction, i int, list string, peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort) {
	field := fmt.Sprintf("/spec/%s/%d", d, i)
	var selections []selection
	for j, p := range peers {
		at := t.refTo(fmt.Sprintf("%s/%s/%d", field, list, j))
		switch {
		case p.IPBlock != nil:
			t.addBlock(p.IPBlock.CIDR, p.IPBlock.Except...)
		case p.PodSelector != nil || p.NamespaceSelector != nil:
			pods := p.PodSelector
			if pods == nil {
				pods = everything
			}
			selections = append(selections, newSelection(at, p.NamespaceSelector, t.id.Namespace, pods))
		}
	}
	t.peers = append(t.peers, selections...)
	if len(peers) == 0 {
		t.peers = append(t.peers, newSelection(Ref{}, everything, "", everything))
	}
	for j, p := range ports {
		if p.Port == nil || p.Port.Type != intstr.String {
			continue
		}
		n := namedPort{ref: t.refTo(fmt.Sprintf("%s/ports/%d", field, j)), rule: t.refTo(field), name: p.Port.StrVal,
			protocol: policy.TCP, direction: d, peers: selections}
		for _, known := range protocols {
			if p.Protocol != nil && string(*p.Protocol) == known.String() {
				n.protocol = known
			}
		}
		t.ports = append(t.ports, n)
	}
}

// addBlock adds a network with exceptions. The compiler reports invalid ones and allows nothing by them.
func (t *terms) addBlock(cidr string, except ...string) {
	var b networkBlock
	for i, text := range append([]string{cidr}, except...) {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			continue
		}
		t.networks = append(t.networks, p.Masked())
		if i == 0 {
			b.cidr = p.Masked()
		} else {
			b.except = append(b.except, p.Masked())
		}
	}
	if b.cidr.IsValid() {
		t.networkBlocks = append(t.networkBlocks, b)
	}
}

func clusterPolicyTerms(cnp *policyv1alpha2.ClusterNetworkPolicy) *terms {
	id := policy.RuleID{Kind: compile.ClusterNetworkPolicyKind, Name: cnp.Name}
	t := &terms{id: id, name: id.Object(), policy: cnp, spec: cnp.Spec,
		compiled: sync.OnceValue(func() *compile.Policy { return compile.ReadClusterNetworkPolicy(cnp) }),
		baseline: cnp.Spec.Tier == policyv1alpha2.BaselineTier, tier: cnp.Spec.Tier, priority: cnp.Spec.Priority}
	t.rules = len(cnp.Spec.Ingress) + len(cnp.Spec.Egress)
	t.subject = podsOf(t.refTo("/spec/subject"), cnp.Spec.Subject.Namespaces, cnp.Spec.Subject.Pods)
	for i, r := range cnp.Spec.Ingress {
		field := fmt.Sprintf("/spec/ingress/%d", i)
		t.denies = t.denies || r.Action != policyv1alpha2.ClusterNetworkPolicyRuleActionAccept
		var selections []selection
		for j, p := range r.From {
			selections = append(selections, podsOf(t.refTo(fmt.Sprintf("%s/from/%d", field, j)), p.Namespaces, p.Pods))
		}
		t.addClusterRule(policy.Ingress, field, selections, r.Protocols)
	}
	for i, r := range cnp.Spec.Egress {
		field := fmt.Sprintf("/spec/egress/%d", i)
		t.denies = t.denies || r.Action != policyv1alpha2.ClusterNetworkPolicyRuleActionAccept
		var selections []selection
		for j, p := range r.To {
			if p.Namespaces != nil || p.Pods != nil {
				selections = append(selections, podsOf(t.refTo(fmt.Sprintf("%s/to/%d", field, j)), p.Namespaces, p.Pods))
			}
			for _, c := range p.Networks {
				t.addBlock(string(c))
			}
		}
		t.addClusterRule(policy.Egress, field, selections, r.Protocols)
	}
	return t
}

func podsOf(ref Ref, namespaces *metav1.LabelSelector, pods *policyv1alpha2.NamespacedPod) selection {
	switch {
	case pods != nil:
		return newSelection(ref, &pods.NamespaceSelector, "", &pods.PodSelector)
	case namespaces != nil:
		return newSelection(ref, namespaces, "", everything)
	default:
		return newSelection(ref, everything, "", everything)
	}
}

func (t *terms) addClusterRule(d policy.Direction, field string, peers []selection, ports []policyv1alpha2.ClusterNetworkPolicyProtocol) {
	t.peers = append(t.peers, peers...)
	for j, p := range ports {
		if p.DestinationNamedPort == "" {
			continue
		}
		for _, protocol := range protocols {
			t.ports = append(t.ports, namedPort{ref: t.refTo(fmt.Sprintf("%s/protocols/%d", field, j)), rule: t.refTo(field),
				name: p.DestinationNamedPort, protocol: protocol, direction: d, peers: peers})
		}
	}
}

// canHide reports whether a policy can keep another's rules from deciding. A ClusterNetworkPolicy can by Deny or
// Pass, and a NetworkPolicy hides the Baseline tier by isolation.
func (t *terms) canHide(other *terms) bool {
	if t.id.Kind == compile.NetworkPolicyKind {
		return other.baseline
	}
	return t.denies
}

// mayContainPods reports whether a network of the policy may contain addresses of pods.
func (t *terms) mayContainPods(nodes []*compile.Node) bool {
	if len(t.networks) == 0 {
		return false
	}
	if len(nodes) == 0 {
		return true // pod networks are unknown
	}
	for _, n := range nodes {
		if len(n.PodCIDRs) == 0 {
			return true
		}
		for _, pods := range n.PodCIDRs {
			overlaps := func(p netip.Prefix) bool { return p.Overlaps(pods) }
			for _, block := range t.networkBlocks {
				covers := func(p netip.Prefix) bool { return p.Bits() <= pods.Bits() && p.Overlaps(pods) }
				if overlaps(block.cidr) && !slices.ContainsFunc(block.except, covers) {
					return true
				}
			}
		}
	}
	return false
}
