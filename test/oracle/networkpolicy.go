package oracle

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
)

// networkPolicies is Allow if a policy that selects the pod for this direction allows the
// flow, Deny if some select it and none allows, and Pass if none selects it.
func networkPolicies(s *compile.Snapshot, f policy.Flow, d policy.Direction, own *compile.Pod) policy.Verdict {
	verdict := policy.Pass
	for _, np := range s.NetworkPolicies {
		if np.Namespace != own.Namespace || !affects(np, d) {
			continue
		}
		if !understood(&np.Spec.PodSelector, "") {
			verdict = keepAllow(verdict) // it may mean any pod of the namespace
			continue
		}
		if !selects(&np.Spec.PodSelector, podLabels(s, own)) {
			continue
		}
		verdict = keepAllow(verdict)
		if allows(s, np, f, d) {
			verdict = policy.Allow
		}
	}
	return verdict
}

// keepAllow is what becomes of a verdict when one more policy isolates.
func keepAllow(v policy.Verdict) policy.Verdict {
	if v == policy.Allow {
		return policy.Allow
	}
	return policy.Deny
}

// affects says whether the policy isolates in the direction. "If this field is not specified,
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

func allows(s *compile.Snapshot, np *networkingv1.NetworkPolicy, f policy.Flow, d policy.Direction) bool {
	if len(np.Spec.PolicyTypes) > 0 && !names(np, d) {
		return false
	}
	if d == policy.Ingress {
		for _, r := range np.Spec.Ingress {
			if anyPeer(s, np, r.From, f.Source) && anyPort(s, r.Ports, f) {
				return true
			}
		}
		return false
	}
	for _, r := range np.Spec.Egress {
		if anyPeer(s, np, r.To, f.Destination) && anyPort(s, r.Ports, f) {
			return true
		}
	}
	return false
}

// anyPeer: "If this field is empty or missing, this rule matches all sources."
func anyPeer(s *compile.Snapshot, np *networkingv1.NetworkPolicy, peers []networkingv1.NetworkPolicyPeer, a netip.Addr) bool {
	if len(peers) == 0 {
		return true
	}
	for _, p := range peers {
		if isPeer(s, np, p, a) {
			return true
		}
	}
	return false
}

func isPeer(s *compile.Snapshot, np *networkingv1.NetworkPolicy, p networkingv1.NetworkPolicyPeer, a netip.Addr) bool {
	if p.IPBlock != nil {
		return p.PodSelector == nil && p.NamespaceSelector == nil && inBlock(p.IPBlock, a)
	}
	if p.PodSelector == nil && p.NamespaceSelector == nil {
		return false
	}
	if p.PodSelector != nil && !understood(p.PodSelector, "") {
		return false
	}
	if p.NamespaceSelector != nil && !understood(p.NamespaceSelector, "") {
		return false
	}
	pod := PodAt(s, a)
	if pod == nil {
		return false
	}
	if p.NamespaceSelector == nil && pod.Namespace != np.Namespace {
		return false
	}
	if p.NamespaceSelector != nil && !selects(p.NamespaceSelector, namespaceLabels(s, pod.Namespace)) {
		return false
	}
	return p.PodSelector == nil || selects(p.PodSelector, podLabels(s, pod))
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
func anyPort(s *compile.Snapshot, ports []networkingv1.NetworkPolicyPort, f policy.Flow) bool {
	if len(ports) == 0 {
		return true
	}
	for _, p := range ports {
		if isPort(s, p, f) {
			return true
		}
	}
	return false
}

func isPort(s *compile.Snapshot, p networkingv1.NetworkPolicyPort, f policy.Flow) bool {
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
		return p.EndPort == nil && len(validation.IsValidPortName(p.Port.StrVal)) == 0 && hasNamedPort(s, f, p.Port.StrVal)
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

// hasNamedPort says whether the destination is a pod with a container port of the name that
// is the flow's.
func hasNamedPort(s *compile.Snapshot, f policy.Flow, name string) bool {
	pod := PodAt(s, f.Destination)
	if pod == nil {
		return false
	}
	for _, port := range pod.Ports {
		if port.Name == name && port.Protocol == f.Protocol && port.Port == f.DestinationPort {
			return true
		}
	}
	return false
}
