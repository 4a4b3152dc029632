package nftables

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/tierwall/tierwall/enforcer/nftables/simulator"
	"github.com/tierwall/tierwall/enforcer/ruletext"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/eval"
)

const (
	// mostCost bounds the rules and elements of a class in one family, as a multiple of what was
	// written and of the members of its sets; mostLookups bounds a packet's lookups as a multiple of what was written.
	mostCost    = 3
	mostLookups = 4
	// fixedCost is what a program of one pod without policies costs.
	fixedCost = 60
)

// hostileRules are the rules of one class, and how many members each of its sets has.
type hostileRules struct {
	rules []policy.Rule
	sets  map[policy.SetID]*policy.Set
}

func newHostile() *hostileRules { return &hostileRules{sets: map[policy.SetID]*policy.Set{}} }

// set makes a set of so many addresses, from an offset on.
func (h *hostileRules) set(id string, from, members int) policy.SetID {
	s := &policy.Set{ID: policy.SetID(id)}
	for i := range members {
		n := from + i
		s.Elements = append(s.Elements, policy.AddressElement(netip.AddrFrom4([4]byte{10, byte(1 + n>>16), byte(n >> 8), byte(n)})))
	}
	h.sets[s.ID] = s
	return s.ID
}

func (h *hostileRules) network(id string, prefixes ...string) policy.SetID {
	s := &policy.Set{ID: policy.SetID(id), Kind: policy.Networks}
	for _, p := range prefixes {
		s.Elements = append(s.Elements, policy.Element{Prefix: netip.MustParsePrefix(p)})
	}
	h.sets[s.ID] = s
	return s.ID
}

// named makes a set of named ports of so many addresses.
func (h *hostileRules) named(id string, members int, port uint16) policy.Port {
	h.set(id, 0, members)
	h.sets[policy.SetID(id)].Kind = policy.AddressPorts
	for i := range h.sets[policy.SetID(id)].Elements {
		e := &h.sets[policy.SetID(id)].Elements[i]
		e.Protocol, e.Port = policy.TCP, port
	}
	return policy.Port{Protocol: policy.TCP, Named: policy.SetID(id)}
}

func (h *hostileRules) allow(peers []policy.SetID, ports ...policy.Port) {
	h.rule(policy.Allow, peers, ports...)
}

func (h *hostileRules) rule(v policy.Verdict, peers []policy.SetID, ports ...policy.Port) {
	h.rules = append(h.rules, policy.Rule{Verdict: v, Peers: slices.Clone(peers), Ports: slices.Clone(ports), AnyPort: len(ports) == 0,
		ID: policy.RuleID{Kind: "NetworkPolicy", Namespace: "hostile", Name: fmt.Sprint(len(h.rules)), Field: "/spec/ingress/0"}})
}

func tcp(first, last int) policy.Port {
	return policy.Port{Protocol: policy.TCP, First: uint16(first), Last: uint16(last)}
}

func without[T any](in []T, i int) []T { return slices.Delete(slices.Clone(in), i, i+1) }

// hostile are the classes that would be large if peers were multiplied by ports, by ranges, by networks or
// by members.
func hostile() map[string]*hostileRules {
	out := map[string]*hostileRules{}
	add := func(name string, fill func(h *hostileRules)) {
		h := newHostile()
		fill(h)
		out[name] = h
	}
	many := func(h *hostileRules, n, members int) (ids []policy.SetID) {
		for i := range n {
			ids = append(ids, h.set(fmt.Sprintf("s%d", i), i, members))
		}
		return ids
	}
	ranges := func(n int) (ports []policy.Port) {
		for i := range n {
			ports = append(ports, tcp(1024+3*i, 1025+3*i))
		}
		return ports
	}
	add("selectors and ranges of one rule", func(h *hostileRules) { h.allow(many(h, 500, 3), ranges(2100)...) })
	add("ranges for large selectors", func(h *hostileRules) { h.allow(many(h, 12, 3000), ranges(1000)...) })
	add("rules of the same peers", func(h *hostileRules) {
		ids := many(h, 3, 500)
		for i := range 1000 {
			h.allow(ids[:1+i%3], tcp(1000+i, 1000+i))
		}
	})
	add("rules of the same ports", func(h *hostileRules) {
		for _, id := range many(h, 400, 60) {
			h.allow([]policy.SetID{id}, ranges(200)...)
		}
	})
	add("all peers but one, all ports but one", func(h *hostileRules) {
		ids, ports := many(h, 60, 300), ranges(60)
		for i := range ids {
			h.allow(without(ids, i), without(ports, i)...)
		}
	})
	add("all large peers but one", func(h *hostileRules) {
		ids, ports := many(h, 30, 2500), ranges(90)
		for i := range ids {
			h.allow(without(ids, i), ports[3*i:3*i+3]...)
		}
	})
	add("ranges within ranges", func(h *hostileRules) {
		for i, id := range many(h, 700, 5) {
			h.allow([]policy.SetID{id}, tcp(1+i, 60000-i))
		}
	})
	add("networks within networks", func(h *hostileRules) {
		for i := range 400 {
			var prefixes []string
			for j := range 5 {
				prefixes = append(prefixes, fmt.Sprintf("10.%d.0.0/%d", 16*j, 12+i%20))
			}
			h.allow([]policy.SetID{h.network(fmt.Sprint("n", i), prefixes...)}, tcp(100+i, 40000-i), tcp(50000+i%7, 50010+i%11))
		}
	})
	add("named ports and selectors", func(h *hostileRules) {
		var ports []policy.Port
		for i := range 100 {
			ports = append(ports, h.named(fmt.Sprint("name", i), 40, uint16(1000+i)))
		}
		ids := many(h, 150, 20)
		for i := range 20 {
			h.allow(without(ids, i), without(ports, i)...)
		}
	})
	add("large named ports", func(h *hostileRules) {
		h.allow(many(h, 60, 4), h.named("a", 2100, 80), h.named("b", 2100, 81), h.named("c", 2100, 82))
	})
	add("verdicts that alternate", func(h *hostileRules) {
		ids := many(h, 120, 6)
		for i := range 300 {
			h.rule(policy.Verdict(i/25%3), ids[i%100:i%100+3], tcp(i, i), tcp(1000+i, 1010+2*i))
		}
	})
	add("every port with other peers", func(h *hostileRules) {
		ids := many(h, 40, 100)
		for i := range 40 {
			var ports []policy.Port
			for port := range 200 {
				if (port*2654435761>>uint(i%13))&1 == 1 {
					ports = append(ports, tcp(2000+port, 2000+port))
				}
			}
			h.allow(ids[i:], append(ports, tcp(10, 10))...)
		}
	})
	return out
}

// program has the rules for one pod.
func (h *hostileRules) program() *policy.Program {
	p := &policy.Program{Sets: h.sets, Local: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")},
		Endpoints: []policy.Endpoint{{Namespace: "hostile", Name: "pod", Addrs: []netip.Addr{address("10.0.0.2")}, Class: [2]policy.ClassID{"h", "open"}}}}
	p.Classes = [2]map[policy.ClassID]*policy.Class{
		{"h": {ID: "h", Tiers: []policy.Tier{{Name: policy.NetworkPolicyTier, Rules: h.rules, Else: policy.Pass}, {Name: policy.DefaultTier}}}},
		{"open": {ID: "open", Tiers: []policy.Tier{{Name: policy.DefaultTier, Else: policy.Allow}}}}}
	return p
}

// size is what was written, and with the members of the sets.
func (h *hostileRules) size() (written, all int) {
	for _, r := range h.rules {
		written += 1 + len(r.Peers) + len(r.Ports)
	}
	for _, s := range h.sets {
		all += len(s.Elements)
	}
	return written, written + all
}

// costOf is the number of chains, rules, sets and elements, those within rules included.
func costOf(r Ruleset) int {
	n := len(r.Chains) + len(r.Sets)
	for _, c := range r.Chains {
		for _, rule := range c.Rules {
			n += 1 + strings.Count(rule.Text, ", ")
		}
	}
	for _, s := range r.Sets {
		n += len(s.Elements)
	}
	return n
}

// What a class costs is in proportion to what was written and to the members of its sets, and means the same.
func TestTheCostOfAClassIsASum(t *testing.T) {
	all := hostile()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		checkCost(t, name, all[name])
	}
}

// The same of programs that nobody thought of.
func TestTheCostOfRandomClassesIsASum(t *testing.T) {
	for seed := range uint64(32) {
		checkCost(t, fmt.Sprint("seed ", seed), randomRules(rand.New(rand.NewPCG(seed, 9))))
	}
}

func randomRules(r *rand.Rand) *hostileRules {
	h := newHostile()
	var ids []policy.SetID
	for i := range 1 + r.IntN(40) {
		id := fmt.Sprint("s", i)
		if r.IntN(4) == 0 {
			ids = append(ids, h.network(id, fmt.Sprintf("10.%d.0.0/%d", 16*r.IntN(16), 12+r.IntN(20))))
		} else {
			ids = append(ids, h.set(id, r.IntN(50), r.IntN(1+r.IntN(3000))))
		}
	}
	named := h.named("name", 1+r.IntN(50), 80)
	verdicts := 1 + r.IntN(2)*2
	for range 1 + r.IntN(60) {
		var peers []policy.SetID
		for range 1 + r.IntN(1+r.IntN(60)) {
			peers = append(peers, ids[r.IntN(len(ids))])
		}
		var ports []policy.Port
		for range r.IntN(1 + r.IntN(60)) {
			first := r.IntN(300)
			port := tcp(first, first+r.IntN(1+r.IntN(1+r.IntN(300))))
			port.Protocol = []policy.Protocol{policy.TCP, policy.UDP}[r.IntN(2)]
			switch r.IntN(20) {
			case 0:
				port = named
			case 1:
				port = policy.AllPorts(port.Protocol)
			}
			ports = append(ports, port)
		}
		v := policy.Allow
		if verdicts > 1 {
			v = policy.Verdict(r.IntN(verdicts))
		}
		h.rule(v, peers, ports...)
		h.rules[len(h.rules)-1].AnyPeer = r.IntN(15) == 0
		if h.rules[len(h.rules)-1].AnyPeer {
			h.rules[len(h.rules)-1].Peers = nil
		}
	}
	return h
}

func checkCost(t *testing.T, name string, h *hostileRules) {
	t.Helper()
	p := h.program()
	rules, err := Render(p, ruletext.DenyLog{})
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	written, size := h.size()
	if cost := costOf(rules) - fixedCost; cost > mostCost*size {
		t.Errorf("%s: %d rules and elements for %d written and members", name, cost, size)
	} else if testing.Verbose() {
		t.Logf("%s: %d rules and elements for %d, %.2f", name, cost, size, float64(cost)/float64(size))
	}
	table := simulator.New()
	if err := table.Run(script(rules)); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	decide, r := eval.New(p), rand.New(rand.NewPCG(1, 1))
	for i := range 40 {
		f := h.flow(r, i)
		want, got := decide.Decide(f), judge(t, table, policy.Host{}, f)
		if got.Accepted != (want.Verdict == policy.Allow) {
			t.Fatalf("%s: %+v: the program says %+v, the rules accept: %v, %v", name, f, want, got.Accepted, got.Trace)
		}
		if got.Lookups > mostLookups*written+10 {
			t.Errorf("%s: %d lookups for %d written", name, got.Lookups, written)
		}
	}
}

// flow is one to the pod that may match something.
func (h *hostileRules) flow(r *rand.Rand, i int) policy.Flow {
	rule := h.rules[r.IntN(len(h.rules))]
	f := policy.Flow{Source: address("10.9.9.9"), Destination: address("10.0.0.2"), Protocol: policy.TCP, DestinationPort: uint16(r.IntN(2000))}
	if len(rule.Peers) > 0 && i%4 != 0 {
		if s := h.sets[rule.Peers[r.IntN(len(rule.Peers))]]; len(s.Elements) > 0 {
			f.Source = s.Elements[r.IntN(len(s.Elements))].Prefix.Addr()
		}
	}
	if i%8 == 1 {
		f.Source = address("10.1.0.0").Next()
	}
	if len(rule.Ports) > 0 && i%4 != 2 {
		port := rule.Ports[r.IntN(len(rule.Ports))]
		f.Protocol, f.DestinationPort = port.Protocol, port.First+uint16(r.IntN(1+int(port.Last)-int(port.First)))
	}
	return f
}
