// Package generate makes random clusters, policies and flows for tests that
// compare implementations. They lean towards what implementations get wrong:
// missing labels, NotIn, empty values, named ports that differ by pod, edges of port
// ranges and networks, Pass in both tiers, reused addresses, forged role labels,
// policies that are broken. Equal seeds give equal results.
package generate

import (
	"fmt"
	"math/rand/v2"
	"net/netip"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
)

// Size is how many objects a cluster has.
type Size struct {
	Nodes, Pods, NetworkPolicies, ClusterNetworkPolicies, TierRoles int
	// Sound leaves out policies that are broken.
	Sound bool
}

// Small is a size at which every combination of objects still meets often.
var Small = Size{Nodes: 3, Pods: 14, NetworkPolicies: 7, ClusterNetworkPolicies: 4, TierRoles: 3}

// Crowded is a size at which most flows are decided by policies, and several of them
// want the same flow.
var Crowded = Size{Nodes: 3, Pods: 14, NetworkPolicies: 14, ClusterNetworkPolicies: 9, TierRoles: 3}

// NewRand is the source of the seed.
func NewRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

// generator is the state of one cluster's making.
type generator struct {
	*rand.Rand
	size     Size
	snapshot *compile.Snapshot
}

// unknownNamespace has pods and policies, but no object.
const unknownNamespace = "ghost"

var namespaces = []string{"prod", "test", "shop", "kube-system", unknownNamespace}

// Cluster is a random cluster of the size.
func Cluster(r *rand.Rand, size Size) *compile.Snapshot {
	g := &generator{Rand: r, size: size, snapshot: &compile.Snapshot{Defaults: defaults(r)}}
	s := g.snapshot
	for _, name := range namespaces[:len(namespaces)-1] {
		s.Namespaces = append(s.Namespaces, g.namespace(name))
	}
	for i := range size.Nodes {
		s.Nodes = append(s.Nodes, g.node(i))
	}
	for i := range size.Pods {
		s.Pods = append(s.Pods, g.pod(i))
	}
	for i := range size.TierRoles {
		s.TierRoles = append(s.TierRoles, g.tierRole(i))
	}
	for i := range g.IntN(size.NetworkPolicies + 1) {
		s.NetworkPolicies = append(s.NetworkPolicies, g.networkPolicy(i))
	}
	for i := range g.IntN(size.ClusterNetworkPolicies + 1) {
		s.ClusterNetworkPolicies = append(s.ClusterNetworkPolicies, g.clusterPolicy(i))
	}
	return s
}

// chance is true in one of n cases.
func (g *generator) chance(n int) bool { return g.IntN(n) == 0 }

// broken is true where this place of a policy shall not be understandable.
func (g *generator) broken() bool { return !g.size.Sound && g.chance(60) }

func pick[T any](r *rand.Rand, values ...T) T { return values[r.IntN(len(values))] }

func defaults(r *rand.Rand) policy.Defaults {
	d := policy.Defaults{Action: pick(r, policy.Deny, policy.Deny, policy.Allow, policy.Audit), Exempt: []string{"kube-system"}}
	if r.IntN(2) == 0 {
		d.Namespaces = map[string]policy.Verdict{pick(r, namespaces...): pick(r, policy.Deny, policy.Allow, policy.Audit)}
	}
	return d
}

func (g *generator) namespace(name string) *compile.Namespace {
	labels := map[string]string{"kubernetes.io/metadata.name": name}
	if g.chance(2) {
		labels["team"] = pick(g.Rand, "a", "b", "")
	}
	if g.chance(2) {
		labels["env"] = pick(g.Rand, "live", "dev")
	}
	return &compile.Namespace{Name: name, Labels: labels}
}

func (g *generator) node(i int) *compile.Node {
	n := &compile.Node{
		Name: fmt.Sprintf("node-%d", i),
		Addrs: []netip.Addr{
			netip.AddrFrom4([4]byte{192, 168, 0, byte(i + 1)}),
			netip.MustParseAddr(fmt.Sprintf("fd00:1::%d", i+1)),
		},
		PodCIDRs: []netip.Prefix{
			netip.MustParsePrefix(fmt.Sprintf("10.0.%d.0/24", i)),
			netip.MustParsePrefix(fmt.Sprintf("fd00:2:0:%d::/64", i)),
		},
	}
	if g.chance(2) {
		n.Labels = map[string]string{"pool": pick(g.Rand, "a", "b")}
	}
	if g.chance(3) { // a bridge of its pods' network
		n.Addrs = append(n.Addrs, n.PodCIDRs[0].Addr().Next(), n.PodCIDRs[1].Addr().Next())
	}
	return n
}

func (g *generator) pod(i int) *compile.Pod {
	node := g.IntN(g.size.Nodes)
	p := &compile.Pod{
		Namespace:      pick(g.Rand, namespaces...),
		Name:           fmt.Sprintf("pod-%d", i),
		UID:            types.UID(fmt.Sprintf("uid-%d", g.IntN(1000)*100+i)),
		Node:           fmt.Sprintf("node-%d", node),
		ServiceAccount: pick(g.Rand, "", "default", "web", "data"),
		Labels:         g.podLabels(),
		Terminating:    g.chance(8),
		Ended:          g.chance(12),
		Created:        int64(g.IntN(3)),
		Ports:          g.namedPorts(),
	}
	v4 := netip.AddrFrom4([4]byte{10, 0, byte(node), byte(i + 2)})
	v6 := netip.MustParseAddr(fmt.Sprintf("fd00:2:0:%d::%x", node, i+2))
	switch {
	case g.chance(10):
		p.HostNetwork = true
		p.Addrs = g.snapshot.Nodes[node].Addrs
	case g.chance(11):
		p.Addrs = []netip.Addr{v4}
	case g.chance(12):
		p.Addrs = []netip.Addr{v6}
	case g.chance(15): // no address yet
	case g.chance(20):
		p.Addrs = []netip.Addr{netip.AddrFrom16(v4.As16()), v6} // IPv4-mapped
	case g.reused(p): // the address of another, which was on the same node
	case g.claimed(p): // the address of another, or of none
	default:
		p.Addrs = []netip.Addr{v4, v6}
	}
	return p
}

// reused gives a pod the node and the addresses of one that there was before.
func (g *generator) reused(p *compile.Pod) bool {
	if len(g.snapshot.Pods) == 0 || !g.chance(5) {
		return false
	}
	other := pick(g.Rand, g.snapshot.Pods...)
	if other.HostNetwork { // its address is the node's
		return false
	}
	p.Node, p.Addrs = other.Node, other.Addrs
	return true
}

// claimed gives a pod an address that it may not have: of any other pod, of a node, outside of its
// node's networks, or one that no pod can have.
func (g *generator) claimed(p *compile.Pod) bool {
	if !g.chance(5) {
		return false
	}
	p.Addrs = g.foreignAddrs()
	return true
}

func (g *generator) foreignAddrs() []netip.Addr {
	if len(g.snapshot.Pods) > 0 && g.chance(2) {
		return pick(g.Rand, g.snapshot.Pods...).Addrs
	}
	if g.chance(3) {
		return g.node(g.IntN(g.size.Nodes)).Addrs[:2]
	}
	node, i := g.IntN(g.size.Nodes+1), g.IntN(24)+2
	v4 := pick(g.Rand, fmt.Sprintf("10.0.%d.%d", node, i), "203.0.113.9", "198.51.100.1", "127.0.0.1", "169.254.1.1", "224.0.0.1", "0.0.0.0", "255.255.255.255")
	v6 := pick(g.Rand, fmt.Sprintf("fd00:2:0:%d::%x", node, i), "2001:db8::1", "::1", "fe80::1", "ff02::1", "::")
	return []netip.Addr{netip.MustParseAddr(v4), netip.MustParseAddr(v6)}
}

func (g *generator) podLabels() map[string]string {
	labels := map[string]string{}
	if !g.chance(5) {
		labels["app"] = pick(g.Rand, "web", "api", "db", "")
	}
	if g.chance(2) {
		labels["track"] = pick(g.Rand, "stable", "canary")
	}
	if g.chance(6) { // forged, or shown as it should be
		labels[v1alpha1.RoleLabel] = pick(g.Rand, roles...)
	}
	return labels
}

func (g *generator) namedPorts() []compile.NamedPort {
	var out []compile.NamedPort
	for range g.IntN(4) {
		out = append(out, compile.NamedPort{
			Name:     pick(g.Rand, portNames...),
			Protocol: pick(g.Rand, policy.TCP, policy.TCP, policy.UDP, policy.SCTP),
			Port:     pick[uint16](g.Rand, 80, 8080, 53, 5432),
		})
	}
	return out
}

var roles = []string{"frontend", "backend", "data"}

func (g *generator) tierRole(i int) *v1alpha1.TierRole {
	tr := &v1alpha1.TierRole{}
	tr.Name = fmt.Sprintf("role-%d", i)
	tr.Spec.Role = pick(g.Rand, roles...)
	tr.Spec.Namespaces = []string{pick(g.Rand, namespaces...)}
	if g.chance(2) {
		tr.Spec.Namespaces = append(tr.Spec.Namespaces, pick(g.Rand, namespaces...))
	}
	if g.chance(3) {
		tr.Spec.ServiceAccounts = []string{pick(g.Rand, "default", "web", "data")}
	}
	if g.chance(3) {
		s := g.podSelector()
		tr.Spec.PodSelector = &s // one that mentions the role label binds nothing
	}
	return tr
}

func (g *generator) networkPolicy(i int) *networkingv1.NetworkPolicy {
	np := &networkingv1.NetworkPolicy{}
	np.Name = fmt.Sprintf("np-%d", i)
	np.Namespace = pick(g.Rand, namespaces...)
	np.Spec.PodSelector = g.podSelector()
	for range g.IntN(3) {
		np.Spec.Ingress = append(np.Spec.Ingress, networkingv1.NetworkPolicyIngressRule{From: g.peers(), Ports: g.ports()})
	}
	for range g.IntN(3) {
		np.Spec.Egress = append(np.Spec.Egress, networkingv1.NetworkPolicyEgressRule{To: g.peers(), Ports: g.ports()})
	}
	in, eg := networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress
	np.Spec.PolicyTypes = pick(g.Rand, nil, nil, []networkingv1.PolicyType{in}, []networkingv1.PolicyType{eg}, []networkingv1.PolicyType{in, eg})
	if g.broken() {
		np.Spec.PolicyTypes = append([]networkingv1.PolicyType{"Sideways"}, np.Spec.PolicyTypes...)
	}
	return np
}

func (g *generator) clusterPolicy(i int) *policyv1alpha2.ClusterNetworkPolicy {
	cnp := &policyv1alpha2.ClusterNetworkPolicy{}
	cnp.Name = fmt.Sprintf("cnp-%d", i)
	cnp.Spec.Tier = pick(g.Rand, policyv1alpha2.AdminTier, policyv1alpha2.BaselineTier)
	cnp.Spec.Priority = int32(g.IntN(4)) // ties happen
	if g.chance(2) {
		s := g.namespaceSelector()
		cnp.Spec.Subject.Namespaces = &s
	} else {
		cnp.Spec.Subject.Pods = g.namespacedPod()
	}
	for range g.IntN(3) {
		cnp.Spec.Ingress = append(cnp.Spec.Ingress, g.clusterIngress())
	}
	for range g.IntN(3) {
		cnp.Spec.Egress = append(cnp.Spec.Egress, g.clusterEgress())
	}
	if g.broken() {
		cnp.Spec.Tier = "Middle"
	}
	if g.broken() {
		cnp.Spec.Priority = 1001
	}
	if g.broken() {
		cnp.Spec.Subject = policyv1alpha2.ClusterNetworkPolicySubject{}
	}
	return cnp
}
