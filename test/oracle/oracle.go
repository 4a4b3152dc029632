// Package oracle says what policies do to a flow, read naively from the text of the
// APIs, object by object and flow by flow. It is slow and obvious, and shares no code with
// the compiler, the evaluator or the computation of roles, so that a comparison of them with
// it means something.
package oracle

import (
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
)

// Decide is the verdict on a flow: the egress of its source and the ingress of its
// destination must both allow it.
func Decide(s *compile.Snapshot, f policy.Flow) policy.Verdict {
	if Egress(s, f) == policy.Allow && Ingress(s, f) == policy.Allow {
		return policy.Allow
	}
	return policy.Deny
}

// Egress is the verdict of the source's side of the flow.
func Egress(s *compile.Snapshot, f policy.Flow) policy.Verdict {
	if toItself(s, f) {
		return policy.Allow
	}
	source := PodAt(s, f.Source)
	if source == nil {
		return notAPod(s, f.Source)
	}
	return judge(s, f, policy.Egress, source)
}

// Ingress is the verdict of the destination's side of the flow.
func Ingress(s *compile.Snapshot, f policy.Flow) policy.Verdict {
	if toItself(s, f) {
		return policy.Allow
	}
	destination := PodAt(s, f.Destination)
	for _, n := range s.Nodes { // a node reaches its own pods
		if !slices.Contains(n.Addrs, f.Source) {
			continue
		}
		if destination != nil && destination.Node == n.Name {
			return policy.Allow
		}
		if destination == nil && inPodNetwork(n, f.Destination) {
			return policy.Allow
		}
	}
	if destination == nil {
		return notAPod(s, f.Destination)
	}
	return judge(s, f, policy.Ingress, destination)
}

func toItself(s *compile.Snapshot, f policy.Flow) bool {
	source, destination := PodAt(s, f.Source), PodAt(s, f.Destination)
	return source != nil && source == destination
}

// notAPod is the verdict for an address that no known pod has.
func notAPod(s *compile.Snapshot, a netip.Addr) policy.Verdict {
	for _, n := range s.Nodes {
		if slices.Contains(n.Addrs, a) {
			return policy.Allow
		}
	}
	for _, n := range s.Nodes {
		if inPodNetwork(n, a) && s.Defaults.Action != policy.Allow {
			return policy.Deny // a pod that is not known yet
		}
	}
	return policy.Allow
}

func inPodNetwork(n *compile.Node, a netip.Addr) bool {
	for _, p := range n.PodCIDRs {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// PodAt is the pod that an address belongs to, or nil. Pods on the host network have no address
// of their own, ended pods have none any more. Of several that claim it, it is the one
// that is not terminating, then the newest, then the one with the smallest UID.
func PodAt(s *compile.Snapshot, a netip.Addr) *compile.Pod {
	var owner *compile.Pod
	for _, p := range s.Pods {
		if p.HostNetwork || p.Ended {
			continue
		}
		for _, own := range p.Addrs {
			if own.Unmap() == a && (owner == nil || newer(p, owner)) {
				owner = p
			}
		}
	}
	return owner
}

func newer(a, b *compile.Pod) bool {
	if a.Terminating != b.Terminating {
		return b.Terminating
	}
	if a.Created != b.Created {
		return a.Created > b.Created
	}
	return a.UID < b.UID
}

// judge asks the tiers in turn: Admin, NetworkPolicy, Baseline, and last the default.
func judge(s *compile.Snapshot, f policy.Flow, d policy.Direction, own *compile.Pod) policy.Verdict {
	if v := clusterTier(s, f, d, own, "Admin"); v != policy.Pass {
		return v
	}
	if v := networkPolicies(s, f, d, own); v != policy.Pass {
		return v
	}
	if v := clusterTier(s, f, d, own, "Baseline"); v != policy.Pass {
		return v
	}
	if slices.Contains(s.Defaults.Exempt, own.Namespace) {
		return policy.Allow
	}
	if v, ok := s.Defaults.Namespaces[own.Namespace]; ok {
		return v
	}
	return s.Defaults.Action
}

// peer is the address of the other side.
func peer(f policy.Flow, d policy.Direction) netip.Addr {
	if d == policy.Ingress {
		return f.Source
	}
	return f.Destination
}

// podLabels are the labels that selectors see: the pod's, but for the role, which is computed.
func podLabels(s *compile.Snapshot, p *compile.Pod) labels.Set {
	seen := labels.Set{}
	for k, v := range p.Labels {
		if k != "tierwall.io/tier-role" {
			seen[k] = v
		}
	}
	if role := roleOf(s, p); role != "" {
		seen["tierwall.io/tier-role"] = role
	}
	return seen
}

// roleOf is the role of the most specific TierRole that binds the pod: one that names service
// accounts, then one with a pod selector, then one with namespaces alone; then the first by name.
func roleOf(s *compile.Snapshot, p *compile.Pod) string {
	role, best := "", ""
	for _, tr := range s.TierRoles {
		if tr.Spec.PodSelector != nil && !understood(tr.Spec.PodSelector, "tierwall.io/tier-role") {
			continue
		}
		if !slices.Contains(tr.Spec.Namespaces, p.Namespace) {
			continue
		}
		account := p.ServiceAccount
		if account == "" {
			account = "default"
		}
		if len(tr.Spec.ServiceAccounts) > 0 && !slices.Contains(tr.Spec.ServiceAccounts, account) {
			continue
		}
		if tr.Spec.PodSelector != nil && !selects(tr.Spec.PodSelector, p.Labels) {
			continue
		}
		rank := "3"
		if tr.Spec.PodSelector != nil {
			rank = "2"
		}
		if len(tr.Spec.ServiceAccounts) > 0 {
			rank = "1"
		}
		if rank += tr.Name; best == "" || strings.Compare(rank, best) < 0 {
			best, role = rank, tr.Spec.Role
		}
	}
	return role
}

// namespaceLabels are those of the namespace; one that is not known has its name only.
func namespaceLabels(s *compile.Snapshot, name string) labels.Set {
	for _, n := range s.Namespaces {
		if n.Name == name {
			return n.Labels
		}
	}
	return labels.Set{"kubernetes.io/metadata.name": name}
}
