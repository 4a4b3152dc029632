package simulator

import (
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/tierwall/tierwall/policy"
)

// seedRules are the kinds of lines that are rendered.
const seedRules = `*filter
:A - [0:0]
:B-10.0.0.16/28 - [0:0]
-A A -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN
-A A -p ipv6-icmp -m icmp6 --icmpv6-type 135/0 -m hl --hl-eq 255 -j RETURN
-A A -s 10.0.0.16/28 -g B-10.0.0.16/28
-A A -d 10.0.0.0/24 -m comment --comment "no pod known at this address" -j DROP
-A B-10.0.0.16/28 -p tcp -m set --match-set s src -m tcp --dport 80:90 -j RETURN
-A B-10.0.0.16/28 -p udp -m multiport --dports 53,5353:5354 -j DROP
-A B-10.0.0.16/28 -m set --match-set p dst,dst -j RETURN
-I FORWARD 1 -j A
-D INPUT -j A
-X C
COMMIT
`

const seedSets = `create s hash:ip family inet hashsize 64 maxelem 1048576
create p hash:ip,port family inet hashsize 64 maxelem 1048576
create n hash:net family inet6 hashsize 64 maxelem 1048576
add s 10.0.0.1
add p 10.0.0.1,tcp:80
add n fd00::/8
del s 10.0.0.1
destroy n
`

var fuzzPackets = []Packet{
	{Source: netip.MustParseAddr("10.0.0.17"), Destination: netip.MustParseAddr("10.0.0.1"), Protocol: policy.TCP, DestinationPort: 80, Interface: "veth0"},
	{Source: netip.MustParseAddr("10.0.0.1"), Destination: netip.MustParseAddr("10.0.0.17"), Protocol: policy.UDP, DestinationPort: 53, Interface: "lo"},
	{Source: netip.MustParseAddr("fd00::1"), Destination: netip.MustParseAddr("fd00::2"), Protocol: policy.ICMPv6, ICMPType: 135},
	{},
}

// FuzzRestore restores any text. What is not understood changes nothing; what is
// understood judges every packet, or says that its chains are too deep, and the
// same text again means the same.
func FuzzRestore(f *testing.F) {
	f.Add(seedRules)
	f.Add("*filter\n:A - [0:0]\n-A A -j A\n-A FORWARD -j A\nCOMMIT\n")
	f.Add("*filter\n-A FORWARD -j ACCEPT\n-A FORWARD -m comment --comment \"a\\\" -j DROP\nCOMMIT\n")
	f.Add("*filter\nCOMMIT\n*filter\n-A OUTPUT -p 0 -j DROP\nCOMMIT\n")
	f.Add("COMMIT\n*filter\n")
	f.Fuzz(func(t *testing.T, text string) {
		table := withSets(t)
		before := snapshotOf(table)
		if err := table.Restore(text); err != nil {
			if !maps.EqualFunc(before, snapshotOf(table), slices.Equal) {
				t.Errorf("it failed (%v), and yet changed something", err)
			}
			return
		}
		for _, hook := range hooks {
			for _, k := range fuzzPackets {
				first, err := table.Judge(hook, k)
				again, errAgain := table.Judge(hook, k)
				if first.Accepted != again.Accepted || (err == nil) != (errAgain == nil) {
					t.Errorf("%s judges %+v in two ways", hook, k)
				}
				if err != nil && first.Accepted {
					t.Errorf("%s accepts %+v although it cannot say: %v", hook, k, err)
				}
			}
		}
	})
}

func withSets(t *testing.T) *Table {
	table := New()
	if err := table.RestoreSets("create s hash:ip family inet hashsize 64 maxelem 9\ncreate p hash:ip,port family inet hashsize 64 maxelem 9\n"); err != nil {
		t.Fatal(err)
	}
	return table
}

// snapshotOf is the text of all rules.
func snapshotOf(t *Table) map[string][]string {
	out := map[string][]string{}
	for name, rules := range t.chains {
		out[name] = []string{}
		for _, r := range rules {
			out[name] = append(out[name], r.text)
		}
	}
	return out
}

// FuzzRestoreSets restores any text. No set holds what is not of its type and family, or more than it may.
func FuzzRestoreSets(f *testing.F) {
	f.Add(seedSets)
	f.Add("create s hash:ip family inet hashsize 64 maxelem 0\nadd s 10.0.0.1")
	f.Add("create s hash:net family inet hashsize 64 maxelem 9\nadd s 0.0.0.0/0\nadd s 10.0.0.1/33")
	f.Add("create s hash:ip,port family inet6 hashsize 64 maxelem 9\nadd s ::ffff:10.0.0.1,udp:0\nadd s fd00::1%1,tcp:65536")
	f.Add("create s hash:net family inet hashsize 64 maxelem 9\nadd s 10.0.0.0/8\nadd s 10.0.0.0/9 nomatch\nadd s 10.0.0.0/8 nomatch")
	f.Fuzz(func(t *testing.T, text string) {
		table := New()
		_ = table.RestoreSets(text)
		for name, s := range table.sets {
			if len(s.elements) > s.size {
				t.Errorf("set %s holds %d of %d", name, len(s.elements), s.size)
			}
			for e := range s.elements {
				if err := s.checkElement(e); err != nil {
					t.Errorf("set %s holds %q: %v", name, e, err)
				}
			}
			for _, k := range fuzzPackets {
				for _, sides := range [][]string{{"src"}, {"dst", "dst"}} {
					if s.contains(k, sides) && k.Source.Is4() != (s.family == "inet") {
						t.Errorf("set %s of family %s holds %+v", name, s.family, k)
					}
				}
			}
		}
	})
}
