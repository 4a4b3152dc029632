package generate

import (
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"
)

func (g *generator) action() policyv1alpha2.ClusterNetworkPolicyRuleAction {
	if g.broken() {
		return "Log"
	}
	return pick(g.Rand,
		policyv1alpha2.ClusterNetworkPolicyRuleActionAccept,
		policyv1alpha2.ClusterNetworkPolicyRuleActionDeny,
		policyv1alpha2.ClusterNetworkPolicyRuleActionPass)
}

func (g *generator) clusterIngress() policyv1alpha2.ClusterNetworkPolicyIngressRule {
	r := policyv1alpha2.ClusterNetworkPolicyIngressRule{Action: g.action(), Protocols: g.protocols(true)}
	for range 1 + g.IntN(2) {
		p := g.clusterPodPeer()
		r.From = append(r.From, policyv1alpha2.ClusterNetworkPolicyIngressPeer{Namespaces: p.Namespaces, Pods: p.Pods})
	}
	if g.broken() {
		r.From = nil
	}
	return r
}

func (g *generator) clusterEgress() policyv1alpha2.ClusterNetworkPolicyEgressRule {
	r := policyv1alpha2.ClusterNetworkPolicyEgressRule{Action: g.action()}
	podsOnly := true
	for range 1 + g.IntN(2) {
		if g.chance(2) {
			r.To = append(r.To, g.clusterPodPeer())
			continue
		}
		podsOnly = false
		r.To = append(r.To, g.clusterOtherPeer())
	}
	r.Protocols = g.protocols(podsOnly || g.broken())
	if g.broken() {
		r.To = nil
	}
	return r
}

func (g *generator) clusterPodPeer() policyv1alpha2.ClusterNetworkPolicyEgressPeer {
	var p policyv1alpha2.ClusterNetworkPolicyEgressPeer
	both := g.broken()
	if g.broken() {
		return p
	}
	if g.chance(2) || both {
		s := g.namespaceSelector()
		p.Namespaces = &s
	}
	if p.Namespaces == nil || both {
		p.Pods = g.namespacedPod()
	}
	return p
}

func (g *generator) clusterOtherPeer() policyv1alpha2.ClusterNetworkPolicyEgressPeer {
	var p policyv1alpha2.ClusterNetworkPolicyEgressPeer
	if g.broken() {
		p.DomainNames = []policyv1alpha2.DomainName{"example.org"}
		return p
	}
	if g.chance(2) {
		s := g.selector([]string{"pool"}, nodeKeys)
		p.Nodes = &s
		return p
	}
	for range 1 + g.IntN(4) {
		p.Networks = append(p.Networks, policyv1alpha2.CIDR(pick(g.Rand, blocks...)))
	}
	if g.broken() {
		p.Networks = append(p.Networks, "10.0.0.0/40")
	}
	return p
}

func (g *generator) protocols(names bool) []policyv1alpha2.ClusterNetworkPolicyProtocol {
	if g.chance(3) {
		return nil
	}
	var out []policyv1alpha2.ClusterNetworkPolicyProtocol
	for range 1 + g.IntN(2) {
		out = append(out, g.protocol(names))
	}
	return out
}

func (g *generator) protocol(names bool) policyv1alpha2.ClusterNetworkPolicyProtocol {
	var p policyv1alpha2.ClusterNetworkPolicyProtocol
	if g.broken() {
		return p
	}
	if names && g.chance(4) {
		p.DestinationNamedPort = pick(g.Rand, portNames...)
		return p
	}
	port := g.clusterPort()
	switch g.IntN(4) {
	case 0:
		p.UDP = &policyv1alpha2.ClusterNetworkPolicyProtocolUDP{DestinationPort: port}
	case 1:
		p.SCTP = &policyv1alpha2.ClusterNetworkPolicyProtocolSCTP{DestinationPort: port}
	default:
		p.TCP = &policyv1alpha2.ClusterNetworkPolicyProtocolTCP{DestinationPort: port}
	}
	return p
}

func (g *generator) clusterPort() *policyv1alpha2.Port {
	if g.broken() {
		return pick(g.Rand, nil, &policyv1alpha2.Port{}, &policyv1alpha2.Port{Number: 65536},
			&policyv1alpha2.Port{Range: &policyv1alpha2.PortRange{Start: 81, End: 80}},
			&policyv1alpha2.Port{Range: &policyv1alpha2.PortRange{Start: 0, End: 80}},
			&policyv1alpha2.Port{Number: 80, Range: &policyv1alpha2.PortRange{Start: 80, End: 81}})
	}
	if g.chance(2) {
		return &policyv1alpha2.Port{Number: pick(g.Rand, portEdges...)}
	}
	start := min(pick(g.Rand, portEdges...), 65534)
	return &policyv1alpha2.Port{Range: &policyv1alpha2.PortRange{Start: start, End: min(start+1+int32(g.IntN(3)), 65535)}}
}
