package oracle

import (
	"fmt"
	"net/netip"
	"slices"
	"sort"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/tierwall/tierwall/policy"
)

// clusterTier asks the policies of the tier by priority, then name, and their rules as they
// are written. It is Pass where no rule matches.
func clusterTier(c *Cluster, f policy.Flow, d policy.Direction, own *corev1.Pod, tier policy.TierName) Answer {
	policies := slices.Clone(c.ClusterNetworkPolicies)
	sort.Slice(policies, func(i, j int) bool {
		if policies[i].Spec.Priority != policies[j].Spec.Priority {
			return policies[i].Spec.Priority < policies[j].Spec.Priority
		}
		return policies[i].Name < policies[j].Name
	})
	for _, p := range policies {
		if tierOf(p) != tier || !mayApply(c, p, own) {
			continue
		}
		for i, r := range rulesOf(p, d) {
			verdict, matched := ruleVerdict(c, r, f, d, sound(p))
			if !matched {
				continue
			}
			if !sound(p) { // not certainly meant for this pod in this place
				if verdict == policy.Allow {
					continue
				}
				verdict = policy.Deny
			}
			id := ruleID("ClusterNetworkPolicy", p, fmt.Sprintf("/spec/%s/%d", d, i))
			return Answer{Verdict: verdict, Tier: tier, Rules: []policy.RuleID{id}}
		}
	}
	return Answer{Verdict: policy.Pass}
}

// tierOf is the policy's tier; a policy of a tier that is not known may belong to the first.
func tierOf(p *policyv1alpha2.ClusterNetworkPolicy) policy.TierName {
	if p.Spec.Tier == "Baseline" {
		return policy.BaselineTier
	}
	return policy.AdminTier
}

// sound reports whether it is clear which pods the policy is for, and where it stands in the order.
func sound(p *policyv1alpha2.ClusterNetworkPolicy) bool {
	return (p.Spec.Tier == "Admin" || p.Spec.Tier == "Baseline") &&
		p.Spec.Priority >= 0 && p.Spec.Priority <= 1000 && subjectUnderstood(p)
}

func subjectUnderstood(p *policyv1alpha2.ClusterNetworkPolicy) bool {
	sub := p.Spec.Subject
	if sub.Namespaces != nil && sub.Pods == nil {
		return understood(sub.Namespaces)
	}
	if sub.Pods != nil && sub.Namespaces == nil {
		return understood(&sub.Pods.NamespaceSelector) && understood(&sub.Pods.PodSelector)
	}
	return false
}

// mayApply reports whether the pod is a subject, as far as the subject can be understood.
func mayApply(c *Cluster, p *policyv1alpha2.ClusterNetworkPolicy, own *corev1.Pod) bool {
	sub := p.Spec.Subject
	if (sub.Namespaces == nil) == (sub.Pods == nil) {
		return true
	}
	nsLabels := namespaceLabels(c, own.Namespace)
	if sub.Namespaces != nil {
		return !understood(sub.Namespaces) || selects(sub.Namespaces, nsLabels)
	}
	inNamespace := !understood(&sub.Pods.NamespaceSelector) || selects(&sub.Pods.NamespaceSelector, nsLabels)
	isPod := !understood(&sub.Pods.PodSelector) || selects(&sub.Pods.PodSelector, podLabels(c, own))
	return inNamespace && isPod
}

// clusterRule is a rule of either direction.
type clusterRule struct {
	action    policyv1alpha2.ClusterNetworkPolicyRuleAction
	peers     []policyv1alpha2.ClusterNetworkPolicyEgressPeer
	protocols []policyv1alpha2.ClusterNetworkPolicyProtocol
}

func rulesOf(p *policyv1alpha2.ClusterNetworkPolicy, d policy.Direction) []clusterRule {
	var out []clusterRule
	if d == policy.Egress {
		for _, r := range p.Spec.Egress {
			out = append(out, clusterRule{r.Action, r.To, r.Protocols})
		}
		return out
	}
	for _, r := range p.Spec.Ingress {
		rule := clusterRule{action: r.Action, protocols: r.Protocols}
		for _, from := range r.From {
			rule.peers = append(rule.peers, policyv1alpha2.ClusterNetworkPolicyEgressPeer{Namespaces: from.Namespaces, Pods: from.Pods})
		}
		out = append(out, rule)
	}
	return out
}

// ruleVerdict is what the rule says of the flow, if it matches. `For "Accept" rules, "fail
// closed" means: "treat the rule as matching no traffic". For "Deny" and "Pass" rules,
// "fail closed" means: "treat the rule as a 'Deny all' rule".` A rule that denies, or will in a
// policy that is not sound, is about all that pods say of their addresses; the others are not.
func ruleVerdict(c *Cluster, r clusterRule, f policy.Flow, d policy.Direction, sound bool) (policy.Verdict, bool) {
	if !ruleUnderstood(r) {
		return policy.Deny, r.action != "Accept"
	}
	pod := allowedPodAt
	if r.action != "Accept" && (r.action != "Pass" || !sound) {
		pod = PodAt
	}
	inPeers := false
	for _, p := range r.peers {
		inPeers = inPeers || isClusterPeer(c, p, peer(f, d), pod(c, peer(f, d)))
	}
	destination := pod(c, f.Destination)
	if d == policy.Ingress {
		destination = PodAt(c, f.Destination) // the subject itself
	}
	inProtocols := len(r.protocols) == 0
	for _, p := range r.protocols {
		inProtocols = inProtocols || isProtocol(p, f, destination)
	}
	switch r.action {
	case "Accept":
		return policy.Allow, inPeers && inProtocols
	case "Pass":
		return policy.Pass, inPeers && inProtocols
	default:
		return policy.Deny, inPeers && inProtocols
	}
}

func ruleUnderstood(r clusterRule) bool {
	if len(r.peers) == 0 {
		return false
	}
	elsewhere := false
	for _, p := range r.peers {
		if !peerUnderstood(p) {
			return false
		}
		elsewhere = elsewhere || p.Nodes != nil || len(p.Networks) > 0
	}
	for _, p := range r.protocols {
		if !protocolUnderstood(p) || elsewhere && p.DestinationNamedPort != "" {
			return false
		}
	}
	return true
}

func peerUnderstood(p policyv1alpha2.ClusterNetworkPolicyEgressPeer) bool {
	fields, ok := 0, true
	if p.Namespaces != nil {
		fields++
		ok = ok && understood(p.Namespaces)
	}
	if p.Pods != nil {
		fields++
		ok = ok && understood(&p.Pods.NamespaceSelector) && understood(&p.Pods.PodSelector)
	}
	if p.Nodes != nil {
		fields++
		ok = ok && understood(p.Nodes)
	}
	if len(p.Networks) > 0 {
		fields++
		for _, n := range p.Networks {
			_, valid := cidr(string(n))
			ok = ok && valid
		}
	}
	return ok && fields == 1 && len(p.DomainNames) == 0
}

func isClusterPeer(c *Cluster, p policyv1alpha2.ClusterNetworkPolicyEgressPeer, a netip.Addr, pod *corev1.Pod) bool {
	for _, n := range p.Networks {
		if block, _ := cidr(string(n)); block.Contains(a) {
			return true
		}
	}
	if p.Nodes != nil {
		for _, n := range c.Nodes {
			if has(c, n, a) && selects(p.Nodes, n.Labels) {
				return true
			}
		}
	}
	if pod == nil {
		return false
	}
	if p.Namespaces != nil {
		return selects(p.Namespaces, namespaceLabels(c, pod.Namespace))
	}
	return p.Pods != nil && selects(&p.Pods.NamespaceSelector, namespaceLabels(c, pod.Namespace)) &&
		selects(&p.Pods.PodSelector, podLabels(c, pod))
}

// port is the protocol and the range of a match that is not by name.
func port(p policyv1alpha2.ClusterNetworkPolicyProtocol) (policy.Protocol, *policyv1alpha2.Port) {
	switch {
	case p.TCP != nil:
		return policy.TCP, p.TCP.DestinationPort
	case p.UDP != nil:
		return policy.UDP, p.UDP.DestinationPort
	case p.SCTP != nil:
		return policy.SCTP, p.SCTP.DestinationPort
	default:
		return 0, nil
	}
}

func protocolUnderstood(p policyv1alpha2.ClusterNetworkPolicyProtocol) bool {
	fields := 0
	for _, set := range []bool{p.TCP != nil, p.UDP != nil, p.SCTP != nil, p.DestinationNamedPort != ""} {
		if set {
			fields++
		}
	}
	if fields != 1 {
		return false
	}
	if p.DestinationNamedPort != "" {
		return len(validation.IsValidPortName(p.DestinationNamedPort)) == 0
	}
	_, match := port(p)
	if match == nil || (match.Number == 0) == (match.Range == nil) {
		return false
	}
	if match.Range == nil {
		return match.Number >= 1 && match.Number <= 65535
	}
	return match.Range.Start >= 1 && match.Range.Start < match.Range.End && match.Range.End <= 65535
}

func isProtocol(p policyv1alpha2.ClusterNetworkPolicyProtocol, f policy.Flow, destination *corev1.Pod) bool {
	if p.DestinationNamedPort != "" {
		return hasNamedPort(destination, f, p.DestinationNamedPort)
	}
	protocol, match := port(p)
	if protocol != f.Protocol {
		return false
	}
	wanted := int32(f.DestinationPort)
	if match.Range != nil {
		return match.Range.Start <= wanted && wanted <= match.Range.End
	}
	return match.Number == wanted
}
