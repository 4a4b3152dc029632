package compile

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/tierwall/tierwall/policy"
)

// NetworkPolicyKind is the Kind in the RuleID of a NetworkPolicy's rules.
const NetworkPolicyKind = "NetworkPolicy"

// networkPolicy is a NetworkPolicy that was read (networking.k8s.io/v1).
type networkPolicy struct {
	id       policy.RuleID
	subject  selector
	isolates [2]bool
	rules    [2][]rule
	named    [2]bool // some rule of the direction goes by port name
	size     [2]int  // of the direction's rules, in entries
	written  int     // of the whole policy, in entries
	number   uint64  // tells it from every other policy of its kind, whoever else has had its name
}

// parseNetworkPolicy reads a policy. What cannot be understood allows nothing, and the
// policy still isolates. When it is the subject that cannot be understood it
// isolates every pod of the namespace, since it might have meant any. One that is over its budget
// isolates its subjects and is read no further.
func parseNetworkPolicy(np *networkingv1.NetworkPolicy) (*networkPolicy, []policy.Problem) {
	r := &reporter{object: policy.RuleID{Kind: NetworkPolicyKind, Namespace: np.Namespace, Name: np.Name}}
	out := &networkPolicy{id: r.object}
	if reportSize(NetworkPolicySize(np), r) {
		np = closedNetworkPolicy(np)
	}
	subject, ok := parseSelector(&np.Spec.PodSelector, "/spec/podSelector", r)
	out.subject = subject
	var applies [2]bool
	applies, out.isolates = policyTypes(np, r)
	for i, in := range np.Spec.Ingress {
		out.add(policy.Ingress, i, "from", in.From, in.Ports, r)
	}
	for i, eg := range np.Spec.Egress {
		out.add(policy.Egress, i, "to", eg.To, eg.Ports, r)
	}
	for _, d := range policy.Directions {
		if !ok || !applies[d] {
			out.rules[d] = nil
		}
	}
	for _, d := range policy.Directions {
		if reportSetsPerPod(d, out.rules[d], r) {
			out.rules[d] = nil
		}
	}
	out.named, out.size, out.written = named(out.rules), sizes(out.rules), NetworkPolicySize(np)
	return out, r.all()
}

// policyTypes are the directions whose rules apply and those that are isolated. They differ
// for an unknown type, which might have meant either direction.
func policyTypes(np *networkingv1.NetworkPolicy, r *reporter) (applies, isolates [2]bool) {
	spec := &np.Spec
	if len(spec.PolicyTypes) == 0 { // as the API server defaults it
		both := [2]bool{policy.Ingress: true, policy.Egress: len(spec.Egress) > 0}
		return both, both
	}
	unknown := false
	for i, t := range spec.PolicyTypes {
		switch t {
		case networkingv1.PolicyTypeIngress:
			applies[policy.Ingress] = true
		case networkingv1.PolicyTypeEgress:
			applies[policy.Egress] = true
		default:
			r.report(item("/spec/policyTypes", i), "unknown policy type %q: want Ingress or Egress", t)
			unknown = true
		}
	}
	isolates = applies
	if unknown {
		isolates = [2]bool{true, true}
	}
	for d, n := range [2]int{len(spec.Ingress), len(spec.Egress)} {
		if n > 0 && !isolates[d] {
			dir := policy.Direction(d)
			r.report(fieldOf(dir), "these rules never apply: policyTypes does not include %s", typeOf(dir))
		}
	}
	return applies, isolates
}

// fieldOf is the JSON pointer of the direction's rules, in policies of either kind.
func fieldOf(d policy.Direction) string { return "/spec/" + d.String() }

func typeOf(d policy.Direction) networkingv1.PolicyType {
	if d == policy.Egress {
		return networkingv1.PolicyTypeEgress
	}
	return networkingv1.PolicyTypeIngress
}

func (p *networkPolicy) add(d policy.Direction, i int, list string, peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort, r *reporter) {
	field := item(fieldOf(d), i)
	id := p.id
	id.Field = field
	out := rule{id: id, verdict: policy.Allow, anyPeer: len(peers) == 0, anyPort: len(ports) == 0}
	for j := range peers {
		if def, ok := parsePeer(&peers[j], p.id.Namespace, item(field+"/"+list, j), r); ok {
			out.peers = append(out.peers, def)
		}
	}
	for j := range ports {
		if match, ok := parsePort(&ports[j], item(field+"/ports", j), r); ok {
			out.ports = append(out.ports, match)
		}
	}
	if !out.matchesNothing() {
		p.rules[d] = append(p.rules[d], out)
	}
}

func parsePeer(p *networkingv1.NetworkPolicyPeer, namespace, field string, r *reporter) (*definition, bool) {
	selects := p.PodSelector != nil || p.NamespaceSelector != nil
	switch {
	case p.IPBlock != nil && selects:
		r.report(field, "ipBlock cannot be combined with podSelector or namespaceSelector")
		return nil, false
	case p.IPBlock != nil:
		return parseIPBlock(p.IPBlock, field+"/ipBlock", r)
	case !selects:
		r.report(field, "a peer needs a podSelector, a namespaceSelector or an ipBlock")
		return nil, false
	}
	namespaces, pods := nameIs(namespace), selector{}
	ok := true
	if p.NamespaceSelector != nil {
		namespaces, ok = parseSelector(p.NamespaceSelector, field+"/namespaceSelector", r)
	}
	if p.PodSelector != nil {
		var podsOK bool
		pods, podsOK = parseSelector(p.PodSelector, field+"/podSelector", r)
		ok = ok && podsOK
	}
	return podSet(namespaces, pods), ok
}

func parseIPBlock(b *networkingv1.IPBlock, field string, r *reporter) (*definition, bool) {
	cidr, err := parseCIDR(b.CIDR)
	if err != nil {
		r.report(field+"/cidr", "%v", err)
	}
	ok := err == nil
	var excepts []netip.Prefix
	for i, text := range b.Except {
		at := item(field+"/except", i)
		except, err := parseCIDR(text)
		switch {
		case err != nil:
			r.report(at, "%v", err)
			ok = false
		case cidr.IsValid() && (!cidr.Contains(except.Addr()) || except.Bits() <= cidr.Bits()):
			r.report(at, "%s must be a strict subset of the cidr %s", except, cidr)
			ok = false
		}
		excepts = append(excepts, except)
	}
	if !ok {
		return nil, false
	}
	networks, ok := block(cidr, excepts)
	if !ok {
		r.report(field+"/except", "nothing remains of %s", cidr)
		return nil, false
	}
	return networkSet(networks), true
}

// protocols are those that policies can name.
var protocols = map[corev1.Protocol]policy.Protocol{
	corev1.ProtocolTCP:  policy.TCP,
	corev1.ProtocolUDP:  policy.UDP,
	corev1.ProtocolSCTP: policy.SCTP,
}

func parsePort(p *networkingv1.NetworkPolicyPort, field string, r *reporter) (portMatch, bool) {
	out := portMatch{protocol: policy.TCP, last: policy.MaxPort}
	ok := true
	fail := func(at, format string, args ...any) {
		r.report(field+at, format, args...)
		ok = false
	}
	if p.Protocol != nil {
		if out.protocol, ok = protocols[*p.Protocol]; !ok {
			fail("/protocol", "unknown protocol %q: want TCP, UDP or SCTP", *p.Protocol)
		}
	}
	switch {
	case p.Port == nil:
		if p.EndPort != nil {
			fail("/endPort", "endPort needs a port to start from")
		}
	case p.Port.Type == intstr.String:
		out.name = p.Port.StrVal
		for _, msg := range validation.IsValidPortName(out.name) {
			fail("/port", "%q is not a port name: %s", out.name, msg)
		}
		if p.EndPort != nil {
			fail("/endPort", "endPort needs a port number, not the name %q", out.name)
		}
	default:
		end := p.Port.IntVal
		if p.EndPort != nil {
			end = *p.EndPort
		}
		switch {
		case !validPort(p.Port.IntVal):
			fail("/port", "port %d is not between 1 and %d", p.Port.IntVal, policy.MaxPort)
		case !validPort(end):
			fail("/endPort", "endPort %d is not between 1 and %d", end, policy.MaxPort)
		case end < p.Port.IntVal:
			fail("/endPort", "endPort %d is below port %d", end, p.Port.IntVal)
		}
		out.first, out.last = uint16(p.Port.IntVal), uint16(end)
	}
	return out, ok
}

func validPort(n int32) bool { return n >= 1 && n <= policy.MaxPort }
