package differential

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/policy/eval"
	"github.com/tierwall/tierwall/test/canonical"
	"github.com/tierwall/tierwall/test/generate"
)

// State, not history: the order of objects means nothing.
func TestTheOrderOfObjectsMeansNothing(t *testing.T) {
	forEachCluster(t, 300, func(t *testing.T, seed uint64, s *compile.Snapshot) {
		before, beforeProblems := compile.Compile(s, "")
		r := generate.NewRand(seed)
		shuffle(r, s.Pods)
		shuffle(r, s.Namespaces)
		shuffle(r, s.Nodes)
		shuffle(r, s.NetworkPolicies)
		shuffle(r, s.ClusterNetworkPolicies)
		shuffle(r, s.TierRoles)
		after, afterProblems := compile.Compile(s, "")
		if canonical.Text(before) != canonical.Text(after) {
			t.Errorf("seed %d: before:\n%s\nafter:\n%s", seed, before, after)
		}
		if !slices.Equal(beforeProblems, afterProblems) {
			t.Errorf("seed %d: problems before %v, after %v", seed, beforeProblems, afterProblems)
		}
	})
}

// However objects are written, the agent's watcher makes of them what they mean.
func TestTheWatcherMakesOfObjectsWhatTheyMean(t *testing.T) {
	forEachCluster(t, 300, func(t *testing.T, seed uint64, s *compile.Snapshot) {
		want, _ := compile.Compile(s, "")
		got, _ := compile.Compile(snapshot(generate.Objects(generate.NewRand(seed), s)), "")
		if canonical.Text(got) != canonical.Text(want) {
			t.Errorf("seed %d: the snapshot:\n%s\nthe objects:\n%s", seed, want, got)
		}
	})
}

// Compiling reads the snapshot, and leaves it as it was.
func TestTheSnapshotIsNotChanged(t *testing.T) {
	forEachCluster(t, 200, func(t *testing.T, seed uint64, s *compile.Snapshot) {
		before, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		compile.Compile(s, "")
		after, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if string(before) != string(after) {
			t.Errorf("seed %d: before:\n%s\nafter:\n%s", seed, before, after)
		}
	})
}

func shuffle[T any](r *rand.Rand, values []T) {
	r.Shuffle(len(values), func(i, j int) { values[i], values[j] = values[j], values[i] })
}

// The programs of the nodes, each judging its own endpoints, decide together as the program of all.
func TestTheNodesDecideTogetherAsOne(t *testing.T) {
	forEachCluster(t, 300, func(t *testing.T, seed uint64, s *compile.Snapshot) {
		program, _ := compile.Compile(s, "")
		whole, objects := eval.New(program), generate.Objects(generate.NewRand(seed), s)
		nodes := map[string]*eval.Evaluator{}
		for _, n := range s.Nodes {
			part, _ := compile.Compile(s, n.Name)
			nodes[n.Name] = eval.New(part)
		}
		for _, f := range generate.Flows(generate.NewRand(seed), s, flowsPerCluster) {
			if foreign(objects, f.Source) || foreign(objects, f.Destination) {
				continue // the node of the address is not on the way
			}
			want := whole.Decide(f)
			got := policy.Allow
			for _, e := range nodes {
				if e.Decide(f).Verdict != policy.Allow {
					got = policy.Deny
				}
			}
			if got != want.Verdict {
				t.Errorf("seed %d: %+v: the nodes decide %s, the whole %+v", seed, f, got, want)
				return
			}
		}
	})
}

// One side of a decision is what Direction says of it.
func TestDirectionIsOneSideOfTheDecision(t *testing.T) {
	judged := 0
	forEachCluster(t, 300, func(t *testing.T, seed uint64, s *compile.Snapshot) {
		program, _ := compile.Compile(s, "")
		e := eval.New(program)
		for _, f := range generate.Flows(generate.NewRand(seed), s, flowsPerCluster) {
			d := e.Decide(f)
			for _, side := range []struct {
				why policy.Why
				dir policy.Direction
			}{{d.Egress, policy.Egress}, {d.Ingress, policy.Ingress}} {
				if side.why.Endpoint == "" || side.why.Tier == "" {
					continue
				}
				peer := f.Destination
				if side.dir == policy.Ingress {
					peer = f.Source
				}
				judged++
				if got := eval.Direction(program, side.why.Endpoint, side.dir, peer, f.Protocol, f.DestinationPort); got != side.why {
					t.Errorf("seed %d: %+v: %s decided %+v, Direction says %+v", seed, f, side.dir, side.why, got)
				}
			}
		}
	})
	if judged == 0 {
		t.Error("no side of any flow was judged")
	}
}

// What every renderer may rely on.
func TestTheFormOfPrograms(t *testing.T) {
	forEachCluster(t, 500, func(t *testing.T, seed uint64, s *compile.Snapshot) {
		for _, node := range []string{"", "node-0"} {
			program, _ := compile.Compile(s, node)
			for _, fault := range faults(program) {
				t.Errorf("seed %d, node %q: %s\n%s", seed, node, fault, program)
			}
		}
	})
}

func faults(p *policy.Program) []string {
	var out []string
	check := func(ok bool, fault string) {
		if !ok {
			out = append(out, fault)
		}
	}
	owners := map[string]bool{}
	used := [2]map[policy.ClassID]bool{{}, {}}
	for _, e := range p.Endpoints {
		check(len(e.Addrs) > 0, e.Key()+" has no address")
		for _, a := range e.Addrs {
			check(!owners[a.String()], a.String()+" has two endpoints")
			owners[a.String()] = true
		}
		for _, d := range policy.Directions {
			check(p.Classes[d][e.Class[d]] != nil, e.Key()+" has no class")
			used[d][e.Class[d]] = true
		}
	}
	check(slices.IsSortedFunc(p.Endpoints, func(a, b policy.Endpoint) int {
		return slices.Compare([]string{a.Namespace, a.Name}, []string{b.Namespace, b.Name})
	}), "endpoints are not sorted")
	sets := map[policy.SetID]bool{}
	for _, d := range policy.Directions {
		check(len(used[d]) == len(p.Classes[d]), "a class has no endpoint")
		for id, c := range p.Classes[d] {
			check(c.ID == id, "a class is under another's ID")
			out = append(out, tierFaults(c, d, sets)...)
		}
	}
	check(len(sets) == len(p.Sets), "there are sets that no rule refers to, or that are missing")
	for id, s := range p.Sets {
		check(s.ID == id && sets[id], "set "+string(id)+" is out of place")
		for i := range s.Elements {
			check(i == 0 || s.Elements[i-1].Compare(s.Elements[i]) < 0, "set "+string(id)+" is not sorted")
			check(i == 0 || s.Kind == policy.AddressPorts || s.Elements[i].Except || !s.Elements[i-1].Prefix.Overlaps(s.Elements[i].Prefix), "set "+string(id)+" overlaps")
		}
	}
	return out
}

func tierFaults(c *policy.Class, d policy.Direction, sets map[policy.SetID]bool) []string {
	var out []string
	for i, tier := range c.Tiers {
		if last := i == len(c.Tiers)-1; !last && tier.Else != policy.Pass {
			out = append(out, "a tier behind one that decides")
		} else if last && tier.Else == policy.Pass && len(tier.Rules) == 0 {
			out = append(out, "the last tier decides nothing")
		}
		for _, r := range tier.Rules {
			if r.AnyPeer != (len(r.Peers) == 0) || r.AnyPort != (len(r.Ports) == 0) {
				out = append(out, "a rule is neither any nor some: "+r.String())
			}
			for _, id := range r.Peers {
				sets[id] = true
			}
			for _, port := range r.Ports {
				if port.Named != "" {
					sets[port.Named] = true
					if d == policy.Ingress {
						out = append(out, "a named port at ingress: "+r.String())
					}
				}
			}
		}
	}
	return out
}
