package explain

import (
	"net/netip"
	"slices"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/eval"
)

// world is a program that may be the cluster's, with what is known and one choice of what is not.
type world struct {
	program   *policy.Program
	eval      *eval.Evaluator
	endpoints map[string]*policy.Endpoint // by "namespace/name"
}

func newWorld(p *policy.Program) *world {
	w := &world{p, eval.New(p), make(map[string]*policy.Endpoint, len(p.Endpoints))}
	for i := range p.Endpoints {
		w.endpoints[p.Endpoints[i].Key()] = &p.Endpoints[i]
	}
	return w
}

// outcome is a verdict that a direction can have, and the fact that it depends on, if any.
type outcome struct {
	policy.Why
	fact *Unknown
}

// query is a port of a destination, over an IP family.
type query struct {
	family   int
	protocol policy.Protocol
	port     uint16
}

// endpoint is the pod as a subject of the program; nil if it is none.
func (w *world) endpoint(m Member) *policy.Endpoint {
	if m.kind != podMember {
		return nil
	}
	return w.endpoints[m.pod.Namespace+"/"+m.pod.Name]
}

// outcomes are the verdicts that the subject's policies can have on the peer, by the facts that are not known.
func (x *explainer) outcomes(w *world, d policy.Direction, subject, peer Member, q query) []outcome {
	own := w.endpoint(subject)
	switch {
	case subject.kind == unknownPod || subject.kind == unknownPeer:
		return bothVerdicts(podUnknown, subject)
	case subject.kind == hostMember:
		return []outcome{{Why: policy.Why{Verdict: policy.Allow, Note: "a node is no subject of policy"}}}
	case own == nil:
		return []outcome{{Why: w.outside(d, subject, peer, q)}}
	}
	class := w.program.Classes[d][own.Class[d]]
	switch peer.kind {
	case podMember:
		if peer.unlocated {
			return x.byAddress(w, own, class, peer, q)
		}
	case hostMember:
		if peer.unlocated {
			return x.byNode(w, d, own, class, peer, q)
		}
	case unknownPod, unknownPeer:
		return w.anyOf(own, class, peer, q)
	}
	return w.exact(d, own, peer.addr(q.family), q)
}

// bothVerdicts are the outcomes of a subject that nothing is known of.
func bothVerdicts(fact func(Member) Unknown, m Member) []outcome {
	u := fact(m)
	return []outcome{{policy.Why{Verdict: policy.Allow}, &u}, {policy.Why{Verdict: policy.Deny}, &u}}
}

// outside is the verdict on a subject that is no endpoint.
func (w *world) outside(d policy.Direction, subject, peer Member, q query) policy.Why {
	f := policy.Flow{Source: subject.addr(q.family), Destination: peer.addr(q.family), Protocol: q.protocol, DestinationPort: q.port}
	if d == policy.Egress {
		return w.eval.Decide(f).Egress
	}
	f.Source, f.Destination = f.Destination, f.Source
	return w.eval.Decide(f).Ingress
}

// exact are the outcomes for a peer whose address is known. A pod that is not on a node yet may
// come to be on the peer's.
func (w *world) exact(d policy.Direction, own *policy.Endpoint, peer netip.Addr, q query) []outcome {
	out := []outcome{{Why: eval.Direction(w.program, own.Key(), d, peer, q.protocol, q.port)}}
	if d == policy.Ingress && own.Node == "" && w.isHost(peer) {
		u := Unknown{"the node that " + own.Key() + " runs on", "the live cluster says so"}
		out[0].fact = &u
		out = append(out, outcome{onSameNode(own), &u})
	}
	return out
}

func (w *world) isHost(a netip.Addr) bool {
	return slices.ContainsFunc(w.program.Hosts, func(h policy.Host) bool { return slices.Contains(h.Addrs, a) })
}

func onSameNode(own *policy.Endpoint) policy.Why {
	return policy.Why{Verdict: policy.Allow, Endpoint: own.Key(), Note: "a node reaches its own pods"}
}

// byAddress are the outcomes for a pod that has any of the addresses where it can be. All
// addresses between two bounds of networks are the same to the class.
func (x *explainer) byAddress(w *world, own *policy.Endpoint, class *policy.Class, peer Member, q query) []outcome {
	return x.byNetworks(w, own, class, peer, q, addressUnknown(peer))
}

func (x *explainer) byNetworks(w *world, own *policy.Endpoint, class *policy.Class, peer Member, q query, fact Unknown) []outcome {
	networks, others := w.setsOf(class)
	seen := map[string]bool{}
	var out []outcome
	for _, a := range x.facts.samples(networks, peer, q.family) {
		key := make([]byte, len(networks))
		for i, s := range networks {
			if eval.Contains(s, a) {
				key[i] = 1
			}
		}
		if seen[string(key)] {
			continue
		}
		seen[string(key)] = true
		program := &policy.Program{Sets: map[policy.SetID]*policy.Set{}}
		for _, s := range others {
			program.Sets[s.ID] = s
		}
		for i, s := range networks {
			as := *s
			if as.Elements = nil; key[i] == 1 {
				as.Elements = []policy.Element{policy.AddressElement(peer.addr(q.family))}
			}
			program.Sets[s.ID] = &as
		}
		why := eval.Class(program, class, peer.addr(q.family), q.protocol, q.port)
		why.Endpoint = own.Key()
		out = append(out, outcome{why, &fact})
	}
	if _, sure := agreedVerdict(out); sure {
		for i := range out {
			out[i].fact = nil
		}
	}
	return out
}

// setsOf are the sets that a class refers to: those of networks, and the others.
func (w *world) setsOf(c *policy.Class) (networks, others []*policy.Set) {
	seen := map[policy.SetID]bool{}
	add := func(id policy.SetID) {
		s := w.program.Sets[id]
		switch {
		case s == nil || seen[id]:
		case s.Kind == policy.Networks:
			networks = append(networks, s)
		default:
			others = append(others, s)
		}
		seen[id] = true
	}
	if c == nil {
		return nil, nil
	}
	for _, t := range c.Tiers {
		for _, r := range t.Rules {
			for _, id := range r.Peers {
				add(id)
			}
			for _, p := range r.Ports {
				if p.Named != "" {
					add(p.Named)
				}
			}
		}
	}
	return networks, others
}

// samples are addresses that the peer may have, at least one of each part that the sets can tell from the others.
func (f *Facts) samples(sets []*policy.Set, peer Member, family int) []netip.Addr {
	within := peer.where[family]
	var elsewhere []netip.Prefix
	if len(within) == 0 {
		within = anywhere[family]
		elsewhere = ofFamily(f.Networks.Services, family)
		if peer.kind != hostMember {
			elsewhere = append(elsewhere, ofFamily(f.Networks.Nodes, family)...)
		}
	}
	var out []netip.Addr
	add := func(a netip.Addr) {
		for f.taken[a] && len(peer.Addrs) == 0 {
			a = a.Next()
		}
		if a.IsValid() && contains(within, a) && !contains(elsewhere, a) {
			out = append(out, a)
		}
	}
	bounds := func(p netip.Prefix) {
		add(p.Masked().Addr())
		add(lastAddress(p).Next())
	}
	for _, p := range slices.Concat(within, elsewhere) {
		bounds(p)
	}
	for _, s := range sets {
		for _, e := range s.Elements {
			bounds(e.Prefix)
		}
	}
	return out
}

// lastAddress is the highest address of a network.
func lastAddress(p netip.Prefix) netip.Addr {
	raw := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(raw)*8; i++ {
		raw[i/8] |= 1 << (7 - i%8)
	}
	a, _ := netip.AddrFromSlice(raw)
	return a
}

// byNode are the outcomes for a pod on the network of a node that is not known.
func (x *explainer) byNode(w *world, d policy.Direction, own *policy.Endpoint, class *policy.Class, peer Member, q query) []outcome {
	u := nodeUnknown(peer)
	var out []outcome
	for _, h := range w.program.Hosts {
		for _, a := range h.Addrs {
			if familyOf(a) == q.family {
				for _, o := range w.exact(d, own, a, q) {
					out = append(out, outcome{o.Why, &u})
				}
			}
		}
	}
	if len(out) > 0 {
		return out
	}
	if d == policy.Ingress {
		out = append(out, outcome{onSameNode(own), &u})
	}
	if x.selectsNodes() {
		for _, why := range possible(w, class, q, certainty{peers: maybe}) {
			why.Endpoint = own.Key()
			out = append(out, outcome{why, &u})
		}
	}
	return append(out, x.byNetworks(w, own, class, peer, q, u)...)
}

// anyOf are the outcomes for a pod of which at most the address is known.
func (w *world) anyOf(own *policy.Endpoint, class *policy.Class, peer Member, q query) []outcome {
	c := certainty{peers: maybe, ports: maybe}
	u := podUnknown(peer)
	if peer.kind == unknownPod {
		c.address = peer.addr(q.family)
	}
	var out []outcome
	for _, why := range possible(w, class, q, c) {
		why.Endpoint = own.Key()
		out = append(out, outcome{why, &u})
	}
	return out
}
