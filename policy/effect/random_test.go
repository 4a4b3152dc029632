package effect_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/policy/effect"
	"github.com/tierwall/tierwall/policy/roles"
	"github.com/tierwall/tierwall/test/generate"
	"github.com/tierwall/tierwall/test/oracle"
)

const (
	randomChanges  = 120
	flowsPerChange = 300
)

// An evaluator that shares no code with the compiler finds no newly allowed flow outside the rows.
func TestEveryNewlyAllowedFlowIsInARow(t *testing.T) {
	opened := 0
	forEachChange(t, func(seed uint64, before, after *compile.Snapshot) {
		e := effect.Compute(t.Context(), before, after)
		if !e.Complete {
			t.Fatalf("seed %d: incomplete: %v", seed, e.Incomplete)
		}
		if e.Truncated {
			return
		}
		first, second := oracleCluster(before), oracleCluster(after)
		for _, f := range generate.Flows(generate.NewRand(seed), after, flowsPerChange) {
			opened += checkFlow(t, seed, "added", e.Added, first, second, f)
			checkFlow(t, seed, "removed", e.Removed, second, first, f)
		}
	})
	if opened < randomChanges {
		t.Errorf("only %d flows were opened: the test shows nothing", opened)
	}
}

func oracleCluster(s *compile.Snapshot) *oracle.Cluster {
	return generate.Objects(generate.NewRand(0), s)
}

func forEachChange(t *testing.T, do func(seed uint64, before, after *compile.Snapshot)) {
	t.Helper()
	for seed := range uint64(randomChanges) {
		r := generate.NewRand(seed)
		before := generate.Cluster(r, generate.Small)
		do(seed, before, changedAtRandom(r, before))
	}
}

// changedAtRandom returns the cluster after one random change.
func changedAtRandom(r *rand.Rand, s *compile.Snapshot) *compile.Snapshot {
	after, other := *s, generate.Cluster(r, generate.Small)
	switch r.IntN(7) {
	case 0: // a policy is added or replaced
		after.NetworkPolicies = slices.Clone(s.NetworkPolicies)
		for _, np := range other.NetworkPolicies[:min(1, len(other.NetworkPolicies))] {
			after.NetworkPolicies = append(slices.DeleteFunc(after.NetworkPolicies, sameName(np)), np)
		}
	case 1: // a policy is removed
		after.NetworkPolicies = s.NetworkPolicies[min(1, len(s.NetworkPolicies)):]
	case 2:
		after.NetworkPolicies = other.NetworkPolicies
	case 3:
		after.ClusterNetworkPolicies = other.ClusterNetworkPolicies
	case 4:
		after.TierRoles = other.TierRoles
	case 5:
		after.Namespaces = other.Namespaces
	case 6: // a pod is relabelled
		after.Pods = slices.Clone(s.Pods)
		for i, p := range s.Pods {
			relabelled := *p
			relabelled.Labels = other.Pods[i].Labels
			after.Pods[i] = &relabelled
		}
	}
	return &after
}

func sameName(np *networkingv1.NetworkPolicy) func(*networkingv1.NetworkPolicy) bool {
	return func(o *networkingv1.NetworkPolicy) bool { return o.Namespace == np.Namespace && o.Name == np.Name }
}

// checkFlow fails if a flow that one side newly allows is in no row. It returns the number of rows that must exist.
func checkFlow(t *testing.T, seed uint64, list string, rows []effect.Row, first, second *oracle.Cluster, f policy.Flow) (wanted int) {
	t.Helper()
	source, destination := oracle.PodAt(second, f.Source), oracle.PodAt(second, f.Destination)
	if f.DestinationPort == 0 && f.Protocol.HasPorts() || source != nil && source == destination {
		return 0
	}
	if destination != nil && oracle.Ingress(second, f).Permits() && !oracle.Ingress(first, f).Permits() {
		wanted++
		findRow(t, seed, list, rows, effect.Ingress, second, f)
	}
	if source != nil && oracle.Egress(second, f).Permits() && !oracle.Egress(first, f).Permits() {
		wanted++
		findRow(t, seed, list, rows, effect.Egress, second, f)
	}
	return wanted
}

func findRow(t *testing.T, seed uint64, list string, rows []effect.Row, d effect.Direction, s *oracle.Cluster, f policy.Flow) {
	t.Helper()
	for _, row := range rows {
		if row.Direction == d && containsAddr(s, row.From, f.Source) && containsAddr(s, row.To, f.Destination) && hasPort(row, f) {
			return
		}
	}
	t.Errorf("seed %d: no %s row %s for %+v from %s to %s in\n%s", seed, list, d, f, ownerName(s, f.Source), ownerName(s, f.Destination), rowLines(rows))
}

// containsAddr reports whether a side of a row includes an address.
func containsAddr(s *oracle.Cluster, side effect.Peer, a netip.Addr) bool {
	if side.Kind == effect.CIDR {
		return netip.MustParsePrefix(side.Name).Contains(a) &&
			!slices.ContainsFunc(side.Except, func(e string) bool { return netip.MustParsePrefix(e).Contains(a) })
	}
	p := oracle.PodAt(s, a)
	if p == nil || p.Namespace != side.Namespace {
		return false
	}
	match := roles.New(s.TierRoles).Of(p.Namespace, p.Spec.ServiceAccountName, p.Labels)
	return match.Role == side.Role && labels.SelectorFromSet(side.Labels).Matches(labels.Set(match.Apply(p.Labels)))
}

func hasPort(row effect.Row, f policy.Flow) bool {
	for _, text := range row.Ports {
		protocol, numbers, _ := strings.Cut(text, "/")
		switch {
		case text == "any", text == "ICMP" && !f.Protocol.HasPorts():
			return true
		case protocol != f.Protocol.String():
			continue
		}
		first, last, isRange := strings.Cut(numbers, "-")
		if !isRange {
			last = first
		}
		var from, to uint16
		if _, err := fmt.Sscan(first, &from); err != nil {
			continue // a name
		}
		if _, err := fmt.Sscan(last, &to); err != nil {
			continue
		}
		if from <= f.DestinationPort && f.DestinationPort <= to {
			return true
		}
	}
	return false
}

func ownerName(s *oracle.Cluster, a netip.Addr) string {
	if p := oracle.PodAt(s, a); p != nil {
		return fmt.Sprintf("%s/%s %v", p.Namespace, p.Name, p.Labels)
	}
	return "the world"
}

// Each row between existing pods is about a flow that was not allowed before. Merged rows are left out, as they are
// about some of their pods only.
func TestEveryRowIsNewlyAllowed(t *testing.T) {
	seen := 0
	forEachChange(t, func(seed uint64, before, after *compile.Snapshot) {
		before, after = withoutForeignAddresses(before), withoutForeignAddresses(after)
		e := effect.Compute(t.Context(), before, after)
		first, second := oracleCluster(before), oracleCluster(after)
		if len(e.Added) >= effect.MaxRows/2 {
			return
		}
		for _, row := range e.Added {
			if row.From.Kind != effect.Workload || row.To.Kind != effect.Workload || row.From.Name == row.To.Name {
				continue
			}
			for _, text := range row.Ports {
				seen++
				if !opensFlow(first, second, row, text) {
					t.Errorf("seed %d: nothing opens %s of %s, via %v", seed, text, rowLines([]effect.Row{row}), row.Via)
				}
			}
		}
	})
	if seen < randomChanges/2 {
		t.Errorf("only %d ports of rows were looked at: the test shows nothing", seen)
	}
}

// opensFlow reports whether a flow between pods of the row is newly allowed by its side.
func opensFlow(before, after *oracle.Cluster, row effect.Row, port string) bool {
	side := oracle.Ingress
	if row.Direction == effect.Egress {
		side = oracle.Egress
	}
	for _, f := range flowsOf(port) {
		for _, f.Source = range ownedBy(after, row.From) {
			for _, f.Destination = range ownedBy(after, row.To) {
				g := f
				if g.Protocol == policy.ICMP && g.Source.Is6() {
					g.Protocol = policy.ICMPv6
				}
				if g.Source.BitLen() == g.Destination.BitLen() && side(after, g).Permits() && !side(before, g).Permits() {
					return true
				}
			}
		}
	}
	return false
}

// withoutForeignAddresses returns the snapshot without pods that do not own two addresses in their node's networks.
// Effects show what these could do if they did.
func withoutForeignAddresses(s *compile.Snapshot) *compile.Snapshot {
	out, shown, networks := *s, oracleCluster(s), compile.NewNodeNetworks(s.Nodes)
	out.Pods = slices.DeleteFunc(slices.Clone(s.Pods), func(p *compile.Pod) bool {
		foreign := func(a netip.Addr) bool {
			owner := oracle.PodAt(shown, a.Unmap())
			return owner == nil || owner.UID != p.UID || networks.Claim(p, a.Unmap()).Place == compile.Foreign ||
				slices.ContainsFunc(s.Nodes, func(n *compile.Node) bool { return slices.Contains(n.Addrs, a.Unmap()) })
		}
		return len(p.Addrs) != 2 || slices.ContainsFunc(p.Addrs, foreign)
	})
	return &out
}

func ownedBy(s *oracle.Cluster, side effect.Peer) []netip.Addr {
	var out []netip.Addr
	for _, p := range s.Pods {
		for _, ip := range p.Status.PodIPs {
			if a := netip.MustParseAddr(ip.IP).Unmap(); containsAddr(s, side, a) {
				out = append(out, a)
			}
		}
	}
	return out
}

// flowsOf returns flows of a port as rows show it, without addresses.
func flowsOf(port string) []policy.Flow {
	if port == "ICMP" {
		return []policy.Flow{{Protocol: policy.ICMP}}
	}
	var out []policy.Flow
	for _, protocol := range []policy.Protocol{policy.TCP, policy.UDP, policy.SCTP} {
		name, numbers, _ := strings.Cut(port, "/")
		if port == "any" {
			name, numbers = protocol.String(), "1-65535"
		}
		if name != protocol.String() {
			continue
		}
		first, last, isRange := strings.Cut(numbers, "-")
		if !isRange {
			last = first
		}
		var from, to int
		if _, err := fmt.Sscan(first+" "+last, &from, &to); err != nil {
			continue
		}
		for _, edge := range []int{from, to, 1, 53, 80, 443, 5432, 8080, 30000, 65535} {
			for n := max(from, edge-5); n <= min(to, edge+5); n++ {
				out = append(out, policy.Flow{Protocol: protocol, DestinationPort: uint16(n)})
			}
		}
	}
	return out
}
