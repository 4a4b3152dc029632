package compile

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/tierwall/tierwall/policy"
)

// ClusterNetworkPolicyKind is the Kind in the RuleID of a ClusterNetworkPolicy's rules.
const ClusterNetworkPolicyKind = "ClusterNetworkPolicy"

// clusterPolicy is a ClusterNetworkPolicy that was read (policy.networking.k8s.io/v1alpha2).
type clusterPolicy struct {
	id               policy.RuleID
	tier             policy.TierName
	priority         int32
	namespaces, pods selector
	rules            [2][]rule
	named            [2]bool // some rule of the direction goes by port name
	number           uint64  // tells it from every other policy of its kind, whoever else has had its name
}

// compareClusterPolicies orders by priority; of equal ones the API leaves the order open,
// and the name decides.
func compareClusterPolicies(a, b *clusterPolicy) int {
	return cmp.Or(cmp.Compare(a.priority, b.priority), strings.Compare(a.id.Name, b.id.Name))
}

// parseClusterNetworkPolicy reads a policy. A rule of which something cannot be understood fails
// closed as the API says of unknown peers: Accept matches nothing, Deny and Pass
// deny everything. When subject, tier or priority cannot be understood, the policy may be meant for
// any pod and any place in the order: what it denies or passes on is denied to all
// pods that it might mean, and what it accepts is left to others.
func parseClusterNetworkPolicy(cnp *policyv1alpha2.ClusterNetworkPolicy) (*clusterPolicy, []policy.Problem) {
	r := &reporter{object: policy.RuleID{Kind: ClusterNetworkPolicyKind, Name: cnp.Name}}
	spec := &cnp.Spec
	out := &clusterPolicy{id: r.object, tier: policy.AdminTier, priority: spec.Priority}
	ok := out.subject(&spec.Subject, r)
	switch spec.Tier {
	case policyv1alpha2.AdminTier:
	case policyv1alpha2.BaselineTier:
		out.tier = policy.BaselineTier
	default:
		r.report("/spec/tier", "unknown tier %q: want Admin or Baseline", spec.Tier)
		ok = false
	}
	if spec.Priority < 0 || spec.Priority > 1000 {
		r.report("/spec/priority", "priority %d is not between 0 and 1000", spec.Priority)
		ok = false
	}
	if reportSize(ClusterNetworkPolicySize(cnp), r) {
		out.denyAll(spec)
		return out, r.all()
	}
	for i := range spec.Ingress {
		in := &spec.Ingress[i]
		peers := make([]policyv1alpha2.ClusterNetworkPolicyEgressPeer, len(in.From))
		for j, p := range in.From {
			peers[j] = policyv1alpha2.ClusterNetworkPolicyEgressPeer{Namespaces: p.Namespaces, Pods: p.Pods}
		}
		out.add(clusterRule{policy.Ingress, i, "from", in.Action, peers, in.Protocols}, r)
	}
	for i := range spec.Egress {
		eg := &spec.Egress[i]
		out.add(clusterRule{policy.Egress, i, "to", eg.Action, eg.To, eg.Protocols}, r)
	}
	if slices.ContainsFunc(policy.Directions[:], func(d policy.Direction) bool { return reportSetsPerPod(d, out.rules[d], r) }) {
		out.denyAll(spec)
	}
	if !ok {
		out.close()
	}
	out.named = named(out.rules)
	return out, r.all()
}

// subject reads which pods the policy is for; what of it cannot be understood selects all.
func (p *clusterPolicy) subject(s *policyv1alpha2.ClusterNetworkPolicySubject, r *reporter) bool {
	const field = "/spec/subject"
	switch {
	case (s.Namespaces != nil) == (s.Pods != nil):
		r.report(field, "a subject needs exactly one of namespaces and pods")
		return false
	case s.Namespaces != nil:
		var ok bool
		p.namespaces, ok = parseSelector(s.Namespaces, field+"/namespaces", r)
		return ok
	default:
		var ok bool
		p.namespaces, p.pods, ok = parseNamespacedPod(s.Pods, field+"/pods", r)
		return ok
	}
}

func parseNamespacedPod(p *policyv1alpha2.NamespacedPod, field string, r *reporter) (namespaces, pods selector, ok bool) {
	namespaces, nsOK := parseSelector(&p.NamespaceSelector, field+"/namespaceSelector", r)
	pods, podsOK := parseSelector(&p.PodSelector, field+"/podSelector", r)
	return namespaces, pods, nsOK && podsOK
}

// close makes the policy harmless to apply to pods or in a place that it was not
// written for: it keeps what it denies, denies what it passes on, and accepts nothing.
func (p *clusterPolicy) close() {
	for d, rules := range p.rules {
		var kept []rule
		for _, r := range rules {
			if r.verdict != policy.Allow {
				r.verdict = policy.Deny
				kept = append(kept, r)
			}
		}
		p.rules[d] = kept
	}
}

// clusterRule is a rule of either direction as it was written.
type clusterRule struct {
	direction policy.Direction
	index     int
	list      string
	action    policyv1alpha2.ClusterNetworkPolicyRuleAction
	peers     []policyv1alpha2.ClusterNetworkPolicyEgressPeer
	protocols []policyv1alpha2.ClusterNetworkPolicyProtocol
}

func (p *clusterPolicy) add(w clusterRule, r *reporter) {
	field := item(fieldOf(w.direction), w.index)
	out := rule{id: p.id, anyPort: len(w.protocols) == 0}
	out.id.Field = field
	before := len(r.problems)
	if len(w.peers) == 0 {
		r.report(field+"/"+w.list, "a rule needs at least one peer")
	}
	for j := range w.peers {
		if def := parseClusterPeer(&w.peers[j], item(field+"/"+w.list, j), r); def != nil {
			out.peers = append(out.peers, def)
		}
	}
	for j := range w.protocols {
		at := item(field+"/protocols", j)
		if w.protocols[j].DestinationNamedPort != "" && withoutNamedPorts(w.peers) {
			r.report(at+"/destinationNamedPort", "nodes, networks and domainNames have no named ports")
		}
		out.ports = append(out.ports, parseProtocol(&w.protocols[j], at, r)...)
	}
	understood := len(r.problems) == before
	out.verdict = parseAction(w.action, field+"/action", r)
	if !understood {
		if out.verdict == policy.Allow {
			return
		}
		out = rule{id: out.id, verdict: policy.Deny, anyPeer: true, anyPort: true}
	}
	p.rules[w.direction] = append(p.rules[w.direction], out)
}

// parseAction reads an action; an unknown one denies.
func parseAction(a policyv1alpha2.ClusterNetworkPolicyRuleAction, field string, r *reporter) policy.Verdict {
	switch a {
	case policyv1alpha2.ClusterNetworkPolicyRuleActionAccept:
		return policy.Allow
	case policyv1alpha2.ClusterNetworkPolicyRuleActionPass:
		return policy.Pass
	case policyv1alpha2.ClusterNetworkPolicyRuleActionDeny:
		return policy.Deny
	default:
		r.report(field, "unknown action %q: want Accept, Deny or Pass", a)
		return policy.Deny
	}
}

func withoutNamedPorts(peers []policyv1alpha2.ClusterNetworkPolicyEgressPeer) bool {
	for _, p := range peers {
		if p.Nodes != nil || len(p.Networks) > 0 || len(p.DomainNames) > 0 {
			return true
		}
	}
	return false
}

// parseClusterPeer reads a peer; it is nil when the peer cannot be understood.
func parseClusterPeer(p *policyv1alpha2.ClusterNetworkPolicyEgressPeer, field string, r *reporter) *definition {
	if n := count(p.Namespaces != nil, p.Pods != nil, p.Nodes != nil, len(p.Networks) > 0, len(p.DomainNames) > 0); n != 1 {
		r.report(field, "a peer needs exactly one field that is known here, not %d", n)
		return nil
	}
	parsed := func(s *metav1.LabelSelector, at string, set func(selector) *definition) *definition {
		if sel, ok := parseSelector(s, field+at, r); ok {
			return set(sel)
		}
		return nil
	}
	switch {
	case p.Namespaces != nil:
		return parsed(p.Namespaces, "/namespaces", func(s selector) *definition { return podSet(s, selector{}) })
	case p.Nodes != nil:
		return parsed(p.Nodes, "/nodes", nodeSet)
	case p.Pods != nil:
		if namespaces, pods, ok := parseNamespacedPod(p.Pods, field+"/pods", r); ok {
			return podSet(namespaces, pods)
		}
		return nil
	case len(p.Networks) > 0:
		return parseNetworks(p.Networks, field+"/networks", r)
	default:
		r.report(field+"/domainNames", "domain names are not supported; name the addresses under networks")
		return nil
	}
}

func parseNetworks(cidrs []policyv1alpha2.CIDR, field string, r *reporter) *definition {
	var prefixes []netip.Prefix
	ok := true
	for i, c := range cidrs {
		p, err := parseCIDR(string(c))
		if err != nil {
			r.report(item(field, i), "%v", err)
			ok = false
		}
		prefixes = append(prefixes, p)
	}
	if !ok {
		return nil
	}
	return networkSet(networkElements(union(prefixes)))
}

// parseProtocol reads a protocol's ports. A port name without a protocol is that of each.
func parseProtocol(p *policyv1alpha2.ClusterNetworkPolicyProtocol, field string, r *reporter) []portMatch {
	if n := count(p.TCP != nil, p.UDP != nil, p.SCTP != nil, p.DestinationNamedPort != ""); n != 1 {
		r.report(field, "a protocol needs exactly one field that is known here, not %d", n)
		return nil
	}
	switch {
	case p.TCP != nil:
		return parseClusterPort(policy.TCP, p.TCP.DestinationPort, field+"/tcp", r)
	case p.UDP != nil:
		return parseClusterPort(policy.UDP, p.UDP.DestinationPort, field+"/udp", r)
	case p.SCTP != nil:
		return parseClusterPort(policy.SCTP, p.SCTP.DestinationPort, field+"/sctp", r)
	}
	name := p.DestinationNamedPort
	for _, msg := range validation.IsValidPortName(name) {
		r.report(field+"/destinationNamedPort", "%q is not a port name: %s", name, msg)
	}
	return []portMatch{
		{protocol: policy.TCP, name: name},
		{protocol: policy.UDP, name: name},
		{protocol: policy.SCTP, name: name},
	}
}

func parseClusterPort(protocol policy.Protocol, p *policyv1alpha2.Port, field string, r *reporter) []portMatch {
	if p == nil {
		r.report(field, "a protocol needs a destinationPort")
		return nil
	}
	first, last := p.Number, p.Number
	var err error
	switch {
	case (p.Number != 0) == (p.Range != nil):
		err = fmt.Errorf("a port needs exactly one of number and range")
	case p.Range != nil:
		first, last = p.Range.Start, p.Range.End
		if first >= last {
			err = fmt.Errorf("the range's start %d must be below its end %d", first, last)
		}
	}
	if err == nil && (!validPort(first) || !validPort(last)) {
		err = fmt.Errorf("ports are between 1 and %d", policy.MaxPort)
	}
	if err != nil {
		r.report(field+"/destinationPort", "%v", err)
		return nil
	}
	return []portMatch{{protocol: protocol, first: uint16(first), last: uint16(last)}}
}

func count(conditions ...bool) int {
	n := 0
	for _, c := range conditions {
		if c {
			n++
		}
	}
	return n
}
