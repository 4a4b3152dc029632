package main

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"
)

var actions = []policyv1alpha2.ClusterNetworkPolicyRuleAction{
	policyv1alpha2.ClusterNetworkPolicyRuleActionAccept, policyv1alpha2.ClusterNetworkPolicyRuleActionDeny, policyv1alpha2.ClusterNetworkPolicyRuleActionPass,
}

// clusterPolicy is the n-th ClusterNetworkPolicy of a part, as large as its CRD allows.
func (p Part) clusterPolicy(name string, n int) *policyv1alpha2.ClusterNetworkPolicy {
	cnp := &policyv1alpha2.ClusterNetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: name}}
	cnp.TypeMeta = metav1.TypeMeta{APIVersion: "policy.networking.k8s.io/v1alpha2", Kind: "ClusterNetworkPolicy"}
	cnp.Spec.Tier, cnp.Spec.Priority = policyv1alpha2.AdminTier, int32(n%1000)
	subject := p.subject(n)
	cnp.Spec.Subject.Pods = &policyv1alpha2.NamespacedPod{PodSelector: subject}
	for i := range min(p.Rules, inList) {
		at := n*p.Rules + i
		action := actions[i%max(1, min(p.Actions, len(actions)))]
		var ports []policyv1alpha2.ClusterNetworkPolicyProtocol
		for j := range min(p.Ports, inList) {
			ports = append(ports, p.protocol(at*p.PortStep+j))
		}
		var to []policyv1alpha2.ClusterNetworkPolicyEgressPeer
		var from []policyv1alpha2.ClusterNetworkPolicyIngressPeer
		for j := range min(p.Peers, inList) {
			peer := p.clusterPeer(at*p.PeerStep + j)
			to = append(to, peer)
			from = append(from, policyv1alpha2.ClusterNetworkPolicyIngressPeer{Namespaces: peer.Namespaces, Pods: peer.Pods})
		}
		if p.Egress {
			cnp.Spec.Egress = append(cnp.Spec.Egress, policyv1alpha2.ClusterNetworkPolicyEgressRule{Action: action, To: to, Protocols: ports})
		} else {
			cnp.Spec.Ingress = append(cnp.Spec.Ingress, policyv1alpha2.ClusterNetworkPolicyIngressRule{Action: action, From: from, Protocols: ports})
		}
	}
	return cnp
}

func (p Part) clusterPeer(i int) policyv1alpha2.ClusterNetworkPolicyEgressPeer {
	var peer policyv1alpha2.ClusterNetworkPolicyEgressPeer
	switch {
	case (p.Peer == networks || p.Peer == lengths || p.Peer == exceptions) && p.Egress:
		for n := range inList {
			block := p
			if p.Peer == exceptions {
				block.Peer = networks // a ClusterNetworkPolicy has no exceptions
			}
			peer.Networks = append(peer.Networks, policyv1alpha2.CIDR(block.block(inList*i+n).CIDR))
		}
	case p.Peer == namespaces:
		s := p.selector(i)
		peer.Namespaces = &s
	default:
		peer.Pods = &policyv1alpha2.NamespacedPod{PodSelector: p.selector(i)}
	}
	return peer
}

func (p Part) protocol(i int) policyv1alpha2.ClusterNetworkPolicyProtocol {
	first, last := p.span(i)
	port := &policyv1alpha2.Port{Number: first}
	switch {
	case p.Port == gaps:
		port = &policyv1alpha2.Port{Range: &policyv1alpha2.PortRange{Start: 1, End: int32(2 + i%65000)}}
	case last > first:
		port = &policyv1alpha2.Port{Range: &policyv1alpha2.PortRange{Start: first, End: last}}
	}
	switch i % 3 {
	case 0:
		return policyv1alpha2.ClusterNetworkPolicyProtocol{TCP: &policyv1alpha2.ClusterNetworkPolicyProtocolTCP{DestinationPort: port}}
	case 1:
		return policyv1alpha2.ClusterNetworkPolicyProtocol{UDP: &policyv1alpha2.ClusterNetworkPolicyProtocolUDP{DestinationPort: port}}
	default:
		return policyv1alpha2.ClusterNetworkPolicyProtocol{SCTP: &policyv1alpha2.ClusterNetworkPolicyProtocolSCTP{DestinationPort: port}}
	}
}
