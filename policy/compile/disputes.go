package compile

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/tierwall/tierwall/policy"
)

// PodKind is the Kind in the RuleID of a problem with what a pod's status says.
const PodKind = "Pod"

// maxAddressProblems is how many problems with addresses are reported.
const maxAddressProblems = 100

// addressProblems are the addresses of the pod's status that it does not have, or not as a peer of rules that allow.
func addressProblems(p *Pod, n *NodeNetworks, ownerOf func(netip.Addr) *Pod) []policy.Problem {
	var out []policy.Problem
	report := func(format string, args ...any) {
		id := policy.RuleID{Kind: PodKind, Namespace: p.Namespace, Name: p.Name, Field: "/status/podIPs"}
		out = append(out, policy.Problem{ID: id, Message: fmt.Sprintf(format, args...)})
	}
	for _, a := range claimed(p) {
		switch place, owner := n.place(p, a), ownerOf(a); {
		case place == Unusable && canBePods(a):
			report("%v is a node's address: the pod does not have it", a)
		case place == Unusable:
			report("%v cannot be the address of a pod", a)
		case owner != p && p.Terminating: // its successor has the address
		case owner != p:
			report("%v belongs to pod %s/%s: the pod does not have it", a, owner.Namespace, owner.Name)
		case place == Foreign:
			report("%v is outside of the podCIDRs of the pod's node %q: rules that allow do not match it", a, p.Node)
		}
	}
	return out
}

// noteDispute notes whether the pod has addresses to report: on this node, or on one that does not exist.
func (c *commit) noteDispute(m *member) {
	_, before := c.disputed[m]
	now := !m.gone && (m.partial || m.foreign) && (c.node == "" || m.pod.Node == c.node || c.networks.nodes[m.pod.Node] == nil)
	if now {
		c.disputed[m] = struct{}{}
	} else {
		delete(c.disputed, m)
	}
	c.disputesChanged = c.disputesChanged || before || now
}

// AddressProblemsChanged reports whether the last commit may have changed AddressProblems.
func (e *Engine) AddressProblemsChanged() bool { return e.disputesChanged }

// AddressProblems are addresses that pods of the node, or of nodes that do not exist, report and do not have, or not as
// peers of rules that allow; and how many pods report such. The list is bounded.
func (e *Engine) AddressProblems() (problems []policy.Problem, pods int) {
	for m := range e.disputed {
		found := addressProblems(m.pod, e.networks, func(a netip.Addr) *Pod {
			if owner := e.claims.owners.of(a); owner != nil {
				return owner.pod
			}
			return nil
		})
		if len(found) > 0 {
			pods++
		}
		problems = append(problems, found...)
	}
	return boundProblems(problems), pods
}

func boundProblems(problems []policy.Problem) []policy.Problem {
	slices.SortFunc(problems, func(a, b policy.Problem) int {
		return cmp.Or(cmp.Compare(a.ID.String(), b.ID.String()), cmp.Compare(a.Message, b.Message))
	})
	return problems[:min(len(problems), maxAddressProblems)]
}
