package explain

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/tierwall/tierwall/cli/state"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
)

// Networks are where a cluster has its addresses, as far as it is told; empty is anywhere.
type Networks struct{ Pods, Nodes, Services []netip.Prefix }

// Facts are what is known of a cluster when a question about it is answered.
type Facts struct {
	// Complete is true of a live cluster: there is no pod, node or Service but those that are known.
	Complete bool
	Networks Networks

	program   *policy.Program
	snapshot  *compile.Snapshot // in which every pod has an address, if need be one that only stands for it
	open      map[string][]state.OpenLabel
	podsOf    func(kind, namespace, name string) []string
	unlocated map[string]bool     // pods whose addresses are not known, by "namespace/name"
	taken     map[netip.Addr]bool // addresses that Services, nodes and other pods have
	families  [2]bool             // whether the cluster is known to have IPv4 and IPv6
	services  []*corev1.Service
	slices    []*discoveryv1.EndpointSlice
	endpoints []*corev1.Endpoints //nolint:staticcheck // older dumps have them
}

// NewFacts are the facts of a state. The addresses that are asked about stand for no pod.
func NewFacts(s state.State, defaults policy.Defaults, networks Networks, complete bool, asked ...netip.Addr) *Facts {
	m := s.Model(defaults)
	f := &Facts{Complete: complete, Networks: networks, open: m.Open, podsOf: m.PodsOf,
		services: s.Services(), slices: s.EndpointSlices(), endpoints: s.Endpoints()}
	f.locate(m.Snapshot, asked)
	return f
}

// FactsOf are the facts of a cluster of which the snapshot has all pods with their addresses.
func FactsOf(s *compile.Snapshot) *Facts {
	f := &Facts{Complete: true, podsOf: func(_, _, name string) []string { return []string{name} }}
	f.locate(s, nil)
	return f
}

// placeholders are where the addresses are taken from that stand for unknown ones (RFC 1112, section 4; RFC 6666).
var placeholders = [...]netip.Prefix{netip.MustParsePrefix("240.0.0.0/4"), netip.MustParsePrefix("100::/64")}

// locate notes which pods have known addresses, and gives the others placeholders.
func (f *Facts) locate(s *compile.Snapshot, asked []netip.Addr) {
	out := *s
	out.Pods = nil
	f.snapshot, f.unlocated = &out, map[string]bool{}
	taken := map[netip.Addr]bool{}
	for _, a := range asked {
		taken[a.Unmap()] = true
	}
	for _, p := range s.Pods {
		for _, a := range p.Addrs {
			taken[a.Unmap()] = true
			f.families[familyOf(a)] = f.families[familyOf(a)] || !p.HostNetwork
		}
	}
	f.noteFamilies(s)
	next := [2]netip.Addr{placeholders[0].Addr().Next(), placeholders[1].Addr().Next()}
	for _, p := range s.Pods {
		if len(p.Addrs) == 0 && !p.Ended {
			renewed := *p
			renewed.Addrs = nil
			for i := range next {
				for taken[next[i]] {
					next[i] = next[i].Next()
				}
				taken[next[i]] = true
				renewed.Addrs = append(renewed.Addrs, next[i])
			}
			f.unlocated[p.Namespace+"/"+p.Name] = true
			renewed.Representative = true
			p = &renewed
		}
		if !f.Complete && !slices.ContainsFunc(s.Nodes, func(n *compile.Node) bool { return n.Name == p.Node }) {
			believed := *p // its node is not among what is known
			believed.Representative = true
			p = &believed
		}
		out.Pods = append(out.Pods, p)
	}
	f.program, _ = compile.Compile(f.snapshot, "")
	f.taken = f.knownAddresses()
}

// knowsNamespace reports whether the labels of a namespace are known.
func (f *Facts) knowsNamespace(name string) bool {
	return f.Complete || slices.ContainsFunc(f.snapshot.Namespaces, func(n *compile.Namespace) bool { return n.Name == name })
}

// knownAddresses are those that no pod can have whose address is not known.
func (f *Facts) knownAddresses() map[netip.Addr]bool {
	out := map[netip.Addr]bool{}
	for _, s := range f.services {
		for _, text := range append(slices.Clone(s.Spec.ClusterIPs), s.Spec.ClusterIP) {
			if a, err := netip.ParseAddr(text); err == nil {
				out[a.Unmap()] = true
			}
		}
	}
	for _, n := range f.snapshot.Nodes {
		for _, a := range n.Addrs {
			out[a.Unmap()] = true
		}
	}
	for _, p := range f.snapshot.Pods {
		if !f.unlocated[p.Namespace+"/"+p.Name] && !p.Ended && !p.Terminating {
			for _, a := range p.Addrs {
				out[a.Unmap()] = true
			}
		}
	}
	return out
}

func (f *Facts) noteFamilies(s *compile.Snapshot) {
	note := func(p netip.Prefix) { f.families[familyOf(p.Addr())] = true }
	for _, n := range s.Nodes {
		for _, c := range n.PodCIDRs {
			note(c)
		}
	}
	for _, p := range f.Networks.Pods {
		note(p)
	}
}

func familyOf(a netip.Addr) int {
	if a.Unmap().Is4() {
		return 0
	}
	return 1
}

// ofFamily are the prefixes of the family.
func ofFamily(prefixes []netip.Prefix, family int) []netip.Prefix {
	return slices.DeleteFunc(slices.Clone(prefixes), func(p netip.Prefix) bool { return familyOf(p.Addr()) != family })
}

// podNetworks are the networks of the family that a pod's address is in: those that were told, or
// those of the nodes unless a pod that runs has an address elsewhere. Empty is not known.
func (f *Facts) podNetworks(family int) []netip.Prefix {
	if told := ofFamily(f.Networks.Pods, family); len(told) > 0 {
		return told
	}
	var out []netip.Prefix
	for _, n := range f.snapshot.Nodes {
		out = append(out, ofFamily(n.PodCIDRs, family)...)
	}
	for _, p := range f.snapshot.Pods {
		if p.HostNetwork || p.Ended || f.unlocated[p.Namespace+"/"+p.Name] {
			continue
		}
		for _, a := range p.Addrs {
			if familyOf(a) == family && !contains(out, a) {
				return nil
			}
		}
	}
	return out
}

func contains(prefixes []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(a.Unmap()) })
}

// anywhere is where pods and nodes can have addresses if nothing is known: not at those that stand for
// the own machine, for a link or for a group of machines (RFC 6890).
var anywhere = [2][]netip.Prefix{
	excludeNetworks("0.0.0.0/0", "0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4"),
	excludeNetworks("::/0", "::/96", "::ffff:0:0/96", "fe80::/10", "ff00::/8"),
}

// excludeNetworks are the parts of a network outside of others within it.
func excludeNetworks(network string, others ...string) []netip.Prefix {
	out := []netip.Prefix{netip.MustParsePrefix(network)}
	for _, o := range others {
		hole := netip.MustParsePrefix(o)
		var next []netip.Prefix
		for _, p := range out {
			for p.Overlaps(hole) && p.Bits() < hole.Bits() {
				low, high := splitNetwork(p)
				if p = low; high.Overlaps(hole) {
					p, low = high, p
				} else {
					low = high
				}
				next = append(next, low)
			}
			if !p.Overlaps(hole) {
				next = append(next, p)
			}
		}
		out = next
	}
	return out
}

// splitNetwork splits a network in two.
func splitNetwork(p netip.Prefix) (low, high netip.Prefix) {
	raw := p.Addr().AsSlice()
	raw[p.Bits()/8] |= 1 << (7 - p.Bits()%8)
	upper, _ := netip.AddrFromSlice(raw)
	return netip.PrefixFrom(p.Addr(), p.Bits()+1), netip.PrefixFrom(upper, p.Bits()+1)
}

// isPrivate reports whether an address is of a network that is used inside of clusters and offices
// (RFC 1918, RFC 6598, RFC 4193). Other addresses are taken to be outside of the cluster unless a fact says otherwise.
func isPrivate(a netip.Addr) bool {
	return a.IsPrivate() || netip.MustParsePrefix("100.64.0.0/10").Contains(a.Unmap())
}
