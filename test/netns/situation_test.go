//go:build netns

package netns

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/eval"
)

// The canaries: in all of the programs below, sender and its node may never reach
// denied, sender may never reach its own node, and sender and its node always reach
// allowed, each time for another reason.
var (
	sender  = []netip.Addr{netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("fd00::2")}
	denied  = []netip.Addr{netip.MustParseAddr("10.0.1.3"), netip.MustParseAddr("fd00:0:0:1::3")}
	allowed = []netip.Addr{netip.MustParseAddr("10.0.1.4"), netip.MustParseAddr("fd00:0:0:1::4")}

	nodeAddrs  = []netip.Addr{netip.MustParseAddr("192.168.0.1"), netip.MustParseAddr("fd00:1::1")}
	otherAddrs = []netip.Addr{netip.MustParseAddr("192.168.0.2"), netip.MustParseAddr("fd00:1::2")}

	// open are those whom sender always reaches, admitted those who always reach allowed.
	open     = slices.Concat(allowed, otherAddrs)
	admitted = slices.Concat(sender, nodeAddrs)
)

// situation is who is in which set, and which sets admit whom.
type situation struct {
	// members are those of sets, by name.
	members map[policy.SetID][][]netip.Addr
	// egress is the set that the sender may reach; the others are the sets that
	// may reach the two receivers.
	egress, denied, allowed policy.SetID
}

// situations are all different; between some of them labels change, between
// others policies, between most both.
var situations = []situation{
	{map[policy.SetID][][]netip.Addr{"e": {denied, open}, "x": {admitted}}, "e", "i", "x"},
	{map[policy.SetID][][]netip.Addr{"e": {open}, "i": {sender}, "y": {admitted}}, "e", "i", "y"},
	{map[policy.SetID][][]netip.Addr{"e": {open}, "f": {denied}, "i": {sender}, "x": {admitted}}, "e", "i", "x"},
	{map[policy.SetID][][]netip.Addr{"e": {open}, "f": {denied, open}, "y": {admitted}}, "f", "i", "y"},
	{map[policy.SetID][][]netip.Addr{"f": {open}, "i": {sender}, "x": {admitted}, "y": {admitted}}, "f", "i", "y"},
	{map[policy.SetID][][]netip.Addr{"e": {denied, open}, "i": {sender}, "x": {admitted}}, "e", "j", "x"},
	{map[policy.SetID][][]netip.Addr{"f": {open}, "i": {sender}, "y": {admitted}}, "f", "j", "y"},
}

// placement says how many nodes there are: sender is on the first, and the two
// receivers on the last.
type placement []policy.Host

var (
	network4, network6           = netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("fd00::/64")
	otherNetwork4, otherNetwork6 = netip.MustParsePrefix("10.0.1.0/24"), netip.MustParsePrefix("fd00:0:0:1::/64")

	oneNode = placement{
		{Name: "node", Addrs: nodeAddrs, PodCIDRs: []netip.Prefix{network4, otherNetwork4, network6, otherNetwork6}},
	}
	twoNodes = placement{
		{Name: "node", Addrs: nodeAddrs, PodCIDRs: []netip.Prefix{network4, network6}},
		{Name: "other", Addrs: otherAddrs, PodCIDRs: []netip.Prefix{otherNetwork4, otherNetwork6}},
	}
)

func (p placement) endpoints() []policy.Endpoint {
	first, last := p[0].Name, p[len(p)-1].Name
	return []policy.Endpoint{
		{Namespace: "canary", Name: "allowed", Node: last, Addrs: allowed},
		{Namespace: "canary", Name: "denied", Node: last, Addrs: denied},
		{Namespace: "canary", Name: "sender", Node: first, Addrs: sender},
	}
}

// program is the situation's program for one node, or for all if it has no name.
func (s situation) program(on placement, node string) *policy.Program {
	p := &policy.Program{
		Sets:    map[policy.SetID]*policy.Set{},
		Classes: [2]map[policy.ClassID]*policy.Class{{}, {}},
		Hosts:   on,
	}
	for _, h := range on {
		if node == "" || h.Name == node {
			p.Local = append(p.Local, h.PodCIDRs...)
		}
	}
	for _, id := range []policy.SetID{"e", "f", "i", "j", "x", "y"} {
		set := &policy.Set{ID: id}
		for _, a := range slices.Concat(s.members[id]...) {
			set.Elements = append(set.Elements, policy.AddressElement(a))
		}
		slices.SortFunc(set.Elements, policy.Element.Compare)
		p.Sets[id] = set
	}
	classes := [][2]policy.ClassID{
		{admitting(p, policy.Ingress, s.allowed), admitting(p, policy.Egress, "")},
		{admitting(p, policy.Ingress, s.denied), admitting(p, policy.Egress, "")},
		{admitting(p, policy.Ingress, ""), admitting(p, policy.Egress, s.egress)},
	}
	for i, e := range on.endpoints() {
		if e.Class = classes[i]; node == "" || e.Node == node {
			p.Endpoints = append(p.Endpoints, e)
		}
	}
	return p
}

// on are the programs of the situation.
func (s situation) on(p placement) func(node string) *policy.Program {
	return func(node string) *policy.Program { return s.program(p, node) }
}

// admitting is a class, which the program has from now on, of those who admit a set, or all.
func admitting(p *policy.Program, d policy.Direction, set policy.SetID) policy.ClassID {
	id := policy.ClassID(d.String() + "-" + string(set))
	rule := policy.Rule{Verdict: policy.Allow, AnyPort: true, AnyPeer: set == "", Peers: []policy.SetID{set}}
	p.Classes[d][id] = &policy.Class{ID: id, Tiers: []policy.Tier{{Name: policy.NetworkPolicyTier, Rules: []policy.Rule{rule}}}}
	return id
}

// flight is where a canary flies, and whether it may arrive.
type flight struct {
	from, to string
	passes   bool
}

// flights are those of a placement. A host is a pod or a node.
func (p placement) flights() []flight {
	out := []flight{
		{"sender", "denied", false}, {"sender", "node", false},
		{"sender", "allowed", true}, {"node", "allowed", true}, {"node", "sender", true},
	}
	if len(p) > 1 {
		out = append(out, flight{"node", "denied", false}, flight{"sender", "other", true})
	}
	return out
}

// addrsOf are the addresses of a pod or a node.
var addrsOf = map[string][]netip.Addr{"sender": sender, "denied": denied, "allowed": allowed, "node": nodeAddrs, "other": otherAddrs}

// flow is the flow of a canary of the family with the number.
func (c flight) flow(family int) policy.Flow {
	return policy.Flow{Source: addrsOf[c.from][family], Destination: addrsOf[c.to][family], Protocol: policy.UDP, DestinationPort: canaryPort}
}

func TestCanariesAreWhatTheyAreSaidToBe(t *testing.T) {
	for _, on := range []placement{oneNode, twoNodes} {
		for i, s := range situations {
			e := eval.New(s.program(on, ""))
			for _, c := range on.flights() {
				for family := range sender {
					if got := e.Decide(c.flow(family)); (got.Verdict == policy.Allow) != c.passes {
						t.Errorf("%d nodes, situation %d: %+v: %+v", len(on), i, c, got)
					}
				}
			}
		}
	}
}

// mayFollow reports whether no node has to wait for another: nodes do not switch at the same
// moment, so that what is denied has to be denied before and after by one and the same side.
func (p placement) mayFollow(before, after situation) bool {
	first, second := eval.New(before.program(p, "")), eval.New(after.program(p, ""))
	for _, c := range p.flights() {
		if c.passes || len(p) == 1 {
			continue
		}
		was, is := first.Decide(c.flow(0)), second.Decide(c.flow(0))
		egress := was.Egress.Verdict == policy.Deny && is.Egress.Verdict == policy.Deny
		ingress := was.Ingress.Verdict == policy.Deny && is.Ingress.Verdict == policy.Deny
		if !egress && !ingress {
			return false
		}
	}
	return true
}

func TestEverySituationCanBeReached(t *testing.T) {
	for i, before := range situations {
		followed := 0
		for j, after := range situations {
			if i != j && twoNodes.mayFollow(before, after) {
				followed++
			}
		}
		if followed == 0 {
			t.Errorf("nothing may follow situation %d", i)
		}
	}
}
