package effect

import (
	"cmp"
	"context"
	"iter"
	"net/netip"
	"slices"
	"strconv"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
)

// standIn is a group in the programs: one pod, with an address of each IP
// family that the cluster has; the other is void.
type standIn struct {
	*group
	addrs [2]netip.Addr
}

// reserved are where addresses are taken from when nodes have no pod CIDRs
// (RFC 1112, section 4; RFC 6666).
var reserved = []netip.Prefix{netip.MustParsePrefix("240.0.0.0/4"), netip.MustParsePrefix("100::/64")}

// addresses hands out addresses for stand-ins of pods that have none, from the
// networks of pods where they are known, so that policies about those networks
// match them. It avoids networks within those, which are about certain pods only.
type addresses struct {
	used  [2]bool // families that the cluster has
	pools [2][]netip.Prefix
	avoid prefixes
	next  [2]netip.Addr
	taken map[netip.Addr]bool
	nodes *compile.NodeNetworks
}

// families are the indices of IPv4 and IPv6.
var families = [...]int{0, 1}

func familyOf(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

func newAddresses(snapshots [2]*compile.Snapshot, networks []netip.Prefix) *addresses {
	a := &addresses{taken: map[netip.Addr]bool{}, nodes: compile.NewNodeNetworks(snapshots[is].Nodes)}
	for _, s := range snapshots {
		for _, p := range s.Pods {
			for _, addr := range p.Addrs {
				a.used[familyOf(addr.Unmap())] = true
			}
		}
		for _, n := range s.Nodes {
			for _, p := range n.PodCIDRs {
				if p.IsValid() {
					f := familyOf(p.Addr())
					a.pools[f], a.used[f] = append(a.pools[f], p.Masked()), true
				}
			}
		}
	}
	if !a.used[0] && !a.used[1] {
		a.used = [2]bool{true, true}
	}
	for _, f := range families {
		slices.SortFunc(a.pools[f], netip.Prefix.Compare)
		a.pools[f] = slices.Compact(a.pools[f])
		var pools prefixes
		for i, p := range a.pools[f] {
			pools.add(p, i)
		}
		for _, n := range networks {
			if familyOf(n.Addr()) == f && pools.around(n) {
				a.avoid.add(n, 0)
			}
		}
		a.pools[f] = append(a.pools[f], reserved[f])
		a.next[f] = a.pools[f][0].Addr()
	}
	return a
}

// take is the next address of a family.
func (a *addresses) take(f int) netip.Addr {
	for {
		for len(a.pools[f]) > 1 && !a.pools[f][0].Contains(a.next[f]) {
			a.pools[f] = a.pools[f][1:]
			a.next[f] = a.pools[f][0].Addr()
		}
		addr := a.next[f]
		a.next[f] = addr.Next()
		if hole, found := a.avoid.widest(addr); found {
			a.next[f] = last(hole).Next()
			continue
		}
		if a.taken[addr] {
			continue
		}
		a.taken[addr] = true
		return addr
	}
}

// last is the highest address of a network.
func last(p netip.Prefix) netip.Addr {
	bytes := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(bytes)*8; i++ {
		bytes[i/8] |= 1 << (7 - i%8)
	}
	addr, _ := netip.AddrFromSlice(bytes)
	return addr
}

// standIns are the groups with the address of one of their pods, or where there
// is none with one that no pod has.
func standIns(groups []*group, a *addresses) []*standIn {
	out := make([]*standIn, len(groups))
	var claimants []*standIn
	for i, g := range groups {
		out[i] = &standIn{group: g}
		if g.claim.Pod != nil {
			claimants = append(claimants, out[i])
		}
	}
	owners := map[netip.Addr]*standIn{}
	for _, s := range claimants {
		for _, addr := range s.claim.Pod.Addrs {
			addr = addr.Unmap()
			claim, other := a.nodes.Claim(s.claim.Pod, addr), owners[addr]
			if claim.Place != compile.Unusable && (other == nil || claim.Compare(a.nodes.Claim(other.claim.Pod, addr)) < 0) {
				owners[addr] = s
			}
		}
	}
	for addr, s := range owners {
		a.taken[addr], s.addrs[familyOf(addr)] = true, addr
	}
	for _, s := range out {
		if s.addrs != [2]netip.Addr{} {
			continue
		}
		for _, f := range families {
			if a.used[f] {
				s.addrs[f] = a.take(f)
			}
		}
	}
	return out
}

// side is the compiled state of one moment.
type side struct {
	program *policy.Program
	sets    []policy.SetID // sorted
	// classes are the subjects' classes in each direction; nil of those not there.
	classes map[*standIn][2]*policy.Class
	marks   map[netip.Addr]int
	known   numbers[string]
	// single are the sets of single addresses that an address is in, networks the numbers
	// of the other sets, less excepts, and member all sets that it is in as far as they were asked for.
	single            map[netip.Addr][]byte
	networks, excepts prefixes
	member            map[netip.Addr][]byte
	sights            map[*policy.Class]*sight
}

// compiler compiles policies for the stand-ins of one moment.
type compiler struct {
	*compile.Cluster
	members []*standIn
}

// newCompilers are those of both moments; they are one where the change is of policies alone.
func newCompilers(snapshots [2]*compile.Snapshot, u *universe, members []*standIn) [2]*compiler {
	first := newCompiler(was, snapshots[was], u, members)
	if onlyPolicies(snapshots[was], snapshots[is]) {
		return [2]*compiler{first, first}
	}
	return [2]*compiler{first, newCompiler(is, snapshots[is], u, members)}
}

func newCompiler(m moment, s *compile.Snapshot, u *universe, members []*standIn) *compiler {
	of := *s
	of.Pods, of.Namespaces = nil, nil
	for _, n := range u.byName {
		of.Namespaces = append(of.Namespaces, &compile.Namespace{Name: n.name, Labels: n.labels[m]})
	}
	for i, member := range members {
		if member.kinds[m] != nil {
			of.Pods = append(of.Pods, member.pod(m, strconv.Itoa(i)))
		}
	}
	return &compiler{compile.NewCluster(&of, ""), members}
}

// side is what policies mean for the stand-ins. It returns the context's error where that ends before.
func (c *compiler) side(ctx context.Context, policies iter.Seq[*terms]) (*side, error) {
	var read []*compile.Policy
	for t := range policies {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		read = append(read, t.compiled())
	}
	program, err := c.Compile(ctx, read)
	if err != nil {
		return nil, err
	}
	out := &side{program: program, classes: map[*standIn][2]*policy.Class{}, marks: map[netip.Addr]int{}, known: newNumbers[string](),
		single: map[netip.Addr][]byte{}, member: map[netip.Addr][]byte{}, sights: map[*policy.Class]*sight{}}
	for id := range program.Sets {
		out.sets = append(out.sets, id)
	}
	slices.Sort(out.sets)
	out.index()
	for _, e := range program.Endpoints {
		i, _ := strconv.Atoi(e.Name) // as the compiler named it
		out.classes[c.members[i]] = [2]*policy.Class{program.Classes[0][e.Class[0]], program.Classes[1][e.Class[1]]}
	}
	return out, nil
}

func (s *standIn) pod(m moment, name string) *compile.Pod {
	p := *s.kinds[m].like
	p.Name, p.UID, p.Node, p.Addrs = name, "", "", nil
	p.HostNetwork, p.Ended, p.Terminating, p.Created, p.Representative = false, false, false, 0, true
	for _, addr := range s.addrs {
		if addr.IsValid() {
			p.Addrs = append(p.Addrs, addr)
		}
	}
	return &p
}

// mark is what the sets of the program know of an address: addresses with the
// same mark are the same to every rule.
func (s *side) mark(a netip.Addr) int {
	if m, ok := s.marks[a]; ok {
		return m
	}
	s.marks[a] = s.known.of(string(s.memberships(a)))
	return s.marks[a]
}

// membership is the size of a set's part of what is known of an address: three bytes are
// the number of the set, the others are the protocol and the port in it.
const membership = 6

// memberships are the sets that an address is in.
func (s *side) memberships(a netip.Addr) []byte {
	if b, ok := s.member[a]; ok {
		return b
	}
	b := slices.Clip(s.single[a])
	excepted := s.excepts.of(a)
	for _, i := range s.networks.of(a) {
		if _, out := slices.BinarySearch(excepted, i); out {
			continue
		}
		b = append(b, byte(i>>16), byte(i>>8), byte(i), 0, 0, 0)
	}
	s.member[a] = b
	return b
}

// index notes which sets have single addresses, and which networks.
func (s *side) index() {
	for i, id := range s.sets {
		set := s.program.Sets[id]
		if set.Kind == policy.Networks {
			for _, e := range set.Elements {
				if e.Except {
					s.excepts.add(e.Prefix, i)
				} else {
					s.networks.add(e.Prefix, i)
				}
			}
			continue
		}
		for _, e := range set.Elements {
			a := e.Prefix.Addr()
			s.single[a] = append(s.single[a], byte(i>>16), byte(i>>8), byte(i), byte(e.Protocol), byte(e.Port>>8), byte(e.Port))
		}
	}
}

// sight is what a class can tell of addresses: whether they are in its sets.
type sight struct {
	sets  map[int]bool
	known numbers[string]
	// rules are those that name a set as peers, by the set's number; anyPeer those about all peers.
	rules   map[int][]rulePlace
	anyPeer []rulePlace
}

// rulePlace is the place of a rule in its class.
type rulePlace struct{ tier, rule int }

func compareRulePlaces(a, b rulePlace) int {
	return cmp.Or(cmp.Compare(a.tier, b.tier), cmp.Compare(a.rule, b.rule))
}

// markFor is what the sets that a class refers to know of an address: addresses
// with the same mark are the same to the class.
func (s *side) markFor(class *policy.Class, a netip.Addr) int {
	if class == nil {
		return 0
	}
	v := s.sightOf(class)
	all := s.memberships(a)
	own := make([]byte, 0, 8*membership)
	for i := 0; i < len(all); i += membership {
		if v.sets[int(all[i])<<16|int(all[i+1])<<8|int(all[i+2])] {
			own = append(own, all[i:i+membership]...)
		}
	}
	return v.known.of(string(own))
}

func (s *side) sightOf(class *policy.Class) *sight {
	v := s.sights[class]
	if v == nil {
		v = &sight{sets: s.setsOf(class), known: newNumbers[string](), rules: map[int][]rulePlace{}}
		for i, t := range class.Tiers {
			for j, r := range t.Rules {
				if r.AnyPeer {
					v.anyPeer = append(v.anyPeer, rulePlace{i, j})
				}
				for _, id := range r.Peers {
					if n, found := slices.BinarySearch(s.sets, id); found {
						v.rules[n] = append(v.rules[n], rulePlace{i, j})
					}
				}
			}
		}
		s.sights[class] = v
	}
	return v
}

// classFor is a class as one peer meets it: rules that are not about the peer are left out, and the others are about any.
// It takes time by the sets that the peer is in, not by the rules of the class.
func (s *side) classFor(class *policy.Class, peer netip.Addr) *policy.Class {
	if class == nil {
		return nil
	}
	v, all := s.sightOf(class), s.memberships(peer)
	places := slices.Clone(v.anyPeer)
	for i := 0; i < len(all); i += membership {
		n := int(all[i])<<16 | int(all[i+1])<<8 | int(all[i+2])
		if s.program.Sets[s.sets[n]].Kind != policy.AddressPorts {
			places = append(places, v.rules[n]...)
		}
	}
	slices.SortFunc(places, compareRulePlaces)
	out := &policy.Class{ID: class.ID, Tiers: slices.Clone(class.Tiers)}
	for i := range out.Tiers {
		out.Tiers[i].Rules = nil
	}
	for _, at := range slices.Compact(places) {
		met := class.Tiers[at.tier].Rules[at.rule]
		met.AnyPeer, met.Peers = true, nil
		out.Tiers[at.tier].Rules = append(out.Tiers[at.tier].Rules, met)
	}
	return out
}

// setsOf are the numbers of the sets that a class refers to.
func (s *side) setsOf(class *policy.Class) map[int]bool {
	out := map[int]bool{}
	add := func(id policy.SetID) {
		if i, found := slices.BinarySearch(s.sets, id); found {
			out[i] = true
		}
	}
	for _, t := range class.Tiers {
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
	return out
}
