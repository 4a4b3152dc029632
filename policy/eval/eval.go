// Package eval says what a compiled program does to a flow, and why. It is the
// meaning of a policy.Program: every renderer must agree with it.
package eval

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/tierwall/tierwall/policy"
)

// Evaluator is a program indexed by address. It may be used by several
// goroutines; the program must not change meanwhile.
type Evaluator struct {
	program   *policy.Program
	endpoints map[netip.Addr]*policy.Endpoint
	hosts     map[netip.Addr]*policy.Host
	indexes   *indexes
	// bounded says that no index is made.
	bounded bool
}

// New indexes the program.
func New(p *policy.Program) *Evaluator {
	return &Evaluator{program: p, endpoints: endpointsByAddr(p), hosts: hostsByAddr(p), indexes: newIndexes()}
}

// Next is an evaluator of another program, which uses what was made for this one as far as the
// two programs share it.
func (e *Evaluator) Next(p *policy.Program) *Evaluator {
	out := &Evaluator{program: p, endpoints: e.endpoints, hosts: e.hosts, indexes: e.indexes.next(p), bounded: e.bounded}
	if !sameSlice(e.program.Endpoints, p.Endpoints) {
		out.endpoints = endpointsByAddr(p)
	}
	if !sameSlice(e.program.Hosts, p.Hosts) {
		out.hosts = hostsByAddr(p)
	}
	return out
}

// Bounded is an evaluator of the same program that makes no index: a flow costs a look at every
// rule of two classes at most, and less where there is an index.
func (e *Evaluator) Bounded() *Evaluator {
	out := *e
	out.bounded = true
	return &out
}

// Program is the program that is evaluated.
func (e *Evaluator) Program() *policy.Program { return e.program }

// Looked is how many rules, peers, ports and elements of sets were looked at so far.
func (e *Evaluator) Looked() int { return int(e.indexes.looked.Load()) }

func sameSlice[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

func endpointsByAddr(p *policy.Program) map[netip.Addr]*policy.Endpoint {
	out := make(map[netip.Addr]*policy.Endpoint, 2*len(p.Endpoints))
	for i := range p.Endpoints {
		for _, a := range p.Endpoints[i].Addrs {
			out[a] = &p.Endpoints[i]
		}
	}
	return out
}

func hostsByAddr(p *policy.Program) map[netip.Addr]*policy.Host {
	out := make(map[netip.Addr]*policy.Host, 2*len(p.Hosts))
	for i := range p.Hosts {
		for _, a := range p.Hosts[i].Addrs {
			out[a] = &p.Hosts[i]
		}
	}
	return out
}

// Decide is the verdict on one flow. For many flows use New.
func Decide(p *policy.Program, f policy.Flow) policy.Decision { return New(p).Bounded().Decide(f) }

// Decide is the verdict on the flow: the source's egress and the destination's ingress must
// both let it pass. Endpoints that are not in the program are judged on their own nodes.
func (e *Evaluator) Decide(f policy.Flow) policy.Decision {
	f.Source, f.Destination = f.Source.Unmap(), f.Destination.Unmap()
	if why, ok := e.outsidePolicy(f); ok {
		return policy.Decision{Verdict: why.Verdict, Egress: why, Ingress: why}
	}
	d := policy.Decision{Egress: e.egress(f), Ingress: e.ingress(f)}
	if d.Egress.Verdict.Permits() && d.Ingress.Verdict.Permits() {
		d.Verdict = policy.Allow
	}
	return d
}

// outsidePolicy decides flows that no policy is asked about.
func (e *Evaluator) outsidePolicy(f policy.Flow) (policy.Why, bool) {
	src, dst := f.Source, f.Destination
	switch {
	case !src.IsValid() || !dst.IsValid() || src.BitLen() != dst.BitLen():
		return policy.Why{Note: "no flow has such addresses"}, true
	case f.IsNeighbourDiscovery():
		return policy.Why{Verdict: policy.Allow, Note: "IPv6 neighbour discovery passes on the link"}, true
	case e.endpoints[src] != nil && e.endpoints[src] == e.endpoints[dst]:
		return policy.Why{Verdict: policy.Allow, Endpoint: e.endpoints[src].Key(), Note: "a pod reaches itself"}, true
	default:
		return policy.Why{}, false
	}
}

func (e *Evaluator) egress(f policy.Flow) policy.Why {
	if own := e.endpoints[f.Source]; own != nil {
		return e.judge(own, policy.Egress, f.Destination, f.Protocol, f.DestinationPort)
	}
	return e.unjudged(f.Source)
}

func (e *Evaluator) ingress(f policy.Flow) policy.Why {
	if own := e.endpoints[f.Destination]; own != nil {
		return e.judge(own, policy.Ingress, f.Source, f.Protocol, f.DestinationPort)
	}
	if h := e.hosts[f.Source]; h != nil && within(h.PodCIDRs, f.Destination) {
		return nodeToOwnPods
	}
	return e.unjudged(f.Destination)
}

var nodeToOwnPods = policy.Why{Verdict: policy.Allow, Note: "a node reaches its own pods"}

// unjudged is the verdict for an address that is no endpoint's.
func (e *Evaluator) unjudged(a netip.Addr) policy.Why {
	switch {
	case e.hosts[a] != nil:
		return policy.Why{Verdict: policy.Allow, Note: "a node is no subject of policy"}
	case within(e.program.Local, a):
		return policy.Why{Verdict: e.program.Unknown, Note: "a pod that is not known yet"}
	default:
		return policy.Why{Verdict: policy.Allow, Note: "no pod of this program"}
	}
}

// Direction is the verdict on one side of a flow: what the endpoint, given as
// "namespace/name", may receive from the peer or send to it. An endpoint that the
// program does not have is denied.
func (e *Evaluator) Direction(endpoint string, d policy.Direction, peer netip.Addr, proto policy.Protocol, port uint16) policy.Why {
	own, why := subject(e.program, endpoint, d, peer)
	if own == nil {
		return why
	}
	return e.class(own, d, peer.Unmap(), proto, port)
}

// Direction is like Evaluator.Direction, and needs no index.
func Direction(p *policy.Program, endpoint string, d policy.Direction, peer netip.Addr, proto policy.Protocol, port uint16) policy.Why {
	own, why := subject(p, endpoint, d, peer)
	if own == nil {
		return why
	}
	why = Class(p, p.Classes[d][own.Class[d]], peer.Unmap(), proto, port)
	why.Endpoint = own.Key()
	return why
}

// subject is the endpoint that is judged by its class, or nil and the verdict.
func subject(p *policy.Program, endpoint string, d policy.Direction, peer netip.Addr) (*policy.Endpoint, policy.Why) {
	own := find(p, endpoint)
	if own == nil {
		return nil, policy.Why{Endpoint: endpoint, Note: "no such endpoint"}
	}
	if d == policy.Ingress && isHost(p, own.Node, peer.Unmap()) {
		return nil, ofNode(own)
	}
	return own, policy.Why{}
}

func (e *Evaluator) judge(own *policy.Endpoint, d policy.Direction, peer netip.Addr, proto policy.Protocol, port uint16) policy.Why {
	if h := e.hosts[peer]; d == policy.Ingress && h != nil && h.Name == own.Node {
		return ofNode(own)
	}
	return e.class(own, d, peer, proto, port)
}

func ofNode(own *policy.Endpoint) policy.Why {
	why := nodeToOwnPods
	why.Endpoint = own.Key()
	return why
}

// class judges by the endpoint's class, by its index where that is worth it.
func (e *Evaluator) class(own *policy.Endpoint, d policy.Direction, peer netip.Addr, proto policy.Protocol, port uint16) policy.Why {
	c := e.program.Classes[d][own.Class[d]]
	var why policy.Why
	if x := e.indexes.of(e.program, c, d, e.bounded); x != nil && indexable(peer) {
		var looked int
		why, looked = x.judge(e.program, peer, proto, port)
		e.indexes.looked.Add(int64(looked))
	} else {
		why = Class(e.program, c, peer, proto, port)
	}
	why.Endpoint = own.Key()
	return why
}

// Class is the verdict of a class of the program on a peer and a destination port. A
// class that is nil, or that decides nothing, denies.
func Class(p *policy.Program, c *policy.Class, peer netip.Addr, proto policy.Protocol, port uint16) policy.Why {
	if c == nil {
		return policy.Why{Note: "no such class"}
	}
	for i := range c.Tiers {
		t := &c.Tiers[i]
		why := policy.Why{Verdict: t.Else, Tier: t.Name, Rule: t.ElseID}
		if r := firstMatch(p, t.Rules, peer, proto, port); r != nil {
			why.Verdict, why.Rule = r.Verdict, r.ID
		}
		if why.Verdict != policy.Pass {
			return why
		}
	}
	return policy.Why{Note: "no tier decides"}
}

func firstMatch(p *policy.Program, rules []policy.Rule, peer netip.Addr, proto policy.Protocol, port uint16) *policy.Rule {
	for i := range rules {
		if matchesPort(p, &rules[i], peer, proto, port) && matchesPeer(p, &rules[i], peer) {
			return &rules[i]
		}
	}
	return nil
}

func matchesPeer(p *policy.Program, r *policy.Rule, peer netip.Addr) bool {
	if r.AnyPeer {
		return true
	}
	for _, id := range r.Peers {
		if Contains(p.Sets[id], peer) {
			return true
		}
	}
	return false
}

func matchesPort(p *policy.Program, r *policy.Rule, peer netip.Addr, proto policy.Protocol, port uint16) bool {
	if r.AnyPort {
		return true
	}
	for i := range r.Ports {
		m := &r.Ports[i]
		switch {
		case m.Protocol != proto:
		case m.Named != "":
			if containsPort(p.Sets[m.Named], peer, proto, port) {
				return true
			}
		case m.First <= port && port <= m.Last:
			return true
		}
	}
	return false
}

// Contains reports whether the address is in a set of addresses or networks. A set that is nil is empty.
func Contains(s *policy.Set, a netip.Addr) bool {
	if s == nil || s.Kind == policy.AddressPorts {
		return false
	}
	next, _ := slices.BinarySearchFunc(s.Elements, a, func(e policy.Element, a netip.Addr) int {
		if e.Prefix.Addr().Compare(a) <= 0 {
			return -1
		}
		return 1
	})
	if next == 0 {
		return false
	}
	last := s.Elements[next-1]
	if last.Prefix.Contains(a) {
		return !last.Except
	}
	return last.Except && parentContains(s, last.Prefix, a)
}

// parentContains reports whether the network that an exception lies in contains the address.
func parentContains(s *policy.Set, except netip.Prefix, a netip.Addr) bool {
	for bits := except.Bits() - 1; bits >= 0; bits-- {
		wider := policy.Element{Prefix: netip.PrefixFrom(except.Addr(), bits).Masked()}
		if _, found := slices.BinarySearchFunc(s.Elements, wider, policy.Element.Compare); found {
			return wider.Prefix.Contains(a)
		}
	}
	return false
}

func containsPort(s *policy.Set, a netip.Addr, proto policy.Protocol, port uint16) bool {
	if s == nil || s.Kind != policy.AddressPorts {
		return false
	}
	e := policy.AddressElement(a)
	e.Protocol, e.Port = proto, port
	_, found := slices.BinarySearchFunc(s.Elements, e, policy.Element.Compare)
	return found
}

func within(prefixes []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
}

func find(p *policy.Program, endpoint string) *policy.Endpoint {
	namespace, name, _ := strings.Cut(endpoint, "/")
	i, found := slices.BinarySearchFunc(p.Endpoints, [2]string{namespace, name}, func(e policy.Endpoint, k [2]string) int {
		if c := strings.Compare(e.Namespace, k[0]); c != 0 {
			return c
		}
		return strings.Compare(e.Name, k[1])
	})
	if !found {
		return nil
	}
	return &p.Endpoints[i]
}

func isHost(p *policy.Program, name string, a netip.Addr) bool {
	i, found := slices.BinarySearchFunc(p.Hosts, name, func(h policy.Host, name string) int { return strings.Compare(h.Name, name) })
	return found && slices.Contains(p.Hosts[i].Addrs, a)
}
