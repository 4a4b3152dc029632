package iptables

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/tierwall/tierwall/enforcer/transition"
	"github.com/tierwall/tierwall/policy"
)

// maxFanout is the number of addresses above which a chain of the dispatch tree
// is split by the next four bits; so no chain has more rules, but for the last ones.
const maxFanout = 16

// entry is an address and what to do with its packets.
type entry struct {
	addr   netip.Addr
	target string
}

// dispatchEntries are the endpoints and those of the nodes' own addresses that lie
// within a pod CIDR (a bridge's, say), sorted by address. An endpoint whose class is not there is closed.
func (r *renderer) dispatchEntries(d policy.Direction) []entry {
	byAddr := map[netip.Addr]string{}
	for _, h := range r.program.Hosts {
		for _, a := range h.Addrs {
			if r.family.hasAddress(a) && isWithin(r.program.Local, a) {
				byAddr[a] = commentMatch("node "+h.Name) + "-j RETURN"
			}
		}
	}
	for _, e := range r.program.Endpoints {
		for _, a := range e.Addrs {
			if !r.family.hasAddress(a) {
				continue
			}
			if r.program.Classes[d][e.Class[d]] == nil {
				k := transition.Class{Direction: d, ID: e.Class[d]}
				r.failed[k] = fmt.Errorf("the program has no %s class %q, which endpoint %s is of", d, e.Class[d], e.Key())
				byAddr[a] = r.deny
				continue
			}
			byAddr[a] = r.toClass(e, d)
		}
	}
	var out []entry
	for a, target := range byAddr {
		out = append(out, entry{a, target})
	}
	slices.SortFunc(out, func(a, b entry) int { return a.addr.Compare(b.addr) })
	return out
}

func isWithin(prefixes []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
}

// unknownPrefixes are the networks in which an address without an endpoint is denied.
func (r *renderer) unknownPrefixes() []netip.Prefix {
	if r.program.Unknown == policy.Allow {
		return nil
	}
	var out []netip.Prefix
	for _, p := range r.program.Local {
		if r.family.hasAddress(p.Addr()) {
			out = append(out, p.Masked())
		}
	}
	slices.SortFunc(out, comparePrefix)
	return slices.Compact(out)
}

func comparePrefix(a, b netip.Prefix) int {
	if c := a.Addr().Compare(b.Addr()); c != 0 {
		return c
	}
	return a.Bits() - b.Bits()
}

// tree renders the dispatch of one direction: from the packet's address on our
// side to the chain of its class. Every branch is entered with -g, so that a
// RETURN in a class chain leads back to the base chain.
type tree struct {
	direction policy.Direction
	unknown   []netip.Prefix
	// deny is the target of packets to and from an unknown address.
	deny  string
	names names
	add   func(chain string, rules []string)
}

// addChain makes the chain for the addresses within a prefix, and those below it.
func (t tree) addChain(name string, prefix netip.Prefix, entries []entry) {
	var rules []string
	below := map[netip.Prefix][]entry{}
	var order []netip.Prefix
	for _, branch := range splitEntries(entries) {
		if len(branch) == 1 {
			rules = append(rules, t.addressMatch(hostPrefix(branch[0].addr))+" "+branch[0].target)
			continue
		}
		p := commonPrefix(branch)
		rules = append(rules, t.addressMatch(p)+" -g "+t.names.chainName(dispatchChain(t.direction, p)))
		order, below[p] = append(order, p), branch
	}
	t.add(name, append(rules, t.restRules(prefix)...))
	for _, p := range order {
		t.addChain(t.names.chainName(dispatchChain(t.direction, p)), p, below[p])
	}
}

// restRules are the rules for addresses within a prefix that no endpoint has.
func (t tree) restRules(prefix netip.Prefix) []string {
	drop := commentMatch("no pod known at this address") + t.deny
	var rules []string
	for _, p := range t.unknown {
		switch {
		case p.Bits() <= prefix.Bits() && p.Contains(prefix.Addr()):
			return []string{drop}
		case prefix.Overlaps(p):
			rules = append(rules, t.addressMatch(p)+" "+drop)
		}
	}
	return rules
}

func (t tree) addressMatch(p netip.Prefix) string {
	if t.direction == policy.Egress {
		return "-s " + p.String()
	}
	return "-d " + p.String()
}

// splitEntries are the entries one by one, or grouped by the first four bits (from
// a multiple of four) in which they differ where there are too many.
func splitEntries(entries []entry) [][]entry {
	var out [][]entry
	bits := 0
	if len(entries) > maxFanout {
		bits = commonPrefix(entries).Bits()/4*4 + 4
	}
	for i, e := range entries {
		if i > 0 && bits > 0 && netip.PrefixFrom(entries[i-1].addr, bits).Contains(e.addr) {
			out[len(out)-1] = append(out[len(out)-1], e)
			continue
		}
		out = append(out, []entry{e})
	}
	return out
}

// commonPrefix is the longest prefix that holds all of the entries, which are sorted.
func commonPrefix(entries []entry) netip.Prefix {
	first, last := entries[0].addr, entries[len(entries)-1].addr
	bits := first.BitLen()
	for !netip.PrefixFrom(first, bits).Contains(last) {
		bits--
	}
	return netip.PrefixFrom(first, bits).Masked()
}

func hostPrefix(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
