//go:build netns

package iptables_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/tierwall/tierwall/enforcer/internal/sample"
	"github.com/tierwall/tierwall/enforcer/transition"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/eval"
)

// TestSetsWithExceptionsHoldWhatTheProgramSays asks the kernel about the addresses at and beside each element.
func TestSetsWithExceptionsHoldWhatTheProgramSays(t *testing.T) {
	forBothModes(t, func(t *testing.T, n node) {
		b, p := n.Open(), sample.Excepted()
		n.Apply(b, p)
		dump := n.dump()
		asked := 0
		for _, set := range p.Sets {
			if !set.HasExcept() {
				continue
			}
			for _, e := range set.Elements {
				name := map[bool]string{true: "tw4-", false: "tw6-"}[e.Prefix.Addr().Is4()] + string(set.ID)
				if !strings.Contains(dump, "create "+name+" ") {
					t.Fatalf("no set %s in\n%s", name, dump)
				}
				for _, a := range []netip.Addr{e.Prefix.Addr(), e.Prefix.Addr().Prev(), e.Prefix.Addr().Next()} {
					if !a.IsValid() || a.Is4() != e.Prefix.Addr().Is4() {
						continue
					}
					asked++
					if _, err := n.Try(t.Context(), "", "ipset", "test", name, a.String()); (err == nil) != eval.Contains(set, a) {
						t.Errorf("%s in %s: the kernel says %v, the program says %v", a, name, err == nil, eval.Contains(set, a))
					}
				}
			}
		}
		if asked < 20 {
			t.Errorf("%d addresses show too little", asked)
		}
	})
}

func TestAnExceptionThatSomebodyChangedIsRepaired(t *testing.T) {
	for name, damage := range map[string][]string{
		"a network that is an exception":  {"ipset -exist add tw4-office 10.0.0.0/8 nomatch"},
		"an exception that is a network":  {"ipset -exist add tw4-office 10.0.0.0/16"},
		"an exception more":               {"ipset add tw6-office 2001:db8:2::/48 nomatch"},
		"an exception less":               {"ipset del tw4-office 10.1.0.3"},
		"an exception instead of another": {"ipset del tw4-office 10.1.0.3", "ipset add tw4-office 10.1.0.4 nomatch"},
	} {
		t.Run(name, func(t *testing.T) {
			forBothModes(t, func(t *testing.T, n node) {
				b, p := n.Open(), sample.Excepted()
				n.Apply(b, p)
				before := sortSets(n.dump())
				for _, command := range damage {
					words := strings.Fields(command)
					n.Run(t, words[0], words[1:]...)
				}
				if !n.Repair(b) {
					t.Error("the damage is not seen")
				}
				if after := sortSets(n.dump()); after != before {
					t.Errorf("repaired to\n%s\nwant\n%s", after, before)
				}
			})
		})
	}
}

// TestASetGetsExceptionsAndLosesThem has a set's elements change, which keep their prefixes.
func TestASetGetsExceptionsAndLosesThem(t *testing.T) {
	forBothModes(t, func(t *testing.T, n node) {
		b := n.Open()
		with, without := sample.Excepted(), sample.Excepted()
		without.Sets["office"] = &policy.Set{ID: "office", Kind: policy.Networks}
		for _, text := range []string{"10.0.0.0/16", "10.1.0.3/32", "2001:db8::1/128"} { // exceptions of before
			office := without.Sets["office"]
			office.Elements = append(office.Elements, policy.Element{Prefix: netip.MustParsePrefix(text)})
		}
		n.Apply(b, with)
		for _, step := range [][2]*policy.Program{{with, without}, {without, with}} {
			n.Update(b, transition.ChangeBetween(step[0], step[1]))
			if n.Repair(b) {
				t.Error("the kernel is not as the program says")
			}
		}
	})
}
