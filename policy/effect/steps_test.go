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

// randomClusters is how many clusters are changed, and atMost how often each is in each way.
const randomClusters = 16

var atMost = map[string]int{"pod": 1, "pod labels": 2, "namespace labels": 1, "NetworkPolicy": 3, "ClusterNetworkPolicy": 1, "TierRole": 1}

// The rows of a change of any kind that admission is asked about are the
// difference of what an evaluator that shares no code with the compiler says of
// every flow before and after: between all pods, and with networks outside, on
// ports at the edges of rules.
func TestRowsAreTheDifferenceOfWhatIsReachable(t *testing.T) {
	flows, kinds := 0, map[string]int{}
	var memory effect.Calculator // of all clusters, in vain
	forEachStep(t, func(seed uint64, what string, before, after *compile.Snapshot) {
		before, after = sortLists(before), sortLists(after)
		kind := stepKind(what)
		// Nothing else changes, and lists that do not change are the same ones.
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
			return // rows may be merged, and are about some of their pods then
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

// inOrderOf are the pods in the order of others, those that are the same as the same ones.
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

// forEachStep makes random changes of the kinds that admission judges: labels of
// namespaces and pods, pods that come and go, TierRoles, policies, deletions among them.
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
		after := *before // few random TierRoles bind a pod that a policy tells by its role
		after.TierRoles = generate.Cluster(r, generate.Small).TierRoles
		do(seed, "TierRoles are others", before, &after)
	}
}

// stepKind is the kind of object that a step is about.
func stepKind(what string) string {
	kind, _, _ := strings.Cut(what, " ")
	if strings.Contains(what, "is labelled") {
		kind += " labels"
	}
	return kind
}

// judgedAtAdmission leaves out nodes, namespaces that go, changes of a pod's spec and status, and pods that come
// or go while others claim their addresses.
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

// compareWithOracle compares rows with all flows that one side allows at the second
// moment, and says how many of those it did not at the first.
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

// newlyAllows reports whether the side of a pod that there is at the second moment allows a flow then, and did not at the
// first. A pod that is not there allows nothing.
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

// forEachFlow are flows between all pods, and between them and addresses of networks outside.
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

// isUnambiguous reports whether a row's side is all pods that look like it, so that the row must hold of each.
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

// holdsEverywhere reports whether a port of a row is allowed now, and was not before, between
// each two pods of its sides, by one IP family at least.
func holdsEverywhere(first, second *oracle.Cluster, row effect.Row, port string) bool {
	if row.From.Kind == effect.CIDR || row.To.Kind == effect.CIDR {
		return true // their addresses are tried above
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
