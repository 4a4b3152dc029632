package compile

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/eval"
)

// FuzzCIDR subtracts and unites whatever two CIDRs can be read, and asks about the addresses at and
// beside every edge.
func FuzzCIDR(f *testing.F) {
	for _, s := range [][3]string{
		{"10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24"},
		{"0.0.0.0/0", "0.0.0.0/32", "255.255.255.255/32"},
		{"::/0", "2001:db8::/32", "ffff::/16"},
		{"10.0.0.0/24", "10.0.0.0/25", "10.0.0.128/25"},
		{"10.0.0.0/24", "0.0.0.0/0", "fd00::/8"},
		{"010.0.0.0/8", "::ffff:1.2.3.4/120", "fe80::%eth0/64"},
		{"1.2.3.4/32", "1.2.3.4/32", "1.2.3.5/32"},
		{"192.168.1.77/24", "192.168.1.77/28", "192.168.2.0/23"},
	} {
		f.Add(s[0], s[1], s[2])
	}
	f.Fuzz(func(t *testing.T, a, b, c string) {
		var all []netip.Prefix
		for _, s := range []string{a, b, c} {
			p, err := parseCIDR(s)
			if err != nil {
				continue
			}
			if p != p.Masked() || p.Addr().Is4In6() || p.Addr().Zone() != "" || strings.ContainsAny(s, "% ") {
				t.Fatalf("%q was read as %s", s, p)
			}
			all = append(all, p)
		}
		if len(all) == 0 {
			return
		}
		inside := slices.DeleteFunc(slices.Clone(all[1:]), func(p netip.Prefix) bool {
			return !all[0].Contains(p.Addr()) || p.Bits() <= all[0].Bits()
		})
		elements, remains := block(all[0], inside)
		checkBlock(t, all[0], inside, elements)
		minus := &policy.Set{Kind: policy.Networks, Elements: elements}
		plus := union(all)
		checkCanonical(t, plus)
		for _, a := range edges(all) {
			want := all[0].Contains(a) && !contains(inside, a)
			if got := eval.Contains(minus, a); got != want {
				t.Errorf("%s in %s without %v is %v", a, all[0], inside, got)
			}
			if want && !remains {
				t.Errorf("%s remains of %s without %v", a, all[0], inside)
			}
			if got, want := contains(plus, a), contains(all, a); got != want {
				t.Errorf("%s in the union of %v is %v", a, all, got)
			}
		}
	})
}

func contains(prefixes []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
}

// checkCanonical reports whether the prefixes are in order, disjoint, and as few as can be.
func checkCanonical(t *testing.T, prefixes []netip.Prefix) {
	t.Helper()
	for i := 1; i < len(prefixes); i++ {
		a, b := prefixes[i-1], prefixes[i]
		if a.Addr().Compare(b.Addr()) >= 0 || a.Overlaps(b) {
			t.Errorf("%s before %s", a, b)
		}
		if a.Bits() == b.Bits() && a.Bits() > 0 && a.Addr().BitLen() == b.Addr().BitLen() {
			if wide := netip.PrefixFrom(a.Addr(), a.Bits()-1).Masked(); wide.Contains(b.Addr()) {
				t.Errorf("%s and %s are %s", a, b, wide)
			}
		}
	}
}

// edges are the first and the last addresses of the prefixes, and those just outside.
func edges(prefixes []netip.Prefix) []netip.Addr {
	var out []netip.Addr
	for _, p := range prefixes {
		first, last := p.Addr(), p.Addr().AsSlice()
		for bit := p.Bits(); bit < p.Addr().BitLen(); bit++ {
			last[bit/8] |= 1 << (7 - bit%8)
		}
		end, _ := netip.AddrFromSlice(last)
		for _, a := range []netip.Addr{first, end, first.Prev(), end.Next()} {
			if a.IsValid() {
				out = append(out, a)
			}
		}
	}
	return out
}

// checkBlock makes sure that the elements are in order, the network once, then disjoint exceptions
// strictly inside it, and no more of them than were written.
func checkBlock(t *testing.T, cidr netip.Prefix, excepts []netip.Prefix, elements []policy.Element) {
	t.Helper()
	if len(elements) > len(excepts)+1 || !slices.IsSortedFunc(elements, policy.Element.Compare) {
		t.Errorf("%s without %v has the elements %v", cidr, excepts, elements)
	}
	for i, e := range elements {
		switch {
		case i == 0 && e != (policy.Element{Prefix: cidr}):
			t.Errorf("%s without %v begins with %v", cidr, excepts, e)
		case i > 0 && (!e.Except || e.Prefix.Bits() <= cidr.Bits() || !cidr.Contains(e.Prefix.Addr())):
			t.Errorf("%s without %v has the element %v", cidr, excepts, e)
		case i > 1 && e.Prefix.Overlaps(elements[i-1].Prefix):
			t.Errorf("%s without %v has %v in %v", cidr, excepts, e, elements[i-1])
		}
	}
}

// TestExceptionsCostAnElementEach covers exceptions that once became a prefix for each bit of theirs.
func TestExceptionsCostAnElementEach(t *testing.T) {
	for name, b := range map[string]networkingv1.IPBlock{
		"single addresses of IPv6":      {CIDR: "::/0", Except: manyPrefixes(500, "2001:db8:%x::1/128")},
		"single addresses of IPv4":      {CIDR: "0.0.0.0/0", Except: manyPrefixes(250, "10.%d.0.9/32")},
		"more than were accepted":       {CIDR: "::/0", Except: manyPrefixes(20000, "2001:db8:%x::1/128")},
		"the same exception many times": {CIDR: "::/0", Except: slices.Repeat([]string{"2001:db8::1/128"}, 500)},
		"exceptions in one another":     {CIDR: "10.0.0.0/8", Except: manyPrefixes(24, "10.9.9.9/%[2]d")},
		"exceptions side by side":       {CIDR: "10.0.0.0/8", Except: manyPrefixes(200, "10.9.9.%d/32")},
	} {
		r := &reporter{}
		def, ok := parseIPBlock(&b, "/ipBlock", r)
		if !ok || len(r.problems) > 0 {
			t.Errorf("%s: %v", name, r.problems)
			continue
		}
		if len(def.networks) > len(b.Except)+1 {
			t.Errorf("%s: %d exceptions come to %d elements", name, len(b.Except), len(def.networks))
		}
		set := &policy.Set{Kind: policy.Networks, Elements: def.networks}
		for _, text := range b.Except {
			if a := netip.MustParsePrefix(text).Masked().Addr(); eval.Contains(set, a) {
				t.Errorf("%s: %s is a member", name, a)
			}
		}
	}
}

// manyPrefixes are prefixes by a format of a number, from 0 on, and of a length, from 9 on.
func manyPrefixes(n int, format string) []string {
	out := make([]string, n)
	for i := range out {
		if strings.Contains(format, "[2]") {
			out[i] = fmt.Sprintf(format, i, i+9)
			continue
		}
		out[i] = fmt.Sprintf(format, i)
	}
	return out
}
