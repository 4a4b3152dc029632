package revoke_test

import (
	"net/netip"
	"slices"

	"github.com/tierwall/tierwall/policy"
)

func addrs(s ...string) (out []netip.Addr) {
	for _, a := range s {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

func prefixes(s ...string) (out []netip.Prefix) {
	for _, p := range s {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

// The nodes, and the pods with the nodes that they are on.
var (
	hosts = []policy.Host{
		{Name: "east", Addrs: addrs("192.168.0.1", "fd00:9::1"), PodCIDRs: prefixes("10.0.1.0/24", "fd00:1::/64")},
		{Name: "west", Addrs: addrs("192.168.0.2", "fd00:9::2"), PodCIDRs: prefixes("10.0.2.0/24", "fd00:2::/64")},
	}
	client   = policy.Endpoint{Namespace: "test", Name: "client", Node: "east", Addrs: addrs("10.0.1.2", "fd00:1::2")}
	other    = policy.Endpoint{Namespace: "test", Name: "other", Node: "east", Addrs: addrs("10.0.1.3", "fd00:1::3")}
	server   = policy.Endpoint{Namespace: "test", Name: "server", Node: "east", Addrs: addrs("10.0.1.4", "fd00:1::4")}
	stranger = policy.Endpoint{Namespace: "test", Name: "stranger", Node: "west", Addrs: addrs("10.0.2.2", "fd00:2::2")}
	pods     = []policy.Endpoint{client, other, server, stranger}
	world    = addrs("203.0.113.9", "2001:db8::1")
)

// rules are who may send to a pod and to whom it may send, by the pod's name. A pod
// without an entry may get from everybody, or send to everybody.
type rules struct{ ingress, egress map[string][]netip.Addr }

// program is that of the node east.
func (r rules) program() *policy.Program {
	const node = "east"
	p := &policy.Program{Hosts: hosts, Sets: map[policy.SetID]*policy.Set{}, Classes: [2]map[policy.ClassID]*policy.Class{{}, {}}}
	for _, h := range hosts {
		if h.Name == node {
			p.Local = h.PodCIDRs
		}
	}
	for _, e := range pods {
		if e.Node == node {
			e.Class = [2]policy.ClassID{class(p, policy.Ingress, e.Name, r.ingress), class(p, policy.Egress, e.Name, r.egress)}
			p.Endpoints = append(p.Endpoints, e)
		}
	}
	return p
}

func class(p *policy.Program, d policy.Direction, pod string, peers map[string][]netip.Addr) policy.ClassID {
	of, isolated := peers[pod]
	if !isolated {
		p.Classes[d]["open"] = &policy.Class{ID: "open", Tiers: []policy.Tier{{Name: policy.DefaultTier, Else: policy.Allow}}}
		return "open"
	}
	set := &policy.Set{ID: policy.SetID(pod + "-" + d.String())}
	for _, a := range of {
		set.Elements = append(set.Elements, policy.AddressElement(a))
	}
	slices.SortFunc(set.Elements, policy.Element.Compare)
	p.Sets[set.ID] = set
	id := policy.ClassID(pod)
	p.Classes[d][id] = &policy.Class{ID: id, Tiers: []policy.Tier{{Name: policy.NetworkPolicyTier,
		Rules: []policy.Rule{{Verdict: policy.Allow, AnyPort: true, Peers: []policy.SetID{set.ID}}}}}}
	return id
}

// only is a rule for one pod.
func only(pod policy.Endpoint, peers ...[]netip.Addr) map[string][]netip.Addr {
	return map[string][]netip.Addr{pod.Name: slices.Concat(peers...)}
}
