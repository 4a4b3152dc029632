package compile

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
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
		minus, ok := subtract(all[0], all[1:], maxNetworks)
		if !ok {
			t.Fatalf("%v: too many", all)
		}
		plus := union(all)
		checkCanonical(t, minus)
		checkCanonical(t, plus)
		for _, a := range edges(all) {
			if got, want := contains(minus, a), all[0].Contains(a) && !contains(all[1:], a); got != want {
				t.Errorf("%s in %s without %v is %v", a, all[0], all[1:], got)
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

// checkCanonical says whether the prefixes are in order, disjoint, and as few as can be.
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

func TestSubtractStopsAtTheLimit(t *testing.T) {
	p, except := netip.MustParsePrefix("::/0"), netip.MustParsePrefix("::1/128")
	if got, ok := subtract(p, []netip.Prefix{except}, 128); !ok || len(got) != 128 {
		t.Errorf("%d prefixes, %v", len(got), ok)
	}
	if _, ok := subtract(p, []netip.Prefix{except}, 127); ok {
		t.Error("128 prefixes within a limit of 127")
	}
}
