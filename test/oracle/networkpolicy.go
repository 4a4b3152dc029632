package oracle

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/tierwall/tierwall/policy"
)

// networkPolicies is Allow if a policy that selects the pod for this direction allows the
// flow, Deny if some select it and none allows, and Pass if none selects it.
func networkPolicies(c *Cluster, f policy.Flow, d policy.Direction, own *corev1.Pod) Answer {
	var isolating, allowing []policy.RuleID
	for _, np := range c.NetworkPolicies {
		if np.Namespace != own.Namespace || !affects(np, d) {
			continue
		}
		if sound := understood(&np.Spec.PodSelector); sound && !selects(&np.Spec.PodSelector, podLabels(c, own)) {
			continue
		} else if sound { // else it may mean any pod of the namespace, and allows none
			allowing = append(allowing, allows(c, np, f, d)...)
		}
		isolating = append(isolating, ruleID("NetworkPolicy", np, "/spec/"+d.String()))
	}
	switch {
	case len(allowing) > 0:
		return Answer{Verdict: policy.Allow, Tier: policy.NetworkPolicyTier, Rules: allowing}
	case len(isolating) > 0:
		return Answer{Verdict: policy.Deny, Tier: policy.NetworkPolicyTier, Rules: isolating}
	default:
		return Answer{Verdict: policy.Pass}
	}
}

func ruleID(kind string, object metav1.Object, field string) policy.RuleID {
	return policy.RuleID{Kind: kind, Namespace: object.GetNamespace(), Name: object.GetName(), Field: field}
}

// affects reports whether the policy isolates in the direction. "If this field is not specified,
// policies that contain an egress section are assumed to affect egress, and all policies are assumed
// to affect ingress." A type that is not known may mean either direction.
func affects(np *networkingv1.NetworkPolicy, d policy.Direction) bool {
	types := np.Spec.PolicyTypes
	if len(types) == 0 {
		return d == policy.Ingress || len(np.Spec.Egress) > 0
	}
	for _, t := range types {
		if t != networkingv1.PolicyTypeIngress && t != networkingv1.PolicyTypeEgress {
			return true
		}
	}
	return names(np, d)
}

func names(np *networkingv1.NetworkPolicy, d policy.Direction) bool {
	want := networkingv1.PolicyTypeIngress
	if d == policy.Egress {
		want = networkingv1.PolicyTypeEgress
	}
	return slices.Contains(np.Spec.PolicyTypes, want)
}

// allows are the rules of the policy that allow the flow.
func allows(c *Cluster, np *networkingv1.NetworkPolicy, f policy.Flow, d policy.Direction) []policy.RuleID {
	var rules []policy.RuleID
	if len(np.Spec.PolicyTypes) > 0 && !names(np, d) {
		return nil
	}
	if d == policy.Ingress {
		for i, r := range np.Spec.Ingress {
			if anyPeer(c, np, r.From, f.Source) && anyPort(r.Ports, f, PodAt(c, f.Destination)) {
				rules = append(rules, ruleID("NetworkPolicy", np, fmt.Sprintf("/spec/ingress/%d", i)))
			}
		}
		return rules
	}
	for i, r := range np.Spec.Egress {
		if anyPeer(c, np, r.To, f.Destination) && anyPort(r.Ports, f, allowedPodAt(c, f.Destination)) {
			rules = append(rules, ruleID("NetworkPolicy", np, fmt.Sprintf("/spec/egress/%d", i)))
		}
	}
	return rules
}

// anyPeer: "If this field is empty or missing, this rule matches all sources."
func anyPeer(c *Cluster, np *networkingv1.NetworkPolicy, peers []networkingv1.NetworkPolicyPeer, a netip.Addr) bool {
	if len(peers) == 0 {
		return true
	}
	for _, p := range peers {
		if isPeer(c, np, p, a) {
			return true
		}
	}
	return false
}

func isPeer(c *Cluster, np *networkingv1.NetworkPolicy, p networkingv1.NetworkPolicyPeer, a netip.Addr) bool {
	if p.IPBlock != nil {
		return p.PodSelector == nil && p.NamespaceSelector == nil && inBlock(p.IPBlock, a)
	}
	if p.PodSelector == nil && p.NamespaceSelector == nil {
		return false
	}
	if p.PodSelector != nil && !understood(p.PodSelector) {
		return false
	}
	if p.NamespaceSelector != nil && !understood(p.NamespaceSelector) {
		return false
	}
	pod := allowedPodAt(c, a)
	if pod == nil {
		return false
	}
	if p.NamespaceSelector == nil && pod.Namespace != np.Namespace {
		return false
	}
	if p.NamespaceSelector != nil && !selects(p.NamespaceSelector, namespaceLabels(c, pod.Namespace)) {
		return false
	}
	return p.PodSelector == nil || selects(p.PodSelector, podLabels(c, pod))
}

// inBlock: "Except values will be rejected if they are outside the cidr range."
func inBlock(b *networkingv1.IPBlock, a netip.Addr) bool {
	block, ok := cidr(b.CIDR)
	if !ok {
		return false
	}
	excepted := false
	for _, text := range b.Except {
		except, ok := cidr(text)
		if !ok || except.Bits() <= block.Bits() || !block.Contains(except.Addr()) {
			return false
		}
		excepted = excepted || except.Contains(a)
	}
	return block.Contains(a) && !excepted
}

// anyPort: "If this field is empty or missing, this rule matches all ports."
func anyPort(ports []networkingv1.NetworkPolicyPort, f policy.Flow, destination *corev1.Pod) bool {
	if len(ports) == 0 {
		return true
	}
	for _, p := range ports {
		if isPort(p, f, destination) {
			return true
		}
	}
	return false
}

func isPort(p networkingv1.NetworkPolicyPort, f policy.Flow, destination *corev1.Pod) bool {
	protocol := corev1.ProtocolTCP // "If not specified, this field defaults to TCP."
	if p.Protocol != nil {
		protocol = *p.Protocol
	}
	if string(protocol) != f.Protocol.String() || !f.Protocol.HasPorts() {
		return false
	}
	if p.Port == nil {
		return p.EndPort == nil // "This field cannot be defined if the port field is not defined"
	}
	if p.Port.Type == intstr.String {
		return p.EndPort == nil && len(validation.IsValidPortName(p.Port.StrVal)) == 0 && hasNamedPort(destination, f, p.Port.StrVal)
	}
	first, last := p.Port.IntVal, p.Port.IntVal
	if p.EndPort != nil {
		last = *p.EndPort
	}
	if first < 1 || last > 65535 || last < first {
		return false
	}
	return first <= int32(f.DestinationPort) && int32(f.DestinationPort) <= last
}

// hasNamedPort reports whether the destination is a pod with a container port of the name that
// is the flow's. Init containers have ended when the others run, but for those that
// restart always (KEP-753, sidecar containers).
func hasNamedPort(pod *corev1.Pod, f policy.Flow, name string) bool {
	if pod == nil {
		return false
	}
	running := slices.Clone(pod.Spec.Containers)
	for _, init := range pod.Spec.InitContainers {
		if init.RestartPolicy != nil && *init.RestartPolicy == "Always" {
			running = append(running, init)
		}
	}
	for _, container := range running {
		for _, port := range container.Ports {
			protocol := port.Protocol
			if protocol == "" {
				protocol = "TCP" // "Defaults to TCP."
			}
			if port.Name == name && string(protocol) == f.Protocol.String() && port.ContainerPort == int32(f.DestinationPort) {
				return true
			}
		}
	}
	return false
}
