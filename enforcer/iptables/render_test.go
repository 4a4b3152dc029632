package iptables_test

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/tierwall/tierwall/enforcer/internal/backendtest"
	"github.com/tierwall/tierwall/enforcer/internal/sample"
	"github.com/tierwall/tierwall/enforcer/iptables"
	"github.com/tierwall/tierwall/enforcer/iptables/simulator"
	"github.com/tierwall/tierwall/enforcer/ruletext"
	"github.com/tierwall/tierwall/policy"
)

// isComment reports whether a rule, as a trace has it, does nothing.
func isComment(rule string) bool {
	words := strings.Fields(rule)
	return !slices.Contains(words, "-j") && !slices.Contains(words, "-g")
}

// The comments of a class chain tell by number what its rules are there for.
func TestCommentsAreAboutTheRulesOfTheirNumber(t *testing.T) {
	r, err := iptables.Render(sample.Shop(), iptables.IPv4, ruletext.DenyLog{})
	if err != nil {
		t.Fatal(err)
	}
	for chain, want := range map[string]map[int]string{
		"TIERWALL-I-front": {3: "NetworkPolicy prod/frontend /spec/ingress/0", 4: "NetworkPolicy prod/frontend /spec/ingress/0", 5: "NetworkPolicy prod/frontend /spec/ingress"},
		"TIERWALL-I-data":  {3: "ClusterNetworkPolicy audit /spec/ingress/0", 4: "ClusterNetworkPolicy audit /spec/ingress/1", 5: "Admin tier"},
		"TIERWALL-I-dataB": {1: "NetworkPolicy prod/data /spec/ingress/0", 2: "NetworkPolicy prod/data /spec/ingress/0", 3: "NetworkPolicy prod/data /spec/ingress"},
		"TIERWALL-E-any":   {3: "Default tier"},
	} {
		i := slices.IndexFunc(r.Chains, func(c iptables.Chain) bool { return c.Name == chain })
		if got := explained(t, r.Chains[i].Rules); !maps.Equal(got, want) {
			t.Errorf("%s: %v, want %v", chain, got, want)
		}
	}
}

// explained are the comments of a chain by the numbers of the rules that they are about.
func explained(t *testing.T, rules []string) map[int]string {
	t.Helper()
	out := map[int]string{}
	for _, rule := range rules {
		if !isComment(rule) {
			continue
		}
		var first, last int
		numbers, why, _ := strings.Cut(strings.Split(rule, `"`)[1], ": ")
		if n, _ := fmt.Sscanf(numbers, "%d-%d", &first, &last); n == 1 {
			last = first
		}
		if first < 1 || last > len(rules) || isComment(rules[last-1]) {
			t.Errorf("%s: there are not so many rules", rule)
		}
		for i := first; i <= last; i++ {
			out[i] = why
		}
	}
	return out
}

// TestGolden shows what a person sees. TIERWALL_UPDATE=1 writes the files anew.
func TestGolden(t *testing.T) {
	for name, p := range map[string]*policy.Program{"shop": sample.Shop(), "edges": sample.Edges(), "empty": {}, "logged": sample.Shop(), "audited": sample.Audited(), "merged": popular(12, 2), "listed": hostile["networks of every length by ports"](1).finish()} {
		log := backendtest.GoldenLog(name)
		for _, f := range []iptables.Family{iptables.IPv4, iptables.IPv6} {
			r, err := iptables.Render(p, f, log)
			if err != nil {
				t.Fatal(err)
			}
			backendtest.VerifyGolden(t, fmt.Sprintf("%s.%s.rules", name, f), r.RestoreText())
			backendtest.VerifyGolden(t, fmt.Sprintf("%s.%s.sets", name, f), r.SetText())
		}
	}
}

func TestNoNameGetsOutOfItsQuotes(t *testing.T) {
	p := sample.Edges()
	for _, f := range []iptables.Family{iptables.IPv4, iptables.IPv6} {
		r, err := iptables.Render(p, f, ruletext.DenyLog{})
		if err != nil {
			t.Fatal(err)
		}
		rules := 0
		for _, c := range r.Chains {
			rules += len(c.Rules)
		}
		if lines := strings.Count(r.RestoreText(), "\n"); lines != len(r.Chains)+rules+2 {
			t.Errorf("%d lines for %d chains and %d rules", lines, len(r.Chains), rules)
		}
		if strings.Contains(r.RestoreText(), "\n-A FORWARD") || strings.Contains(r.RestoreText(), "\\") {
			t.Errorf("a name got through:\n%s", r.RestoreText())
		}
	}
	render(t, p)
}

func TestDispatchIsATree(t *testing.T) {
	for _, pods := range []int{0, 1, 3, 16, 17, 250, 1000} {
		p := sample.Crowd(pods)
		rules := render(t, p)
		for _, f := range []iptables.Family{iptables.IPv4, iptables.IPv6} {
			r, err := iptables.Render(p, f, ruletext.DenyLog{})
			if err != nil {
				t.Fatal(err)
			}
			dispatch := 0
			for _, c := range r.Chains {
				dispatch++
				if len(c.Rules) > 16+len(p.Local) {
					t.Errorf("%d pods, %s: chain %s has %d rules", pods, f, c.Name, len(c.Rules))
				}
			}
			if pods <= 16 && dispatch > 10 {
				t.Errorf("%d pods, %s: %d chains are too many to read", pods, f, dispatch)
			}
		}
		for _, e := range p.Endpoints {
			for _, a := range e.Addrs {
				open := e.Class[policy.Egress] == "open"
				if v := rules.judge(t, policy.Host{}, policy.Flow{Source: a, Destination: far(a)}); v.Accepted != open {
					t.Errorf("%d pods: %s in class %s is accepted: %v by %v", pods, a, e.Class[policy.Egress], v.Accepted, v.Trace)
				}
				if steps := len(rules.judge(t, policy.Host{}, policy.Flow{Source: a, Destination: far(a)}).Trace); steps > 9 {
					t.Errorf("%d pods: %s takes %d rules", pods, a, steps)
				}
			}
		}
	}
}

func far(a netip.Addr) netip.Addr {
	if a.Is4() {
		return address("198.51.100.1")
	}
	return address("2001:db8::1")
}

func TestAnEndpointOfAMissingClassIsRefused(t *testing.T) {
	p := sample.Shop()
	delete(p.Classes[policy.Ingress], "data")
	if _, err := iptables.Render(p, iptables.IPv4, ruletext.DenyLog{}); err == nil || !strings.Contains(err.Error(), "data") {
		t.Errorf("want an error about the class, got %v", err)
	}
}

// One class that cannot be rendered is closed; the others are as ever.
func TestAClassThatCannotBeRenderedIsClosedAlone(t *testing.T) {
	p := sample.Shop()
	delete(p.Sets, "world")
	r, err := iptables.Render(p, iptables.IPv4, ruletext.DenyLog{})
	if err == nil {
		t.Fatal("no error")
	}
	table := load(t, r)
	for name, c := range map[string]struct {
		from, to string
		port     uint16
		passes   bool
	}{
		"to the frontend whose set is missing": {"198.51.100.7", "10.1.0.2", 80, false},
		"by its own backend":                   {"10.1.0.3", "10.1.0.4", 5432, true},
	} {
		v, err := table.Judge("FORWARD", simulator.Packet{Source: address(c.from), Destination: address(c.to), Protocol: policy.TCP, DestinationPort: c.port})
		if err != nil || v.Accepted != c.passes {
			t.Errorf("%s: accepted %v, %v, by %v", name, v.Accepted, err, v.Trace)
		}
	}
}
