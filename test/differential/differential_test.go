// Package differential compares everything that says what becomes of a flow: the naive
// oracle, the compiler with the evaluator, and the rendered rules with an interpreter, on
// random clusters, policies and flows.
//
// TIERWALL_CLUSTERS and TIERWALL_SEED set how many clusters are made, and the first seed;
// TIERWALL_FLOWS how many flows are tried in each. What disagrees is made as small as it
// can be before it is shown.
package differential

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/test/generate"
	"github.com/tierwall/tierwall/test/oracle"
)

const (
	standardClusters = 1000
	flowsPerCluster  = 120
)

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

// trial is a cluster, and flows in it.
type trial struct {
	Cluster *oracle.Cluster
	Flows   []policy.Flow
}

func newTrial(seed uint64, size generate.Size, flows int) *trial {
	r := generate.NewRand(seed)
	s := generate.Cluster(r, size)
	return &trial{generate.Objects(r, s), generate.Flows(r, s, flows)}
}

// run judges all flows until one is judged differently, or a judge gives up.
func (c *trial) run(saw func(policy.Flow, opinion)) (disagreement string) {
	defer func() {
		if r := recover(); r != nil {
			disagreement = fmt.Sprintf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	j, err := newJudges(c.Cluster)
	if err != nil {
		return "renderer: " + err.Error()
	}
	for _, f := range c.Flows {
		o, disagreement := j.judge(f)
		if disagreement != "" {
			return disagreement
		}
		saw(f, o)
	}
	return ""
}

func TestAllJudgesAgreeOnEveryFlow(t *testing.T) {
	first, n := setting(t, "TIERWALL_SEED", 1), setting(t, "TIERWALL_CLUSTERS", standardClusters)
	flows := int(setting(t, "TIERWALL_FLOWS", flowsPerCluster))
	t.Logf("seeds %d to %d", first, first+n-1)
	seen := newCoverage()
	var next, judged atomic.Uint64
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for seed := first + next.Add(1) - 1; seed < first+n && !t.Failed(); seed = first + next.Add(1) - 1 {
				c := newTrial(seed, generate.Crowded, flows)
				disagreement := c.run(func(f policy.Flow, o opinion) {
					judged.Add(1)
					seen.note(c.Cluster, f, o)
				})
				if disagreement != "" {
					t.Errorf("seed %d: %s\nrun again with TIERWALL_CLUSTERS=1 TIERWALL_SEED=%d", seed, disagreement, seed)
					report(t, c, disagreement)
				}
			}
		})
	}
	workers.Wait()
	t.Logf("%d flows in %d clusters\n%s", judged.Load(), n, seen)
	if n >= standardClusters && !t.Failed() {
		for _, bias := range seen.missing() {
			t.Errorf("no flow was about %q", bias)
		}
	}
}

// report shows the smallest part of the trial that is still judged differently by the same judge.
func report(t *testing.T, c *trial, disagreement string) {
	t.Helper()
	c.shrink(who(disagreement))
	text, err := yaml.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Errorf("shrunk to:\n%s\n%s", text, c.run(func(policy.Flow, opinion) {}))
}
