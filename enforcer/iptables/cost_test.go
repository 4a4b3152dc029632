package iptables_test

import (
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"testing"

	"github.com/tierwall/tierwall/enforcer/iptables"
	"github.com/tierwall/tierwall/enforcer/iptables/simulator"
	"github.com/tierwall/tierwall/enforcer/ruletext"
	"github.com/tierwall/tierwall/policy"
)

// draft is a program of one endpoint whose classes are made of rules.
type draft struct {
	program *policy.Program
	rules   []policy.Rule
}

func newDraft() *draft {
	return &draft{program: &policy.Program{
		Endpoints: []policy.Endpoint{{Namespace: "prod", Name: "one", Addrs: []netip.Addr{address("10.1.0.2"), address("fd00:1::2")}, Class: [2]policy.ClassID{"c", "c"}}},
		Sets:      map[policy.SetID]*policy.Set{},
	}}
}

// sets makes sets of so many pods each.
func (d *draft) sets(prefix string, n, members int) (ids []policy.SetID) {
	for i := range n {
		s := &policy.Set{ID: policy.SetID(fmt.Sprint(prefix, i))}
		for m := range members {
			at := i*members + m
			s.Elements = append(s.Elements, policy.AddressElement(netip.AddrFrom4([4]byte{20, byte(at >> 16), byte(at >> 8), byte(at)})))
		}
		d.program.Sets[s.ID], ids = s, append(ids, s.ID)
	}
	return ids
}

// networks makes sets of one network with so many exceptions each, of every length in turn.
func (d *draft) networks(n, prefixes int) (ids []policy.SetID) {
	for i := range n {
		s := &policy.Set{ID: policy.SetID(fmt.Sprint("net", i)), Kind: policy.Networks}
		for m := range prefixes {
			a := netip.AddrFrom4([4]byte{byte(30 + i%60), byte(m), byte(i), 0})
			s.Elements = append(s.Elements, policy.Element{Prefix: netip.PrefixFrom(a, 16+m%9).Masked()})
		}
		d.program.Sets[s.ID], ids = s, append(ids, s.ID)
	}
	return ids
}

// named makes sets of named ports, of so many pods each.
func (d *draft) named(n, pods int) (ports []policy.Port) {
	for i := range n {
		s := &policy.Set{ID: policy.SetID(fmt.Sprint("port", i)), Kind: policy.AddressPorts}
		for m := range pods {
			e := policy.AddressElement(netip.AddrFrom4([4]byte{20, 0, byte(m >> 8), byte(m)}))
			e.Protocol, e.Port = policy.TCP, uint16(1000+i)
			s.Elements = append(s.Elements, e)
		}
		d.program.Sets[s.ID] = s
		ports = append(ports, policy.Port{Protocol: policy.TCP, Named: s.ID})
	}
	return ports
}

func (d *draft) rule(v policy.Verdict, peers []policy.SetID, ports []policy.Port) {
	d.rules = append(d.rules, policy.Rule{Verdict: v, ID: policy.RuleID{Kind: "NetworkPolicy", Namespace: "prod", Name: fmt.Sprint(len(d.rules))},
		AnyPeer: peers == nil, Peers: peers, AnyPort: ports == nil, Ports: ports})
}

func (d *draft) finish() *policy.Program {
	for _, dir := range policy.Directions {
		d.program.Classes[dir] = map[policy.ClassID]*policy.Class{"c": {ID: "c", Tiers: []policy.Tier{{Name: policy.NetworkPolicyTier, Rules: d.rules}}}}
	}
	return d.program
}

// ranges are so many ranges of ports, none next to another.
func ranges(n, width int) (out []policy.Port) {
	for i := range n {
		first := 1 + i*(width+1)
		out = append(out, policy.Port{Protocol: []policy.Protocol{policy.TCP, policy.UDP, policy.SCTP}[i%3], First: uint16(first), Last: uint16(first + width - 1)})
	}
	return out
}

// hostile are programs whose rules multiply what they are made of, at a scale.
var hostile = map[string]func(scale int) *draft{
	"many selectors by many ranges": func(n int) *draft {
		d := newDraft()
		d.rule(policy.Allow, d.sets("s", 5*n, 1), ranges(21*n, 30))
		return d
	},
	"many selectors by many ports": func(n int) *draft {
		d := newDraft()
		d.rule(policy.Allow, d.sets("s", 10*n, 20), ranges(10*n, 1))
		return d
	},
	"small ranges of large sets": func(n int) *draft {
		d := newDraft()
		for _, id := range d.sets("s", 5, 20*n) {
			d.rule(policy.Allow, []policy.SetID{id}, ranges(30, 64))
		}
		return d
	},
	"one set by many rules, each with a port of its own": func(n int) *draft {
		d := newDraft()
		s := d.sets("s", 1, 20*n)
		for _, port := range ranges(20*n, 1) {
			d.rule(policy.Allow, s, []policy.Port{port})
		}
		return d
	},
	"one set by many rules, each with a range of its own": func(n int) *draft {
		d := newDraft()
		s := d.sets("s", 1, 20*n)
		for _, port := range ranges(20*n, 100) {
			d.rule(policy.Allow, s, []policy.Port{port})
		}
		return d
	},
	"rules of many peers, each pair with a port of its own": func(n int) *draft {
		d := newDraft()
		s := d.sets("s", 8*n, 40)
		for i, port := range ranges(8*n, 1) {
			d.rule(policy.Allow, s[i:min(len(s), i+3)], []policy.Port{port, {Protocol: policy.TCP, First: 9000, Last: 9900}})
		}
		return d
	},
	"policies alike but for one selector": func(n int) *draft {
		d := newDraft()
		shared, own, ports := d.sets("s", 40, 50), d.sets("o", 2*n, 50), ranges(25, 20)
		for i := range 2 * n {
			d.rule(policy.Allow, append([]policy.SetID{own[i]}, shared...), append([]policy.Port{{Protocol: policy.TCP, First: uint16(30000 + i), Last: uint16(30000 + i)}}, ports...))
		}
		return d
	},
	"verdicts in turn, with the same peers": func(n int) *draft {
		d := newDraft()
		s := d.sets("s", 2, 20*n)
		for i := range 10 * n {
			v := []policy.Verdict{policy.Allow, policy.Deny}[i%2]
			d.rule(v, s, []policy.Port{{Protocol: policy.TCP, First: uint16(i), Last: uint16(i)}})
			d.rule(v, s, []policy.Port{{Protocol: policy.UDP, First: uint16(i), Last: uint16(i)}})
		}
		return d
	},
	"networks of every length by ports": func(n int) *draft {
		d := newDraft()
		d.rule(policy.Allow, d.networks(10*n, 9), ranges(10*n, 2))
		return d
	},
	"named ports by selectors": func(n int) *draft {
		d := newDraft()
		d.rule(policy.Allow, d.sets("s", 5*n, 2), d.named(5*n, 40))
		return d
	},
	"ranges that leave out a port each": func(n int) *draft {
		d := newDraft()
		s := d.sets("s", 10*n, 3)
		for i, id := range s {
			d.rule(policy.Allow, []policy.SetID{id}, []policy.Port{{Protocol: policy.TCP, First: 1, Last: uint16(99 + i)}, {Protocol: policy.TCP, First: uint16(101 + i), Last: policy.MaxPort}})
		}
		return d
	},
	"a hundred small policies": func(n int) *draft {
		d := newDraft()
		for i, id := range d.sets("s", 10*n, 5) {
			d.rule(policy.Allow, []policy.SetID{id}, []policy.Port{{Protocol: policy.TCP, First: uint16(80 + i%7), Last: uint16(80 + i%7)}})
		}
		return d
	},
}

// written is the size of a class's rules, and of the sets that they refer to.
func written(p *policy.Program) int {
	n, seen := 0, map[policy.SetID]bool{}
	count := func(id policy.SetID) {
		if s := p.Sets[id]; s != nil && !seen[id] {
			seen[id] = true
			n += len(s.Elements)
		}
	}
	for _, t := range p.Classes[policy.Egress]["c"].Tiers {
		for _, r := range t.Rules {
			n += 1 + len(r.Peers) + len(r.Ports)
			for _, id := range r.Peers {
				count(id)
			}
			for _, port := range r.Ports {
				count(port.Named)
			}
		}
	}
	return n
}

// Invariant 11: what the kernel has of a class is a small multiple of what was written and of the members of its
// sets, and so are the lookups of a packet. By counting.
func TestTheKernelsCostIsInProportionToWhatWasWritten(t *testing.T) {
	const perEntry, perPacket, constant = 17, 2, 40
	for name, make := range hostile {
		for _, scale := range []int{1, 4, 16} {
			p := make(scale).finish()
			r, err := iptables.Render(p, iptables.IPv4, ruletext.DenyLog{})
			if err != nil {
				t.Fatal(err)
			}
			rules, elements := 0, 0
			for _, c := range r.Chains {
				rules += len(c.Rules)
			}
			for _, s := range r.Sets {
				elements += len(s.Elements) + len(s.Lists)
			}
			size, lookups := written(p), mostLookups(t, r, p)
			t.Logf("%-55s x%-2d: %6d written: %6d rules, %3d sets, %6d elements, %5d lookups", name, scale, size, rules, len(r.Sets), elements, lookups)
			if both := 2; rules+elements > both*(perEntry*size+constant) {
				t.Errorf("%s, %d times: %d rules and %d elements for %d entries and members", name, scale, rules, elements, size)
			}
			if lookups > perPacket*size+constant {
				t.Errorf("%s, %d times: a packet takes %d lookups for %d entries and members", name, scale, lookups, size)
			}
		}
	}
}

// mostLookups is the most that a packet takes: one by each protocol to ports at the edges of rules, from a peer
// that none admits and from some that they do.
func mostLookups(t *testing.T, r iptables.Ruleset, p *policy.Program) int {
	t.Helper()
	table, most := load(t, r), 0
	for i, port := range []uint16{1, 2, 80, 100, 150, 9000, 30000, 65535} {
		for _, from := range []string{"9.9.9.9", "20.0.0.0", fmt.Sprint("20.0.0.", 7*i)} {
			for _, protocol := range []policy.Protocol{policy.TCP, policy.UDP, policy.SCTP, policy.ICMP} {
				v, err := table.Judge("FORWARD", simulator.Packet{Source: address(from), Destination: p.Endpoints[0].Addrs[0], Protocol: protocol, DestinationPort: port})
				if err != nil {
					t.Fatal(err)
				}
				most = max(most, v.Rules+v.Lookups)
			}
		}
	}
	return most
}

// What a hundred small policies on one pod come to is a handful of rules, as ever.
func TestSmallPoliciesAreMerged(t *testing.T) {
	r, err := iptables.Render(hostile["a hundred small policies"](10).finish(), iptables.IPv4, ruletext.DenyLog{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range r.Chains {
		if strings.HasSuffix(c.Name, "-c") && len(c.Rules) > 6 {
			t.Errorf("%s has %d rules", c.Name, len(c.Rules))
		}
	}
}

// The memory that rendering takes, all in all, grows with what is written, and so does the time for it.
func TestRenderingTakesMemoryInProportion(t *testing.T) {
	for name, make := range hostile {
		small, large := make(8).finish(), make(32).finish()
		growth := float64(written(large)) / float64(written(small))
		if before, after := allocated(t, small), allocated(t, large); after > 2*growth*before {
			t.Errorf("%s: %.1f times as much is written, and %.1f times as much memory is taken: %.0f bytes", name, growth, after/before, after)
		}
	}
}

func allocated(t *testing.T, p *policy.Program) float64 {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := iptables.Render(p, iptables.IPv4, ruletext.DenyLog{}); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	return float64(after.TotalAlloc - before.TotalAlloc)
}

// load is the table of a ruleset, with the jumps to it.
func load(t *testing.T, r iptables.Ruleset) *simulator.Table {
	t.Helper()
	table := simulator.New()
	if err := table.RestoreSets(r.SetText()); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{r.RestoreText(), iptables.Jumps()} {
		if err := table.Restore(text); err != nil {
			t.Fatal(err)
		}
	}
	return table
}
