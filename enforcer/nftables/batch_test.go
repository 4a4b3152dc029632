package nftables

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/tierwall/tierwall/enforcer/internal/backendtest"
	"github.com/tierwall/tierwall/enforcer/internal/sample"
	"github.com/tierwall/tierwall/enforcer/nftables/nfnetlink"
	"github.com/tierwall/tierwall/enforcer/ruletext"
	"github.com/tierwall/tierwall/policy"
)

// parse takes a batch apart, and sees that its messages and all of their attributes fill it exactly.
func parse(t testing.TB, b *nfnetlink.Batch) (kinds []uint16) {
	t.Helper()
	for rest := b.EncodeAt(7); len(rest) > 0; {
		length := binary.NativeEndian.Uint32(rest)
		if length < unix.NLMSG_HDRLEN+nl.SizeofNfgenmsg || length%4 != 0 || int(length) > len(rest) {
			t.Fatalf("a message of %d bytes, of %d that are left", length, len(rest))
		}
		kinds = append(kinds, binary.NativeEndian.Uint16(rest[4:])&0xff)
		nested(t, rest[unix.NLMSG_HDRLEN+nl.SizeofNfgenmsg:length])
		rest = rest[length:]
	}
	return kinds
}

func nested(t testing.TB, list []byte) {
	t.Helper()
	for len(list) > 0 {
		length, kind := int(binary.NativeEndian.Uint16(list)), binary.NativeEndian.Uint16(list[2:])
		if length < unix.SizeofNlAttr || length > len(list) {
			t.Fatalf("an attribute of %d bytes, of %d that are left", length, len(list))
		}
		if kind&unix.NLA_F_NESTED != 0 {
			nested(t, list[unix.SizeofNlAttr:length])
		}
		list = list[min(len(list), (length+3)&^3):]
	}
}

func TestABatchIsWellFormed(t *testing.T) {
	for name, p := range goldens() {
		r, err := Render(p, backendtest.GoldenLog(name))
		if err != nil {
			t.Fatal(err)
		}
		classes := newRuleset()
		classes.Sets = r.Sets
		for name, c := range r.Chains {
			if strings.HasPrefix(name, "in") || strings.HasPrefix(name, "eg") {
				if c.Hook == "" && name != "input-6" {
					classes.Chains[name] = c
				}
			}
		}
		tx := &transaction{}
		makePlan(newRuleset(), classes).asOneTransaction().writeSwitch(tx, garbage{map[string]bool{"gone": true}, map[string]Set{"gone": {Map: true}}})
		b, ok := tx.encodeBatch()
		if !ok {
			t.Fatalf("%s takes nft", name)
		}
		kinds := parse(t, b)
		if kinds[0] != unix.NFNL_MSG_BATCH_BEGIN || kinds[len(kinds)-1] != unix.NFNL_MSG_BATCH_END || len(kinds) != len(b.Objects())+2 {
			t.Errorf("%s: messages %v about %v", name, kinds, b.Objects())
		}
	}
}

// The names of policies and pods end up in comments; whatever they are, the messages stay whole.
func FuzzBatch(f *testing.F) {
	f.Add("prod", "backend", "/spec/ingress/0", uint16(80), uint16(90))
	f.Add(sample.Hostile, "\xff\"", strings.Repeat("x", 300), uint16(0), uint16(65535))
	f.Fuzz(func(t *testing.T, namespace, name, field string, low, high uint16) {
		c, id := policy.ClassID(name+field), policy.SetID(field)
		p := &policy.Program{
			Endpoints: []policy.Endpoint{{Namespace: namespace, Name: name, Class: [2]policy.ClassID{c, c}, Addrs: []netip.Addr{address("10.0.0.1"), address("fd00::1")}}},
			Sets:      map[policy.SetID]*policy.Set{id: {ID: id, Kind: policy.Networks, Elements: []policy.Element{{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(low), byte(high)}), int(low)%33).Masked()}}}},
		}
		var rules []policy.Rule
		for i := range int(high) % 9 {
			rules = append(rules, policy.Rule{ID: policy.RuleID{Kind: namespace, Name: name, Field: field}, Verdict: policy.Allow,
				Peers: []policy.SetID{id}, Ports: []policy.Port{{Protocol: policy.Protocol(low), First: low, Last: high + uint16(i)}}})
		}
		for _, d := range policy.Directions {
			p.Classes[d] = map[policy.ClassID]*policy.Class{c: {ID: c, Tiers: []policy.Tier{{Name: policy.TierName(name), Rules: rules}}}}
		}
		r, err := Render(p, ruletext.DenyLog{})
		if err != nil {
			t.Fatal(err)
		}
		for chain, content := range r.Chains {
			tx := &transaction{}
			tx.addCommand(chainCommand{add, chain, content.Hook})
			tx.fillChain(chain, content)
			if b, ok := tx.encodeBatch(); ok {
				parse(t, b)
			}
		}
		for set, content := range r.Sets {
			tx := &transaction{}
			tx.createSet(set, content)
			tx.addAllElements(set, content)
			b, ok := tx.encodeBatch()
			if !ok {
				t.Fatalf("%s takes nft: %+v", set, content)
			}
			parse(t, b)
		}
	})
}

func TestWhatIsLeftToNft(t *testing.T) {
	some := map[string]Element{"10.0.0.0/8": {}}
	for name, c := range map[string]command{
		"a table that goes":            tableCommand{remove},
		"a base chain":                 chainCommand{add, "forward", "forward"},
		"a rule in words":              ruleCommand{"c", plainRule("ip saddr 10.0.0.1 drop")},
		"a rule of no terms":           ruleCommand{"c", Rule{Text: "drop"}},
		"a verdict that is none":       ruleCommand{"c", newRule("", verdict("goto"))},
		"another":                      ruleCommand{"c", newRule("", verdict("drop nowhere"))},
		"a type that is not known":     setCommand{add, "s", Set{Type: "mark"}},
		"a range where there are none": elementsCommand{add, "s", Set{Type: "ipv4_addr"}, []string{"10.0.0.0/8"}, some, true},
		"some of a set of ranges":      elementsCommand{add, "s", Set{Type: "ipv4_addr", Interval: true}, []string{"10.0.0.0/8"}, some, false},
		"removal from a set of ranges": elementsCommand{remove, "s", Set{Type: "ipv4_addr", Interval: true}, []string{"10.0.0.0/8"}, some, true},
		"an element with no verdict":   elementsCommand{add, "m", Set{Type: "ipv4_addr", Map: true}, []string{"10.0.0.1"}, nil, true},
		"everything in a rule":         ruleCommand{"c", newRule("", inBlock{addressField(ipv4, true), blockOf(netip.MustParsePrefix("0.0.0.0/0"))}, verdict("drop"))},
		"more than the kernel takes":   elementsCommand{add, "s", Set{Type: "ipv6_addr"}, manyKeys(1 << 16), nil, true},
	} {
		tx := &transaction{}
		tx.addCommand(c)
		if _, ok := tx.encodeBatch(); ok {
			t.Errorf("%s is not", name)
		}
	}
}

func manyKeys(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("fd00::%x", i+1)
	}
	return out
}
