package explain

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/tierwall/tierwall/cli/state"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
)

// Unsure is the verdict where the facts that decide are missing.
const Unsure = "unknown"

// explainer answers one question.
type explainer struct {
	facts     *Facts
	question  Question
	all       *world // of the whole snapshot
	selectors []state.PodSelector
	keys      []string // that selectors ask for
	nodePeers bool
}

func newExplainer(f *Facts, q Question) *explainer {
	x := &explainer{facts: f, question: q, all: newWorld(f.program), selectors: state.PodSelectors(f.snapshot)}
	for _, s := range x.selectors {
		x.keys = slices.AppendSeq(x.keys, maps.Keys(s.Selector.MatchLabels))
		for _, e := range s.Selector.MatchExpressions {
			x.keys = append(x.keys, e.Key)
		}
	}
	slices.Sort(x.keys)
	x.keys = slices.Compact(x.keys)
	for spec := range f.snapshot.Specs() {
		for r := range spec.Rules() {
			for _, p := range r.Peers() {
				x.nodePeers = x.nodePeers || p.Nodes != nil
			}
		}
	}
	return x
}

// selectsNodes reports whether a policy has nodes for peers, so that it matters which node an address is of.
func (x *explainer) selectsNodes() bool { return x.nodePeers }

// decision is what is found about one pair.
type decision struct {
	verdict string
	// outcomes are all that a direction can come to.
	outcomes [2][]outcome
	because  []Unknown
	from, to Member
	query    query
	self     bool
	// base is the first of the ways, of which near misses are told.
	base way
}

// decide is the decision on a pair, in all ways in which what is not known can be.
func (x *explainer) decide(from, to Member, q query) decision {
	d := decision{from: from, to: to, query: q, self: isSelf(from, to)}
	ways := x.ways(from, to, q)
	if ways == nil {
		d.verdict, d.because = Unsure, x.tooMany(from, to)
		for _, dir := range policy.Directions {
			d.outcomes[dir] = bothVerdicts(func(Member) Unknown { return manyUnknown() }, from)
		}
		return d
	}
	d.base = ways[0]
	verdicts := map[string]bool{}
	for _, way := range ways {
		egress, ingress := x.directions(way.world, way.from, way.to, q)
		for dir, outcomes := range [2][]outcome{policy.Ingress: ingress, policy.Egress: egress} {
			for _, o := range outcomes {
				if way.fact != nil && (o.fact == nil || way.identified) {
					o.fact = way.fact
				}
				d.outcomes[dir] = append(d.outcomes[dir], o)
			}
		}
		v := combineDirections(egress, ingress)
		verdicts[v] = true
	}
	d.setVerdict(verdicts)
	d.addCauses()
	return d
}

// setVerdict is the verdict over all ways.
func (d *decision) setVerdict(verdicts map[string]bool) {
	switch {
	case len(verdicts) == 1:
		for v := range verdicts {
			d.verdict = v
		}
	case verdicts[Unsure] || verdicts[verdictWord(policy.Deny)]:
		d.verdict = Unsure
	default:
		d.verdict = verdictWord(policy.Audit) // it passes in any case
	}
}

// addCauses notes the facts that make a difference: for the verdict if that is not known, else for a direction.
func (d *decision) addCauses() {
	if d.verdict != Unsure {
		return
	}
	seen := map[Unknown]bool{}
	for _, dir := range []policy.Direction{policy.Egress, policy.Ingress} {
		if _, sure := agreedVerdict(d.outcomes[dir]); sure {
			continue
		}
		for _, u := range decisiveFacts(d.outcomes[dir]) {
			if !seen[u] {
				seen[u] = true
				d.because = append(d.because, u)
			}
		}
	}
}

// decisiveFacts are those that outcomes depend on: of which there are several verdicts.
func decisiveFacts(outcomes []outcome) []Unknown {
	var out []Unknown
	for _, o := range outcomes {
		if o.fact == nil || slices.Contains(out, *o.fact) {
			continue
		}
		if isDecisive(outcomes, *o.fact) {
			out = append(out, *o.fact)
		}
	}
	return out
}

// isDecisive reports whether outcomes that depend on the fact are not all the same as the others.
func isDecisive(outcomes []outcome, fact Unknown) bool {
	for _, a := range outcomes {
		for _, b := range outcomes {
			if a.fact != nil && *a.fact == fact && a.Verdict.Permits() != b.Verdict.Permits() {
				return true
			}
		}
	}
	return false
}

// agreedVerdict reports whether all outcomes let the flow pass; sure is false where some do and others not.
func agreedVerdict(outcomes []outcome) (passes, sure bool) {
	for i, o := range outcomes {
		if i > 0 && o.Verdict.Permits() != passes {
			return false, false
		}
		passes = o.Verdict.Permits()
	}
	return passes, true
}

// combineDirections is the verdict of both directions, whose unknown facts have nothing to do with each other.
func combineDirections(egress, ingress []outcome) string {
	e, eSure := agreedVerdict(egress)
	i, iSure := agreedVerdict(ingress)
	switch {
	case eSure && !e || iSure && !i:
		return verdictWord(policy.Deny)
	case !eSure || !iSure:
		return Unsure
	}
	for _, o := range slices.Concat(egress, ingress) {
		if o.Verdict == policy.Audit {
			return verdictWord(policy.Audit)
		}
	}
	return verdictWord(policy.Allow)
}

func isSelf(from, to Member) bool {
	return from.pod != nil && to.pod != nil && from.pod.Namespace == to.pod.Namespace && from.pod.Name == to.pod.Name
}

// directions are the outcomes of egress and ingress.
func (x *explainer) directions(w *world, from, to Member, q query) (egress, ingress []outcome) {
	if isSelf(from, to) && !to.service {
		why := policy.Why{Verdict: policy.Allow, Endpoint: from.Name, Note: "a pod reaches itself"}
		return []outcome{{Why: why}}, []outcome{{Why: why}}
	}
	return x.outcomes(w, policy.Egress, from, to, q), x.outcomes(w, policy.Ingress, to, from, q)
}

// way is one choice of what is not known of the two sides of a pair.
type way struct {
	world    *world
	from, to Member
	// fact is what was chosen; identified is true where it is who has an address.
	fact       *Unknown
	identified bool
}

// ways are all choices of the labels that cannot be known, and of whom an address can be of; nil if there are too many.
func (x *explainer) ways(from, to Member, q query) []way {
	var out []way
	for _, f := range x.identities(from, false, q.family) {
		for _, t := range x.identities(to, true, q.family) {
			if isSelf(f.Member, t.Member) && (from.kind == addressMember || to.kind == addressMember) {
				continue // who asks about a pod and an address means two
			}
			worlds := x.worlds(f.Member, t.Member, q)
			if worlds == nil {
				return nil
			}
			for _, w := range worlds {
				one := way{world: w.world, from: f.Member, to: t.Member, fact: w.fact}
				for _, u := range []*Unknown{t.fact, f.fact} {
					if u != nil {
						one.fact, one.identified = u, true
					}
				}
				out = append(out, one)
			}
		}
	}
	return out
}

// identity is a member that an address can be, and the fact that tells.
type identity struct {
	Member
	fact *Unknown
}

// identities are the pods, nodes and Services that may have the member's address. On a live cluster, and
// for addresses that are not of the cluster's networks, it is nobody's but what is known.
func (x *explainer) identities(m Member, destination bool, family int) []identity {
	if m.kind != addressMember || x.facts.Complete {
		return []identity{{Member: m}}
	}
	a := m.addrs[0].Unmap()
	can := x.facts.owners(a, destination && !m.noPod)
	u := identityUnknown(a)
	if can.knownPod {
		u = podUnknown(m)
	}
	if m.noPod {
		can.pod, can.knownPod = false, false
	}
	var out []identity
	add := func(m Member) { out = append(out, identity{m, &u}) }
	outside := m
	if can.knownPod {
		outside.kind = unknownPod
	}
	if can.knownService {
		service := Unknown{"what is behind the Service that has the address " + a.String(), "the Service, and the pods that it selects or its EndpointSlices, say so"}
		outside.kind, outside.missing = unknownPeer, &service
	}
	out = append(out, identity{outside, &u})
	if can.pod || can.knownPod {
		for _, p := range x.facts.snapshot.Pods {
			if !p.HostNetwork && !p.Ended && x.facts.unlocated[p.Namespace+"/"+p.Name] {
				with := x.facts.assumedAt(p, a)
				with.port, with.service = m.port, m.service
				add(with)
			}
		}
		if !can.knownPod {
			stranger := m
			stranger.kind, stranger.missing = unknownPod, &u
			add(stranger)
		}
	}
	if can.node && !x.all.isHost(a) {
		host := m
		host.kind, host.unlocated = hostMember, true
		host.where[family] = []netip.Prefix{netip.PrefixFrom(a, a.BitLen())}
		add(host)
	}
	if can.service {
		service := m
		service.kind, service.missing = unknownPeer, &u
		add(service)
	}
	if len(out) == 1 {
		out[0].fact = nil
	}
	return out
}

// possibleOwners are who may have an address.
type possibleOwners struct{ pod, knownPod, node, service, knownService bool }

// owners are who may have an address that no object has.
func (f *Facts) owners(a netip.Addr, destination bool) possibleOwners {
	family := familyOf(a)
	pods, nodes, services := f.podNetworks(family), ofFamily(f.Networks.Nodes, family), ofFamily(f.Networks.Services, family)
	switch {
	case contains(pods, a):
		return possibleOwners{knownPod: true}
	case contains(nodes, a):
		return possibleOwners{node: true}
	case contains(services, a):
		return possibleOwners{knownService: destination}
	case !isPrivate(a):
		return possibleOwners{}
	}
	return possibleOwners{
		pod:     len(pods) == 0,
		node:    len(nodes) == 0 && !f.knowsNodes(),
		service: destination && len(services) == 0,
	}
}

// knowsNodes reports whether there are Nodes with their addresses.
func (f *Facts) knowsNodes() bool {
	return slices.ContainsFunc(f.snapshot.Nodes, func(n *compile.Node) bool { return len(n.Addrs) > 0 })
}
