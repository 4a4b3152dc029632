package effect

import (
	"net/netip"
	"slices"
	"sync"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
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
	t.addSpec(compile.NetworkPolicySpec(np))
	return t
}

func clusterPolicyTerms(cnp *policyv1alpha2.ClusterNetworkPolicy) *terms {
	id := policy.RuleID{Kind: compile.ClusterNetworkPolicyKind, Name: cnp.Name}
	t := &terms{id: id, name: id.Object(), policy: cnp, spec: cnp.Spec,
		compiled: sync.OnceValue(func() *compile.Policy { return compile.ReadClusterNetworkPolicy(cnp) }),
		baseline: cnp.Spec.Tier == policyv1alpha2.BaselineTier, tier: cnp.Spec.Tier, priority: cnp.Spec.Priority}
	t.addSpec(compile.ClusterNetworkPolicySpec(cnp))
	return t
}

func (t *terms) refTo(field string) Ref { return Ref{Policy: t.name, Rule: field} }

func (t *terms) addSpec(s compile.Spec) {
	subject, field := s.Subject()
	t.subject = firstSelection(t.refTo(field), subject)
	for r := range s.Rules() {
		t.rules++
		t.denies = t.denies || !r.Accepts
		t.addRule(&r)
	}
}

// firstSelection returns the selection of a peer or subject; one that has no selector may mean any pods.
func firstSelection(ref Ref, list compile.SelectorList) selection {
	s, ok := list.First()
	if !ok {
		return newSelection(ref, everything, "", everything)
	}
	if s.Pods == nil {
		s.Pods = everything
	}
	return newSelection(ref, s.Namespaces, s.Namespace, s.Pods)
}

func (t *terms) addRule(r *compile.RuleSpec) {
	var selections []selection
	for i, p := range r.Peers() {
		networks := p.Networks()
		for _, n := range networks {
			t.addBlock(n.CIDR, n.Except...)
		}
		if t.mayMeanPods(r, p.Selectors, networks) {
			selections = append(selections, firstSelection(t.refTo(r.PeerField(i)), p.Selectors))
		}
	}
	t.peers = append(t.peers, selections...)
	if r.AnyPeer {
		t.peers = append(t.peers, newSelection(Ref{}, everything, "", everything))
	}
	rule := t.refTo(r.Field())
	for _, p := range r.NamedPorts() {
		for _, protocol := range p.Protocols {
			t.ports = append(t.ports, namedPort{ref: t.refTo(p.Field), rule: rule, name: p.Name, protocol: protocol,
				direction: r.Direction, peers: selections})
		}
	}
}

// mayMeanPods reports whether a peer is read as a selection of pods. A NetworkPolicy's peer with a network is not; an
// ingress peer of a ClusterNetworkPolicy without known fields is, since only pods can be meant there.
func (t *terms) mayMeanPods(r *compile.RuleSpec, list compile.SelectorList, networks []compile.NetworkSpec) bool {
	if t.id.Kind == compile.NetworkPolicyKind {
		return len(networks) == 0 && len(list.All()) > 0
	}
	return r.Direction == policy.Ingress || len(list.All()) > 0
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
