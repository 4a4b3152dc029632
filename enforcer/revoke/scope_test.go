package revoke

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tierwall/tierwall/policy"
)

// small is a program of two pods, of which the first is judged by the sets "allow",
// "deny", "pass" and "ports" in the given direction, and the second by none.
func small(d policy.Direction) *policy.Program {
	p := admitting(2)
	p.Local = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")}
	rule := func(v policy.Verdict, set policy.SetID) policy.Rule {
		return policy.Rule{Verdict: v, AnyPort: true, Peers: []policy.SetID{set}}
	}
	ports := policy.Rule{Verdict: policy.Allow, AnyPeer: true, Ports: []policy.Port{{Protocol: policy.TCP, Named: "ports"}}}
	p.Classes[d]["sets"] = &policy.Class{ID: "sets", Tiers: []policy.Tier{
		{Rules: []policy.Rule{rule(policy.Pass, "pass"), rule(policy.Deny, "deny"), rule(policy.Allow, "allow"), ports}}}}
	for _, id := range []policy.SetID{"pass", "deny", "allow", "ports", "else"} {
		p.Sets[id] = &policy.Set{ID: id}
	}
	p.Endpoints[0].Class[d] = "sets"
	p.Endpoints = append(p.Endpoints, policy.Endpoint{Namespace: "test", Name: "third", Addrs: addrs4(3), Class: p.Endpoints[0].Class})
	p.Endpoints[1].Class[d] = "in"
	return p
}

func TestScopes(t *testing.T) {
	element := func(n byte) []policy.Element { return []policy.Element{policy.AddressElement(addr4(n))} }
	network := []policy.Element{{Prefix: netip.MustParsePrefix("10.1.0.0/16")}}
	several := append(element(7), element(8)...)
	sets := func(changes ...policy.SetChange) policy.Change { return policy.Change{Members: changes} }
	pod := func(name string, class policy.ClassID, addrs ...netip.Addr) policy.Change {
		return policy.Change{Endpoints: []policy.Endpoint{{Namespace: "test", Name: name, Addrs: addrs, Class: [2]policy.ClassID{class, "out"}}}}
	}
	type sides map[Side]bool
	source, destination := func(n byte) Side { return Side{addr4(n), policy.Egress} }, func(n byte) Side { return Side{addr4(n), policy.Ingress} }
	for name, c := range map[string]struct {
		direction policy.Direction
		change    policy.Change
		want      sides
	}{
		"nothing":                                 {policy.Ingress, policy.Change{}, nil},
		"a set that allows grows":                 {policy.Ingress, sets(policy.SetChange{ID: "allow", Added: element(7)}), nil},
		"a set that allows shrinks":               {policy.Ingress, sets(policy.SetChange{ID: "allow", Removed: element(7)}), sides{source(7): true}},
		"of egress":                               {policy.Egress, sets(policy.SetChange{ID: "allow", Removed: element(7)}), sides{destination(7): true}},
		"by more than there are subjects":         {policy.Ingress, sets(policy.SetChange{ID: "allow", Removed: several}), sides{destination(1): true}},
		"by a network":                            {policy.Egress, sets(policy.SetChange{ID: "allow", Removed: network}), sides{source(1): true}},
		"a set that denies grows":                 {policy.Ingress, sets(policy.SetChange{ID: "deny", Added: element(7)}), sides{source(7): true}},
		"a set that denies shrinks":               {policy.Ingress, sets(policy.SetChange{ID: "deny", Removed: element(7)}), nil},
		"a set that passes grows":                 {policy.Ingress, sets(policy.SetChange{ID: "pass", Added: element(7)}), sides{source(7): true}},
		"a set that passes shrinks":               {policy.Ingress, sets(policy.SetChange{ID: "pass", Removed: element(7)}), sides{source(7): true}},
		"a set that nothing refers to":            {policy.Ingress, sets(policy.SetChange{ID: "else", Added: element(7), Removed: element(8)}), nil},
		"a named port goes":                       {policy.Egress, sets(policy.SetChange{ID: "ports", Removed: element(7)}), sides{destination(7): true}},
		"a pod comes where all was denied":        {policy.Ingress, pod("new", "in", addr4(9)), nil},
		"a pod comes where nothing was":           {policy.Ingress, pod("new", "in", netip.MustParseAddr("192.0.2.1")), sides{{netip.MustParseAddr("192.0.2.1"), policy.Ingress}: true, {netip.MustParseAddr("192.0.2.1"), policy.Egress}: true}},
		"a pod takes over an address":             {policy.Ingress, pod("new", "in", addr4(3)), sides{source(3): true, destination(3): true}},
		"a pod's class changes in one direction":  {policy.Ingress, pod("third", "sets", addr4(3)), sides{destination(3): true}},
		"a pod loses its address and has another": {policy.Ingress, pod("third", "in", addr4(9)), sides{source(3): true, destination(3): true}},
		"a pod goes":                              {policy.Ingress, policy.Change{EndpointsGone: []string{"test/third"}}, sides{source(3): true, destination(3): true}},
		"a pod that never was goes":               {policy.Ingress, policy.Change{EndpointsGone: []string{"test/fourth"}}, nil},
		"a node comes": {policy.Ingress, policy.Change{Frame: &policy.NodeConfig{Local: small(0).Local, Hosts: []policy.Host{{Name: "n", Addrs: addrs4(9)}}}},
			sides{source(9): true, destination(9): true}},
	} {
		t.Run(name, func(t *testing.T) {
			before := small(c.direction)
			got := Affected(before, before.With(&c.change), &c.change)
			if diff := cmp.Diff(map[Side]bool(c.want), got.Sides, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); got.All || diff != "" {
				t.Errorf("all: %v, sides (-want +got):\n%s", got.All, diff)
			}
		})
	}
	for name, frame := range map[string]policy.NodeConfig{
		"the pods' networks change":               {},
		"unknown pods are not denied any more":    {Local: small(0).Local, Unknown: policy.Allow},
		"unknown pods are elsewhere, and allowed": {Unknown: policy.Allow},
	} {
		before, c := small(policy.Ingress), policy.Change{Frame: &frame}
		if got := Affected(before, before.With(&c), &c); !got.All {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestWhatToAskTheKernelFor(t *testing.T) {
	of := func(n int, also ...Side) Scope {
		var s Scope
		for i := range n {
			s.addSides(addr4(byte(i)), policy.Egress)
		}
		for _, side := range also {
			s.addSides(side.Addr, side.Direction)
		}
		return s
	}
	six := Side{netip.MustParseAddr("fd00::1"), policy.Ingress}
	for name, c := range map[string]struct {
		scope      Scope
		single     bool
		one, whole int // how many questions are for a side, and how many for a family or all
	}{
		"nothing":                        {Scope{}, false, 0, 0},
		"all":                            {Scope{All: true}, false, 0, 1},
		"all and some":                   {Scope{All: true, Sides: of(3).Sides}, false, 0, 1},
		"a few sides":                    {of(maxQueries), false, maxQueries, 0},
		"many":                           {of(maxQueries + 1), false, 0, 1},
		"a few, and an IPv6 address":     {of(2, six), false, 2, 1},
		"many, and an IPv6 address":      {of(100, six), false, 0, 2},
		"of a few connections, none":     {Scope{}, true, 0, 0},
		"a side":                         {of(1), true, 1, 0},
		"an IPv6 side":                   {of(0, six), true, 0, 1},
		"a few sides, in one walk":       {of(2), true, 0, 1},
		"and an IPv6 address, no second": {of(1, six), true, 0, 1},
	} {
		one, whole := 0, 0
		for _, q := range planQueries(c.scope, c.single) {
			if q.side != nil {
				one++
			} else {
				whole++
			}
		}
		if one != c.one || whole != c.whole {
			t.Errorf("%s: %d for a side and %d for a family", name, one, whole)
		}
	}
}
