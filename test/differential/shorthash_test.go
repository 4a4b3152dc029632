//go:build shorthash

package differential

import (
	"strings"
	"testing"

	"github.com/tierwall/tierwall/enforcer/iptables"
	"github.com/tierwall/tierwall/enforcer/nftables"
	"github.com/tierwall/tierwall/enforcer/ruletext"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/test/generate"
)

// What this package tries with hashes of 8 bits has clashes of classes, of sets, and of names in the
// kernel of iptables. It counts those of nftables too.
func TestShortHashesClash(t *testing.T) {
	clashes := map[string]int{}
	for seed := range uint64(standardClusters) {
		p, _ := compile.Compile(generate.Cluster(generate.NewRand(seed+1), generate.Crowded), "node-0")
		for _, d := range policy.Directions {
			for id := range p.Classes[d] {
				if strings.Contains(string(id), "-") {
					clashes["classes"]++
				}
			}
		}
		for id := range p.Sets {
			if strings.Contains(string(id), "-") {
				clashes["sets"]++
			}
		}
		count(t, p, clashes)
	}
	t.Log(clashes)
	for _, kind := range []string{"classes", "sets", "iptables' chains and sets"} {
		if clashes[kind] == 0 {
			t.Errorf("no clash of %s: %v", kind, clashes)
		}
	}
}

// count counts the names in the kernel that are numbered.
func count(t *testing.T, p *policy.Program, clashes map[string]int) {
	t.Helper()
	for _, f := range []iptables.Family{iptables.IPv4, iptables.IPv6} {
		r, err := iptables.Render(p, f, ruletext.DenyLog{})
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range r.Sets {
			if strings.Contains(s.Name, ".") {
				clashes["iptables' chains and sets"]++
			}
		}
	}
	r, err := nftables.Render(p, ruletext.DenyLog{})
	if err != nil {
		t.Fatal(err)
	}
	for name := range r.Sets {
		if strings.HasPrefix(name, "any") && strings.Count(name, "-") > 1 || strings.HasPrefix(name, "ports-") && strings.Count(name, "-") > 1 {
			clashes["nftables' chains and sets"]++
		}
	}
	for name := range r.Chains {
		if strings.HasPrefix(name, "to") && strings.Count(name, "-") > 1 {
			clashes["nftables' chains and sets"]++
		}
	}
}
