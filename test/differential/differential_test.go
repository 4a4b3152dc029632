// Package differential compares the compiler and the evaluator with the naive oracle, on
// random clusters, policies and flows.
//
// TIERWALL_CLUSTERS and TIERWALL_SEED set how many clusters are made, and the first seed.
package differential

import (
	"os"
	"strconv"
	"testing"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/policy/eval"
	"github.com/tierwall/tierwall/test/generate"
	"github.com/tierwall/tierwall/test/oracle"
)

const flowsPerCluster = 120

func setting(t *testing.T, name string, standard uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return standard
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// forEachCluster runs the check on clusters of successive seeds until one fails.
func forEachCluster(t *testing.T, standard uint64, check func(t *testing.T, seed uint64, s *compile.Snapshot)) {
	first, n := setting(t, "TIERWALL_SEED", 1), setting(t, "TIERWALL_CLUSTERS", standard)
	for seed := first; seed < first+n && !t.Failed(); seed++ {
		check(t, seed, generate.Cluster(generate.NewRand(seed), generate.Small))
	}
	if t.Failed() {
		t.Log("run again with TIERWALL_CLUSTERS=1 and TIERWALL_SEED as above")
	}
}

func TestTheProgramDecidesAsTheAPITextSays(t *testing.T) {
	seen := map[policy.Verdict]int{}
	tiers := map[policy.TierName]int{}
	forEachCluster(t, 1000, func(t *testing.T, seed uint64, s *compile.Snapshot) {
		program, _ := compile.Compile(s, "")
		e := eval.New(program)
		for _, f := range generate.Flows(generate.NewRand(seed), s, flowsPerCluster) {
			got := e.Decide(f)
			egress, ingress := oracle.Egress(s, f), oracle.Ingress(s, f)
			if got.Egress.Verdict != egress || got.Ingress.Verdict != ingress || got.Verdict != oracle.Decide(s, f) {
				t.Errorf("seed %d: %+v:\ndecided %+v\nwant egress %s, ingress %s\n%s", seed, f, got, egress, ingress, program)
				return
			}
			seen[got.Verdict]++
			tiers[got.Egress.Tier]++
			tiers[got.Ingress.Tier]++
		}
	})
	t.Logf("verdicts %v, tiers %v", seen, tiers)
}
