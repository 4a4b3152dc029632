package effect_test

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/policy/effect"
	"github.com/tierwall/tierwall/test/generate"
	"github.com/tierwall/tierwall/test/oracle"
)

// randomClusters is the number of clusters that are changed, and atMost how often each is changed in one way.
const randomClusters = 16

var atMost = map[string]int{"pod": 1, "pod labels": 2, "namespace labels": 1, "NetworkPolicy": 3, "ClusterNetworkPolicy": 1, "TierRole": 1}

// For every kind of change that admission reviews, the rows equal the difference that an evaluator without shared
// code finds. It tries flows between all pods, and with networks outside, at the bounds of rules' ports.
func TestRowsEqualTheDifferenceOfReachability(t *testing.T) {
	flows, kinds := 0, map[string]int{}
	var memory effect.Calculator // shared by unrelated clusters
	forEachStep(t, func(seed uint64, what string, before, after *compile.Snapshot) {
		before, after = withoutForeignAddresses(before), withoutForeignAddresses(after)
		kind := stepKind(what)
		// Unchanged lists are shared, as the webhook has them.
		alone := *before
		switch kind {
		case "NetworkPolicy":
			alone.NetworkPolicies, after = after.NetworkPolicies, &alone
		case "pod labels":
			alone.Pods, after = inOrderOf(before.Pods, after.Pods), &alone
		}
		if effect.IsNarrowed(before, after) {
			kind += ", narrowed"
		}
		e := memory.Compute(t.Context(), before, after)
		if !e.Complete {
			t.Fatalf("seed %d: %s: incomplete: %v", seed, what, e.Incomplete)
		}
		if len(e.Added)+len(e.Removed) >= effect.MaxRows/2 {
			return // merged rows are about some of their pods only
		}
		first, second := oracleCluster(before), oracleCluster(after)
		n := compareWithOracle(t, seed, what, "added", e.Added, first, second) + compareWithOracle(t, seed, what, "removed", e.Removed, second, first)
		if flows += n; n > 0 {
			kinds[kind]++
		}
	})
	for _, kind := range []string{"pod", "pod labels", "namespace labels", "NetworkPolicy", "NetworkPolicy, narrowed", "ClusterNetworkPolicy", "TierRoles"} {
		if kinds[kind] == 0 {
			t.Errorf("no change of a %s opened or closed anything: the test shows nothing of them", kind)
		}
	}
	if flows < 1000 {
		t.Errorf("only %d flows changed: the test shows nothing", flows)
	}
}

// inOrderOf returns the pods in the order of others, with equal ones shared.
func inOrderOf(others, pods []*compile.Pod) []*compile.Pod {
	byName := map[string]*compile.Pod{}
	for _, p := range pods {
		byName[p.Namespace+"/"+p.Name] = p
	}
	var out []*compile.Pod
	for _, p := range others {
		if now := byName[p.Namespace+"/"+p.Name]; now != nil {
			out = append(out, now)
		}
	}
	return out
}

// forEachStep makes random changes of the kinds that admission reviews: labels of namespaces and pods, pods,
// TierRoles and policies.
func forEachStep(t *testing.T, do func(seed uint64, what string, before, after *compile.Snapshot)) {
	t.Helper()
	for seed := range uint64(randomClusters) {
		r := generate.NewRand(seed + 7000)
		before := generate.Cluster(r, generate.Small)
		objects, done := before.Update(), map[string]int{}
		for _, step := range generate.Steps(r, before, generate.Small, 40) {
			judged := judgedAtAdmission(objects, step.Update)
			generate.Merge(objects, step.Update)
			after := snapshotOf(objects, before.Defaults)
			if kind := stepKind(step.What); judged && done[kind] < atMost[kind] {
				done[kind]++
				do(seed, step.What, before, after)
			}
			before = after
		}
		after := *before // random TierRoles rarely bind a pod whose role a policy mentions
		after.TierRoles = generate.Cluster(r, generate.Small).TierRoles
		do(seed, "TierRoles are others", before, &after)
	}
}

// stepKind returns the kind of object that a step changes.
func stepKind(what string) string {
	kind, _, _ := strings.Cut(what, " ")
	if strings.Contains(what, "is labelled") {
		kind += " labels"
	}
	return kind
}

// judgedAtAdmission leaves out nodes, deleted namespaces, changes of a pod's spec and status, and pods that come or
// go while others claim their addresses.
func judgedAtAdmission(objects, u *compile.Update) bool {
	for key, now := range u.Pods {
		before := objects.Pods[key]
		if before != nil && now != nil && maps.Equal(before.Labels, now.Labels) {
			return false
		}
		for other, p := range objects.Pods {
			if p != nil && other != key && (before == nil && sharesAddress(p, now) || now == nil && sharesAddress(p, before)) {
				return false
			}
		}
	}
	for _, now := range u.Namespaces {
		if now == nil {
			return false
		}
	}
	return len(u.Nodes) == 0
}

func sharesAddress(a, b *compile.Pod) bool {
	return b != nil && slices.ContainsFunc(a.Addrs, func(addr netip.Addr) bool { return slices.Contains(b.Addrs, addr) })
}

func snapshotOf(u *compile.Update, d policy.Defaults) *compile.Snapshot {
	return &compile.Snapshot{Defaults: d,
		Pods: presentObjects(u.Pods), Namespaces: presentObjects(u.Namespaces), Nodes: presentObjects(u.Nodes),
		NetworkPolicies: presentObjects(u.NetworkPolicies), ClusterNetworkPolicies: presentObjects(u.ClusterNetworkPolicies), TierRoles: presentObjects(u.TierRoles)}
}

func presentObjects[O any](objects compile.Objects[O]) []*O {
	return slices.DeleteFunc(slices.Collect(maps.Values(objects)), func(o *O) bool { return o == nil })
}

// compareWithOracle compares rows with all flows that one side allows, and returns how many it newly allows.
func compareWithOracle(t *testing.T, seed uint64, what, list string, rows []effect.Row, first, second *oracle.Cluster) (changed int) {
	t.Helper()
	for _, d := range []effect.Direction{effect.Ingress, effect.Egress} {
		forEachFlow(second, func(f policy.Flow) {
			if newlyAllows(first, second, d, f) {
				changed++
				if !slices.ContainsFunc(rows, func(row effect.Row) bool { return covers(second, row, d, f) }) {
					t.Errorf("seed %d: %s: no %s row %s for %+v from %s to %s in\n%s", seed, what, list, d, f, ownerName(second, f.Source), ownerName(second, f.Destination), rowLines(rows))
				}
			}
		})
	}
	for _, row := range rows {
		for _, text := range row.Ports {
			if isUnambiguous(second, row.From) && isUnambiguous(second, row.To) && row.From.Name != row.To.Name && !holdsEverywhere(first, second, row, text) {
				t.Errorf("seed %d: %s: %s row %s is not so of %s, via %v", seed, what, list, rowLines([]effect.Row{row}), text, row.Via)
			}
		}
	}
	return changed
}

// newlyAllows reports whether a pod that exists in the second state allows a flow that it did not allow in the first.
// An absent pod allows nothing.
func newlyAllows(first, second *oracle.Cluster, d effect.Direction, f policy.Flow) bool {
	subject, peer, side := f.Destination, f.Source, oracle.Ingress
	if d == effect.Egress {
		subject, peer, side = f.Source, f.Destination, oracle.Egress
	}
	pod := oracle.PodAt(second, subject)
	if pod == nil || pod == oracle.PodAt(second, peer) {
		return false
	}
	return side(second, f).Permits() && (oracle.PodAt(first, subject) == nil || !side(first, f).Permits())
}

func covers(s *oracle.Cluster, row effect.Row, d effect.Direction, f policy.Flow) bool {
	return row.Direction == d && containsAddr(s, row.From, f.Source) && containsAddr(s, row.To, f.Destination) && hasPort(row, f)
}

// forEachFlow visits flows between all pods, and between them and addresses outside.
func forEachFlow(s *oracle.Cluster, do func(policy.Flow)) {
	var all []netip.Addr
	for _, p := range s.Pods {
		for _, ip := range p.Status.PodIPs {
			all = append(all, netip.MustParseAddr(ip.IP).Unmap())
		}
	}
	for _, a := range []string{"203.0.113.9", "198.51.100.1", "10.0.0.8", "2001:db8::1", "fd00:2:0:1::8"} {
		if addr := netip.MustParseAddr(a); oracle.PodAt(s, addr) == nil {
			all = append(all, addr)
		}
	}
	for _, source := range all {
		for _, destination := range all {
			if source.BitLen() != destination.BitLen() {
				continue
			}
			f := policy.Flow{Source: source, Destination: destination, Protocol: policy.ICMP}
			if source.Is6() {
				f.Protocol = policy.ICMPv6
			}
			do(f)
			for protocol, ports := range map[policy.Protocol][]uint16{
				policy.TCP: {1, 80, 5432, 8080, 65535}, policy.UDP: {53, 65534}, policy.SCTP: {5432}} {
				for _, f.DestinationPort = range ports {
					f.Protocol = protocol
					do(f)
				}
			}
		}
	}
}

// isUnambiguous reports whether a side of a row is all pods that look like it, so that the row must hold for each.
func isUnambiguous(s *oracle.Cluster, side effect.Peer) bool {
	if side.Kind == effect.CIDR {
		return true
	}
	names := map[string]bool{}
	for _, a := range ownedBy(s, side) {
		names[oracle.PodAt(s, a).Name] = true
	}
	return side.Kind == effect.Workload && len(names) == side.Pods
}

// holdsEverywhere reports whether a port of a row is newly allowed between each two pods of its sides, by one IP
// family at least.
func holdsEverywhere(first, second *oracle.Cluster, row effect.Row, port string) bool {
	if row.From.Kind == effect.CIDR || row.To.Kind == effect.CIDR {
		return true // checked by flow above
	}
	type pair struct{ from, to string }
	found := map[pair]bool{}
	for _, source := range ownedBy(second, row.From) {
		for _, destination := range ownedBy(second, row.To) {
			from, to := oracle.PodAt(second, source), oracle.PodAt(second, destination)
			if from == to || source.BitLen() != destination.BitLen() {
				continue
			}
			p := pair{from.Name, to.Name}
			for _, f := range flowsOf(port) {
				f.Source, f.Destination = source, destination
				if f.Protocol == policy.ICMP && source.Is6() {
					f.Protocol = policy.ICMPv6
				}
				found[p] = found[p] || newlyAllows(first, second, row.Direction, f)
			}
		}
	}
	return !slices.Contains(slices.Collect(maps.Values(found)), false)
}
