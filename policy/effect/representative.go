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

// representative is a group in the programs: one pod, with an address of each IP
// family that the cluster has; the other is void.
type representative struct {
	*podGroup
	addrs [2]netip.Addr
}

// reserved are where addresses are taken from when nodes have no pod CIDRs
// (RFC 1112, section 4; RFC 6666).
var reserved = []netip.Prefix{netip.MustParsePrefix("240.0.0.0/4"), netip.MustParsePrefix("100::/64")}

// addressPool hands out addresses for stand-ins of pods that have none, from the
// networks of pods where they are known, so that policies about those networks
// match them. It avoids networks within those, which are about certain pods only.
type addressPool struct {
	used  [2]bool // families that the cluster has
	pools [2][]netip.Prefix
	avoid prefixIndex
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

func newAddressPool(snapshots [2]*compile.Snapshot, networks []netip.Prefix) *addressPool {
	a := &addressPool{taken: map[netip.Addr]bool{}, nodes: compile.NewNodeNetworks(snapshots[stateAfter].Nodes)}
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
		var pools prefixIndex
		for i, p := range a.pools[f] {
			pools.addPrefix(p, i)
		}
		for _, n := range networks {
			if familyOf(n.Addr()) == f && pools.containsWider(n) {
				a.avoid.addPrefix(n, 0)
			}
		}
		a.pools[f] = append(a.pools[f], reserved[f])
		a.next[f] = a.pools[f][0].Addr()
	}
	return a
}

// nextAddress is the next address of a family.
func (a *addressPool) nextAddress(f int) netip.Addr {
	for {
		for len(a.pools[f]) > 1 && !a.pools[f][0].Contains(a.next[f]) {
			a.pools[f] = a.pools[f][1:]
			a.next[f] = a.pools[f][0].Addr()
		}
		addr := a.next[f]
		a.next[f] = addr.Next()
		if hole, found := a.avoid.widestContaining(addr); found {
			a.next[f] = lastAddress(hole).Next()
			continue
		}
		if a.taken[addr] {
			continue
		}
		a.taken[addr] = true
		return addr
	}
}

// lastAddress is the highest address of a network.
func lastAddress(p netip.Prefix) netip.Addr {
	bytes := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(bytes)*8; i++ {
		bytes[i/8] |= 1 << (7 - i%8)
	}
	addr, _ := netip.AddrFromSlice(bytes)
	return addr
}

// newRepresentatives are the groups with the address of one of their pods, or where there
// is none with one that no pod has.
func newRepresentatives(groups []*podGroup, a *addressPool) []*representative {
	out := make([]*representative, len(groups))
	var claimants []*representative
	for i, g := range groups {
		out[i] = &representative{podGroup: g}
		if g.claim.Pod != nil {
			claimants = append(claimants, out[i])
		}
	}
	owners := map[netip.Addr]*representative{}
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
				s.addrs[f] = a.nextAddress(f)
			}
		}
	}
	return out
}

// compiledState is the compiled state of one moment.
type compiledState struct {
	program *policy.Program
	sets    []policy.SetID // sorted
	// classes are the subjects' classes in each direction; nil of those not there.
	classes        map[*representative][2]*policy.Class
	equivalenceIDs map[netip.Addr]int
	memberKeys     numbering[string]
	// addressSets are the sets of single addresses that an address is in, networks the numbers
	// of the other sets, less excepts, and member all sets that it is in as far as they were asked for.
	addressSets       map[netip.Addr][]byte
	networks, excepts prefixIndex
	memberships       map[netip.Addr][]byte
	classViews        map[*policy.Class]*classView
}

// stateCompiler compiles policies for the stand-ins of one moment.
type stateCompiler struct {
	*compile.Cluster
	members []*representative
}

// newStateCompilers are those of both moments; they are one where the change is of policies alone.
func newStateCompilers(snapshots [2]*compile.Snapshot, u *podModel, members []*representative) [2]*stateCompiler {
	first := newStateCompiler(stateBefore, snapshots[stateBefore], u, members)
	if onlyPolicies(snapshots[stateBefore], snapshots[stateAfter]) {
		return [2]*stateCompiler{first, first}
	}
	return [2]*stateCompiler{first, newStateCompiler(stateAfter, snapshots[stateAfter], u, members)}
}

func newStateCompiler(m state, s *compile.Snapshot, u *podModel, members []*representative) *stateCompiler {
	of := *s
	of.Pods, of.Namespaces = nil, nil
	for _, n := range u.byName {
		of.Namespaces = append(of.Namespaces, &compile.Namespace{Name: n.name, Labels: n.labels[m]})
	}
	for i, member := range members {
		if member.kinds[m] != nil {
			of.Pods = append(of.Pods, member.syntheticPod(m, strconv.Itoa(i)))
		}
	}
	return &stateCompiler{compile.NewCluster(&of, ""), members}
}

// compileState is what policies mean for the stand-ins. It returns the context's error where that ends before.
func (c *stateCompiler) compileState(ctx context.Context, policies iter.Seq[*terms]) (*compiledState, error) {
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
	out := &compiledState{program: program, classes: map[*representative][2]*policy.Class{}, equivalenceIDs: map[netip.Addr]int{}, memberKeys: newNumbering[string](),
		addressSets: map[netip.Addr][]byte{}, memberships: map[netip.Addr][]byte{}, classViews: map[*policy.Class]*classView{}}
	for id := range program.Sets {
		out.sets = append(out.sets, id)
	}
	slices.Sort(out.sets)
	out.indexSets()
	for _, e := range program.Endpoints {
		i, _ := strconv.Atoi(e.Name) // as the compiler named it
		out.classes[c.members[i]] = [2]*policy.Class{program.Classes[0][e.Class[0]], program.Classes[1][e.Class[1]]}
	}
	return out, nil
}

func (s *representative) syntheticPod(m state, name string) *compile.Pod {
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

// equivalenceID is what the sets of the program know of an address: addresses with the
// same mark are the same to every rule.
func (s *compiledState) equivalenceID(a netip.Addr) int {
	if m, ok := s.equivalenceIDs[a]; ok {
		return m
	}
	s.equivalenceIDs[a] = s.memberKeys.number(string(s.setMemberships(a)))
	return s.equivalenceIDs[a]
}

// membershipSize is the size of a set's part of what is known of an address: three bytes are
// the number of the set, the others are the protocol and the port in it.
const membershipSize = 6

// setMemberships are the sets that an address is in.
func (s *compiledState) setMemberships(a netip.Addr) []byte {
	if b, ok := s.memberships[a]; ok {
		return b
	}
	b := slices.Clip(s.addressSets[a])
	excepted := s.excepts.setsContaining(a)
	for _, i := range s.networks.setsContaining(a) {
		if _, out := slices.BinarySearch(excepted, i); out {
			continue
		}
		b = append(b, byte(i>>16), byte(i>>8), byte(i), 0, 0, 0)
	}
	s.memberships[a] = b
	return b
}

// indexSets notes which sets have single addresses, and which networks.
func (s *compiledState) indexSets() {
	for i, id := range s.sets {
		set := s.program.Sets[id]
		if set.Kind == policy.Networks {
			for _, e := range set.Elements {
				if e.Except {
					s.excepts.addPrefix(e.Prefix, i)
				} else {
					s.networks.addPrefix(e.Prefix, i)
				}
			}
			continue
		}
		for _, e := range set.Elements {
			a := e.Prefix.Addr()
			s.addressSets[a] = append(s.addressSets[a], byte(i>>16), byte(i>>8), byte(i), byte(e.Protocol), byte(e.Port>>8), byte(e.Port))
		}
	}
}

// classView is what a class can tell of addresses: whether they are in its sets.
type classView struct {
	sets  map[int]bool
	known numbering[string]
	// rules are those that name a set as peers, by the set's number; anyPeer those about all peers.
	rules   map[int][]rulePlace
	anyPeer []rulePlace
}

// rulePlace is the place of a rule in its class.
type rulePlace struct{ tier, rule int }

func compareRulePlaces(a, b rulePlace) int {
	return cmp.Or(cmp.Compare(a.tier, b.tier), cmp.Compare(a.rule, b.rule))
}

// equivalenceIDFor is what the sets that a class refers to know of an address: addresses
// with the same mark are the same to the class.
func (s *compiledState) equivalenceIDFor(class *policy.Class, a netip.Addr) int {
	if class == nil {
		return 0
	}
	v := s.classView(class)
	all := s.setMemberships(a)
	own := make([]byte, 0, 8*membershipSize)
	for i := 0; i < len(all); i += membershipSize {
		if v.sets[int(all[i])<<16|int(all[i+1])<<8|int(all[i+2])] {
			own = append(own, all[i:i+membershipSize]...)
		}
	}
	return v.known.number(string(own))
}

func (s *compiledState) classView(class *policy.Class) *classView {
	v := s.classViews[class]
	if v == nil {
		v = &classView{sets: s.setNumbers(class), known: newNumbering[string](), rules: map[int][]rulePlace{}}
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
		s.classViews[class] = v
	}
	return v
}

// classSeenBy is a class as one peer meets it: rules that are not about the peer are left out, and the others are about any.
// It takes time by the sets that the peer is in, not by the rules of the class.
func (s *compiledState) classSeenBy(class *policy.Class, peer netip.Addr) *policy.Class {
	if class == nil {
		return nil
	}
	v, all := s.classView(class), s.setMemberships(peer)
	places := slices.Clone(v.anyPeer)
	for i := 0; i < len(all); i += membershipSize {
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

// setNumbers are the numbers of the sets that a class refers to.
func (s *compiledState) setNumbers(class *policy.Class) map[int]bool {
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
