package eval

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/test/generate"
)

// indexWorld is a program of one class over few addresses and ports, in which much overlaps.
type indexWorld struct {
	*rand.Rand
	program *policy.Program
	class   *policy.Class
	sets    []policy.SetID
}

func newIndexWorld(seed uint64) *indexWorld {
	w := &indexWorld{Rand: rand.New(rand.NewPCG(seed, 1))}
	w.program = &policy.Program{Sets: map[policy.SetID]*policy.Set{}}
	for i := range 1 + w.IntN(12) {
		id := policy.SetID(fmt.Sprint("set", i))
		if w.sets = append(w.sets, id); w.IntN(8) > 0 { // else the program does not have it
			w.program.Sets[id] = w.set(id)
		}
	}
	w.class = &policy.Class{ID: "class"}
	for range w.IntN(4) {
		t := policy.Tier{Else: w.verdict(), ElseID: policy.RuleID{Name: "else"}}
		for i := range w.IntN(10) {
			t.Rules = append(t.Rules, w.rule(fmt.Sprint(len(w.class.Tiers), ".", i)))
		}
		w.class.Tiers = append(w.class.Tiers, t)
	}
	w.program.Classes[policy.Ingress] = map[policy.ClassID]*policy.Class{"class": w.class}
	return w
}

func (w *indexWorld) verdict() policy.Verdict {
	return []policy.Verdict{policy.Deny, policy.Allow, policy.Pass, policy.Pass}[w.IntN(4)]
}

func (w *indexWorld) addr() netip.Addr {
	if w.IntN(3) == 0 {
		return netip.AddrFrom16([16]byte{0: 0xfd, 15: byte(w.IntN(32))})
	}
	return netip.AddrFrom4([4]byte{10, 0, 0, byte(w.IntN(32))})
}

func (w *indexWorld) protocol() policy.Protocol {
	return []policy.Protocol{policy.TCP, policy.TCP, policy.UDP, policy.ICMP, 0}[w.IntN(5)]
}

func (w *indexWorld) port() uint16 {
	return []uint16{0, 1, 2, 3, 79, 80, 81, 32767, 32768, 65534, 65535}[w.IntN(11)]
}

func (w *indexWorld) set(id policy.SetID) *policy.Set {
	s := &policy.Set{ID: id, Kind: []policy.SetKind{policy.Addresses, policy.Networks, policy.AddressPorts}[w.IntN(3)]}
	for range w.IntN(7) {
		e := policy.AddressElement(w.addr())
		switch s.Kind {
		case policy.AddressPorts:
			e.Protocol, e.Port = w.protocol(), w.port()
		case policy.Networks:
			e.Prefix, _ = e.Prefix.Addr().Prefix(e.Prefix.Bits() - w.IntN(6))
			if slices.ContainsFunc(s.Elements, func(o policy.Element) bool { return o.Prefix.Overlaps(e.Prefix) }) {
				continue
			}
			s.Elements = append(s.Elements, w.exceptions(e.Prefix)...)
		}
		s.Elements = append(s.Elements, e)
	}
	slices.SortFunc(s.Elements, policy.Element.Compare)
	s.Elements = slices.Compact(s.Elements)
	return s
}

func (w *indexWorld) exceptions(in netip.Prefix) (out []policy.Element) {
	for a := in.Addr(); in.Contains(a) && !in.IsSingleIP(); a = a.Next() {
		if w.IntN(3) == 0 {
			out = append(out, policy.Element{Prefix: policy.AddressElement(a).Prefix, Except: true})
		}
	}
	return out
}

func (w *indexWorld) rule(name string) policy.Rule {
	r := policy.Rule{ID: policy.RuleID{Name: name}, Verdict: w.verdict(), AnyPeer: w.IntN(4) == 0, AnyPort: w.IntN(4) == 0}
	for n := w.IntN(4); !r.AnyPeer && len(r.Peers) < n; {
		r.Peers = append(r.Peers, w.sets[w.IntN(len(w.sets))])
	}
	for n := w.IntN(4); !r.AnyPort && len(r.Ports) < n; {
		m := policy.Port{Protocol: w.protocol(), First: w.port(), Last: w.port()}
		if w.IntN(3) == 0 {
			m = policy.Port{Protocol: m.Protocol, Named: w.sets[w.IntN(len(w.sets))]}
		}
		r.Ports = append(r.Ports, m)
	}
	return r
}

// equal holds an index against the rules one by one.
func (w *indexWorld) equal(t *testing.T, room int) {
	t.Helper()
	x := newClassIndex(w.program, w.class, &room)
	for range 100 {
		peer, proto, port := w.addr(), w.protocol(), w.port()
		want := Class(w.program, w.class, peer, proto, port)
		if got, _ := x.search(peer, proto, port); got != want {
			t.Fatalf("%v %v/%d: %+v by the index, %+v by the rules, of %+v with sets %+v", peer, proto, port, got, want, w.class, w.program.Sets)
		}
		if len(w.class.Tiers) == 0 {
			continue // which has no index
		}
		if got, _ := x.judge(w.program, peer, proto, port); got != want {
			t.Fatalf("%v %v/%d: %+v, %+v by the rules", peer, proto, port, got, want)
		}
	}
}

func FuzzTheIndexSaysWhatTheRulesSay(f *testing.F) {
	for seed := range uint64(300) {
		f.Add(seed, uint16(seed%40))
	}
	f.Fuzz(func(t *testing.T, seed uint64, room uint16) {
		w := newIndexWorld(seed)
		w.equal(t, int(room))
		w.equal(t, maxMembers)
	})
}

func TestTheIndexSaysWhatTheRulesOfClustersSay(t *testing.T) {
	allowed, denied := 0, 0
	for seed := range uint64(30) {
		r := generate.NewRand(seed)
		s := generate.Cluster(r, generate.Small)
		p, _ := compile.Compile(s, s.Nodes[0].Name)
		flows := generate.Flows(r, s, 100)
		for _, d := range policy.Directions {
			for _, c := range p.Classes[d] {
				room := int(seed) * 10
				x := newClassIndex(p, c, &room)
				for _, f := range flows {
					got, _ := x.search(f.Source, f.Protocol, f.DestinationPort)
					want := Class(p, c, f.Source, f.Protocol, f.DestinationPort)
					if got != want {
						t.Fatalf("seed %d, %+v: %+v by the index, %+v by the rules", seed, f, got, want)
					}
					if want.Verdict.Permits() {
						allowed++
					} else {
						denied++
					}
				}
			}
		}
	}
	if allowed < 1000 || denied < 1000 {
		t.Errorf("%d are allowed and %d denied: too little", allowed, denied)
	}
}

// large is a program of an endpoint with 25,000 rules, of which each has a set and ports of its own.
func large(ports func(i int) policy.Port, members func(i int) []netip.Prefix) *policy.Program {
	const rules = 25000
	c := &policy.Class{ID: "large", Tiers: []policy.Tier{{Name: policy.NetworkPolicyTier}}}
	p := &policy.Program{Sets: map[policy.SetID]*policy.Set{}, Endpoints: []policy.Endpoint{
		{Namespace: "a", Name: "a", Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}, Class: [2]policy.ClassID{"large", "none"}}}}
	for i := range rules {
		id := policy.SetID(fmt.Sprint(i))
		s := &policy.Set{ID: id, Kind: policy.Networks}
		for _, m := range members(i) {
			s.Elements = append(s.Elements, policy.Element{Prefix: m})
		}
		p.Sets[id] = s
		c.Tiers[0].Rules = append(c.Tiers[0].Rules, policy.Rule{Verdict: policy.Allow, Peers: []policy.SetID{id}, Ports: []policy.Port{ports(i)}})
	}
	p.Classes = [2]map[policy.ClassID]*policy.Class{{"large": c}, {"none": {ID: "none"}}}
	return p
}
