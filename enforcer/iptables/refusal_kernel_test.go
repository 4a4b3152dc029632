//go:build netns

package iptables_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/tierwall/tierwall/enforcer/internal/sample"
	"github.com/tierwall/tierwall/enforcer/iptables"
	"github.com/tierwall/tierwall/policy"
)

// What the kernel refuses of one class closes that class alone; it is said whose, and tried again.
func TestTheKernelRefusesOneClassAlone(t *testing.T) {
	for name, spoil := range map[string]func(*policy.Program){
		"a set": func(p *policy.Program) { // of single addresses, which has a network
			p.Sets["front"].Elements = append(p.Sets["front"].Elements, policy.Element{Prefix: netip.MustParsePrefix("11.0.0.0/8"), Protocol: 200})
		},
		"a set that is not there": func(p *policy.Program) { delete(p.Sets, "front") },
	} {
		t.Run(name, func(t *testing.T) {
			forBothModes(t, func(t *testing.T, n node) {
				b := n.Open()
				p := sample.Shop()
				spoil(p)
				n.Apply(b, p)
				problems := b.Problems()
				if len(problems) != 1 || problems[0].ID.Object() != "NetworkPolicy prod/backend" {
					t.Fatalf("the problems are %v", problems)
				}
				if rules := n.iptables(iptables.IPv4, "-S", "TIERWALL-I-back"); !strings.Contains(rules, "-j DROP") || strings.Contains(rules, "RETURN") {
					t.Errorf("the class that is refused has the rules\n%s", rules)
				}
				if rules := n.iptables(iptables.IPv4, "-S", "TIERWALL-I-front"); !strings.Contains(rules, "RETURN") {
					t.Errorf("another class has the rules\n%s", rules)
				}
				p = sample.Shop()
				n.Apply(b, p)
				for range 13 {
					n.Repair(b)
				}
				if problems := b.Problems(); len(problems) > 0 {
					t.Errorf("still refused: %v", problems)
				}
				if rules := n.iptables(iptables.IPv4, "-S", "TIERWALL-I-back"); !strings.Contains(rules, "RETURN") {
					t.Errorf("the class that is good again has the rules\n%s", rules)
				}
			})
		})
	}
}
