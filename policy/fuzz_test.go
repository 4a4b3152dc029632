package policy_test

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"github.com/tierwall/tierwall/policy"
)

// FuzzDump makes two programs of bytes. Their texts are equal if and only if they are.
func FuzzDump(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8}, []byte{1, 2, 3, 4, 5, 6, 7, 8})
	f.Add([]byte{}, []byte{0})
	f.Add([]byte{2, 1, 1, 0, 1, 2, 1, 1, 1, 3}, []byte{2, 1, 1, 0, 1, 2, 1, 1, 1, 2})
	f.Add([]byte("endpoint class set tier"), []byte("endpoint class set tier "))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		p, q := (&source{a}).program(), (&source{b}).program()
		if same := reflect.DeepEqual(p, q); same != (p.String() == q.String()) {
			t.Errorf("equal: %v, and their texts:\n%s\n%s", same, p, q)
		}
	})
}

// source is bytes that choices are made by; behind their end they are all 0.
type source struct{ bytes []byte }

func (s *source) n(below int) int {
	if len(s.bytes) == 0 {
		return 0
	}
	b := s.bytes[0]
	s.bytes = s.bytes[1:]
	return int(b) % below
}

func (s *source) name() string { return fmt.Sprint("n", s.n(3)) }

func (s *source) addr() netip.Addr {
	if s.n(2) == 0 {
		return netip.AddrFrom4([4]byte{10, 0, 0, byte(s.n(3))})
	}
	return netip.AddrFrom16([16]byte{0xfd, 15: byte(s.n(3))})
}

func (s *source) prefix() netip.Prefix {
	a := s.addr()
	return netip.PrefixFrom(a, a.BitLen()-s.n(3)).Masked()
}

// some are up to three values; none of them at all is nil.
func some[T any](s *source, value func() T) []T {
	var out []T
	for range s.n(4) {
		out = append(out, value())
	}
	return out
}

func (s *source) program() *policy.Program {
	p := &policy.Program{Unknown: policy.Verdict(s.n(2)), Local: some(s, s.prefix), Sets: map[policy.SetID]*policy.Set{}}
	p.Hosts = some(s, func() policy.Host {
		return policy.Host{Name: s.name(), Addrs: some(s, s.addr), PodCIDRs: some(s, s.prefix)}
	})
	p.Endpoints = some(s, func() policy.Endpoint {
		return policy.Endpoint{Namespace: s.name(), Name: s.name(), Node: s.name(), Addrs: some(s, s.addr),
			Class: [2]policy.ClassID{policy.ClassID(s.name()), policy.ClassID(s.name())}}
	})
	for _, d := range policy.Directions {
		p.Classes[d] = map[policy.ClassID]*policy.Class{}
		for _, name := range some(s, s.name) {
			id := policy.ClassID(name)
			p.Classes[d][id] = &policy.Class{ID: id, Tiers: some(s, s.tier)}
		}
	}
	for _, name := range some(s, s.name) {
		id := policy.SetID(name)
		p.Sets[id] = &policy.Set{ID: id, Kind: policy.SetKind(s.n(3)), Description: s.name(), Elements: some(s, s.element)}
	}
	return p
}

func (s *source) tier() policy.Tier {
	names := []policy.TierName{policy.AdminTier, policy.NetworkPolicyTier, policy.BaselineTier, policy.DefaultTier}
	return policy.Tier{Name: names[s.n(4)], Rules: some(s, s.rule), Else: policy.Verdict(s.n(3)), ElseID: s.ruleID()}
}

func (s *source) rule() policy.Rule {
	r := policy.Rule{ID: s.ruleID(), Verdict: policy.Verdict(s.n(3)), AnyPeer: s.n(2) == 0, AnyPort: s.n(2) == 0}
	if !r.AnyPeer {
		r.Peers = some(s, func() policy.SetID { return policy.SetID(s.name()) })
	}
	if !r.AnyPort {
		r.Ports = some(s, s.port)
	}
	return r
}

func (s *source) port() policy.Port {
	protocol := []policy.Protocol{policy.TCP, policy.UDP, policy.SCTP, 47}[s.n(4)]
	if s.n(2) == 0 {
		return policy.Port{Protocol: protocol, First: uint16(s.n(3)), Last: uint16(s.n(3))}
	}
	return policy.AllPorts(protocol)
}

func (s *source) ruleID() policy.RuleID {
	kinds := []string{"", "NetworkPolicy", "ClusterNetworkPolicy"}
	id := policy.RuleID{Kind: kinds[s.n(3)]}
	if id.Kind != "" {
		id.Name, id.Field = s.name(), fmt.Sprint("/spec/", s.n(3))
	}
	if id.Kind == "NetworkPolicy" {
		id.Namespace = s.name()
	}
	return id
}

func (s *source) element() policy.Element {
	e := policy.Element{Prefix: s.prefix()}
	if s.n(2) == 0 {
		e.Protocol, e.Port = policy.TCP, uint16(s.n(3))
	}
	e.Except = s.n(2) == 1
	return e
}

func TestSourcesMakeDifferentPrograms(t *testing.T) {
	var texts []string
	for i := range byte(200) {
		var bytes []byte
		for j := range byte(100) {
			bytes = append(bytes, i*31+j*i+j)
		}
		texts = append(texts, (&source{bytes}).program().String())
	}
	slices.Sort(texts)
	if n := len(slices.Compact(texts)); n < 100 {
		t.Errorf("200 sources make %d programs", n)
	}
}
