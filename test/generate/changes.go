package generate

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/tierwall/tierwall/policy/compile"
)

// Step is one change of a cluster, as a watcher would see it.
type Step struct {
	// What says in words what happens.
	What   string
	Update *compile.Update
}

// Steps are n random changes of the cluster, one after the other. They hold objects as they are then,
// so that a sequence still makes sense when steps are left out.
func Steps(r *rand.Rand, s *compile.Snapshot, size Size, n int) []Step {
	g := &changer{generator: generator{Rand: r, size: size, snapshot: s}, objects: s.Update(), names: len(s.Pods)}
	out := make([]Step, n)
	for i := range out {
		u := &compile.Update{}
		out[i] = Step{What: g.step(u), Update: u}
		Merge(g.objects, u)
	}
	return out
}

// Merge takes a later update into an earlier one.
func Merge(into, later *compile.Update) {
	merge(&into.Pods, later.Pods)
	merge(&into.Namespaces, later.Namespaces)
	merge(&into.Nodes, later.Nodes)
	merge(&into.NetworkPolicies, later.NetworkPolicies)
	merge(&into.ClusterNetworkPolicies, later.ClusterNetworkPolicies)
	merge(&into.TierRoles, later.TierRoles)
}

func merge[O any](into *compile.Objects[O], later compile.Objects[O]) {
	for key, now := range later {
		into.Set(key, now)
	}
}

// changer knows the objects as they are after the steps so far.
type changer struct {
	generator
	objects *compile.Update
	names   int // pods named so far
}

func (g *changer) step(u *compile.Update) string {
	switch g.IntN(20) {
	case 0, 1:
		return g.newPod(u)
	case 2, 3, 4, 5, 6, 7, 8:
		return g.changePod(u)
	case 9:
		return g.exchange(u)
	case 10, 11:
		return g.changeNamespace(u)
	case 12:
		return g.changeNode(u)
	case 13, 14, 15, 16:
		return g.changeNetworkPolicy(u)
	case 17, 18:
		return g.changeClusterPolicy(u)
	default:
		return g.changeTierRole(u)
	}
}

// present are the keys of the objects that are there, in order.
func present[O any](objects compile.Objects[O]) []types.NamespacedName {
	var out []types.NamespacedName
	for key, o := range objects {
		if o != nil {
			out = append(out, key)
		}
	}
	slices.SortFunc(out, func(a, b types.NamespacedName) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return out
}

// one is one of the objects, with its key.
func one[O any](r *rand.Rand, objects compile.Objects[O]) (types.NamespacedName, *O) {
	keys := present(objects)
	if len(keys) == 0 {
		return types.NamespacedName{}, nil
	}
	key := pick(r, keys...)
	return key, objects[key]
}

func keyOf(namespace, name string) types.NamespacedName {
	return types.NamespacedName{Namespace: namespace, Name: name}
}

func (g *changer) newPod(u *compile.Update) string {
	p := g.pod(0)
	p.Name = fmt.Sprintf("pod-%d", g.names)
	g.names++
	if _, other := one(g.Rand, g.objects.Pods); other != nil && g.chance(3) {
		p.Addrs, p.Node = other.Addrs, other.Node // of one that has gone, or will, or stays
	} else if !p.HostNetwork {
		g.address(p)
	}
	u.Pods.Set(keyOf(p.Namespace, p.Name), p)
	return fmt.Sprintf("pod %s/%s comes with %v", p.Namespace, p.Name, p.Addrs)
}

// address gives the pod addresses of its own, unless all have been given: mostly of its node's networks.
func (g *changer) address(p *compile.Pod) {
	i, nodes := byte(g.IntN(24)+2), [2]int{g.IntN(g.size.Nodes), g.IntN(g.size.Nodes)}
	var own int
	if _, err := fmt.Sscanf(p.Node, "node-%d", &own); err == nil && own < g.size.Nodes && !g.chance(4) {
		nodes = [2]int{own, own}
	}
	p.Addrs = []netip.Addr{
		netip.AddrFrom4([4]byte{10, 0, byte(nodes[0]), i}),
		netip.MustParseAddr(fmt.Sprintf("fd00:2:0:%d::%x", nodes[1], i)),
	}
}

func (g *changer) changePod(u *compile.Update) string {
	key, before := one(g.Rand, g.objects.Pods)
	if before == nil {
		return g.newPod(u)
	}
	p := *before
	u.Pods.Set(key, &p)
	name := "pod " + key.String()
	switch g.IntN(17) {
	case 14, 15:
		p.Addrs = g.foreignAddrs()
		if _, other := one(g.Rand, g.objects.Pods); g.chance(2) {
			p.Addrs = other.Addrs
		}
		return fmt.Sprint(name, " claims ", p.Addrs)
	case 16:
		p.Node = pick(g.Rand, "", "gone", "node-0", "node-1", "node-9")
		return fmt.Sprintf("%s is on node %q", name, p.Node)
	case 0, 1:
		u.Pods.Set(key, nil)
		return name + " goes"
	case 2, 3:
		p.Labels = g.podLabels()
		return fmt.Sprint(name, " is labelled ", p.Labels)
	case 4:
		p.Ended = !p.Ended
		return fmt.Sprint(name, " has ended: ", p.Ended)
	case 5:
		p.Terminating = true
		return name + " is being deleted"
	case 6:
		p.Addrs = nil
		return name + " loses its addresses"
	case 7:
		g.address(&p)
		return fmt.Sprint(name, " gets ", p.Addrs)
	case 8:
		p.Ports = g.namedPorts()
		return fmt.Sprint(name, " has ports ", p.Ports)
	case 9, 11, 12:
		p.ServiceAccount = pick(g.Rand, "", "default", "web", "data")
		return name + " runs as " + p.ServiceAccount
	case 10: // as a StatefulSet does
		p.Node = fmt.Sprintf("node-%d", g.IntN(g.size.Nodes))
		p.UID = types.UID(fmt.Sprint("again-", g.IntN(1000)))
		p.Created++
		return fmt.Sprint(name, " comes anew on ", p.Node)
	default:
		return name + " is as it was"
	}
}

// exchange gives two pods the addresses of each other.
func (g *changer) exchange(u *compile.Update) string {
	k1, p1 := one(g.Rand, g.objects.Pods)
	k2, p2 := one(g.Rand, g.objects.Pods)
	if p1 == nil || p1 == p2 {
		return g.newPod(u)
	}
	a, b := *p1, *p2
	a.Addrs, b.Addrs = b.Addrs, a.Addrs
	u.Pods.Set(k1, &a)
	u.Pods.Set(k2, &b)
	return fmt.Sprintf("pods %s and %s exchange addresses", k1, k2)
}

func (g *changer) changeNamespace(u *compile.Update) string {
	name := pick(g.Rand, namespaces...)
	if g.chance(4) {
		u.Namespaces.Set(keyOf("", name), nil)
		return "namespace " + name + " goes" // its pods may be told of later
	}
	n := g.namespace(name)
	u.Namespaces.Set(keyOf("", name), n)
	return fmt.Sprint("namespace ", name, " is labelled ", n.Labels)
}

func (g *changer) changeNode(u *compile.Update) string {
	i := g.IntN(g.size.Nodes + 1)
	n := g.node(i)
	switch g.IntN(10) {
	case 4: // addresses of pods, and others that it may not have
		n.Addrs = append(slices.Clone(n.Addrs), g.foreignAddrs()...)
	case 5: // of one IP family alone
		n.PodCIDRs = n.PodCIDRs[g.IntN(2):][:1]
	case 6: // networks of another, or around and within those of others
		n.PodCIDRs = pick(g.Rand, g.node(g.IntN(g.size.Nodes)).PodCIDRs,
			[]netip.Prefix{netip.MustParsePrefix("10.0.0.0/16"), netip.MustParsePrefix("fd00:2::/48")},
			[]netip.Prefix{netip.MustParsePrefix("10.0.1.0/28"), netip.MustParsePrefix("fd00:2:0:1::/124")})
	case 0, 1:
		u.Nodes.Set(keyOf("", n.Name), nil)
		return "node " + n.Name + " goes"
	case 2:
		n.PodCIDRs = nil
	case 3:
		n.Addrs = g.node(g.IntN(g.size.Nodes)).Addrs
	}
	u.Nodes.Set(keyOf("", n.Name), n)
	return fmt.Sprint("node ", n.Name, " is ", n.Labels, n.Addrs, n.PodCIDRs)
}

func (g *changer) changeNetworkPolicy(u *compile.Update) string {
	key, before := one(g.Rand, g.objects.NetworkPolicies)
	switch {
	case before != nil && g.chance(4):
		u.NetworkPolicies.Set(key, nil)
		return "NetworkPolicy " + key.String() + " goes"
	case before != nil && g.chance(5):
		u.NetworkPolicies.Set(key, before.DeepCopy())
		return "NetworkPolicy " + key.String() + " is as it was"
	}
	np := g.networkPolicy(g.IntN(g.size.NetworkPolicies + 1))
	if before != nil && g.chance(3) { // rules stay, whom they are for does not
		selector := np.Spec.PodSelector
		np = before.DeepCopy()
		np.Spec.PodSelector = selector
	}
	u.NetworkPolicies.Set(keyOf(np.Namespace, np.Name), np)
	return fmt.Sprintf("NetworkPolicy %s/%s is %s", np.Namespace, np.Name, text(np.Spec))
}

func (g *changer) changeClusterPolicy(u *compile.Update) string {
	key, before := one(g.Rand, g.objects.ClusterNetworkPolicies)
	if before != nil && g.chance(4) {
		u.ClusterNetworkPolicies.Set(key, nil)
		return "ClusterNetworkPolicy " + key.Name + " goes"
	}
	cnp := g.clusterPolicy(g.IntN(g.size.ClusterNetworkPolicies + 1))
	if before != nil && g.chance(3) {
		subject, priority := cnp.Spec.Subject, cnp.Spec.Priority
		cnp = before.DeepCopy()
		cnp.Spec.Subject, cnp.Spec.Priority = subject, priority
	}
	u.ClusterNetworkPolicies.Set(keyOf("", cnp.Name), cnp)
	return fmt.Sprintf("ClusterNetworkPolicy %s is %s", cnp.Name, text(cnp.Spec))
}

func (g *changer) changeTierRole(u *compile.Update) string {
	key, before := one(g.Rand, g.objects.TierRoles)
	if before != nil && g.chance(3) {
		u.TierRoles.Set(key, nil)
		return "TierRole " + key.Name + " goes"
	}
	tr := g.tierRole(g.IntN(g.size.TierRoles + 1))
	u.TierRoles.Set(keyOf("", tr.Name), tr)
	return fmt.Sprintf("TierRole %s is %s", tr.Name, text(tr.Spec))
}

func text(spec any) string {
	out, err := json.Marshal(spec)
	if err != nil {
		panic(err) // specs are made of plain values
	}
	return string(out)
}
