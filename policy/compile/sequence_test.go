package compile_test

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/test/canonical"
	"github.com/tierwall/tierwall/test/generate"
)

// A sequence is a cluster's objects and what happens to them, committed in portions.
type sequence struct {
	defaults policy.Defaults
	portions [][]generate.Step
}

// verify commits the portions one after the other. After each of them the engine must have what
// Compile makes of the same objects, must have said what changed and nothing else, and what it said
// must lead from the program before to the one after.
func (s sequence) verify(node string, shuffle *rand.Rand) error {
	engine := compile.NewEngine(node, s.defaults)
	objects, before := &compile.Update{}, &policy.Program{}
	for i, portion := range s.portions {
		u := &compile.Update{}
		for _, step := range portion {
			generate.Merge(u, step.Update)
		}
		generate.Merge(objects, u)
		change := engine.Commit(u)
		snapshot := snapshotOf(objects, s.defaults, shuffle)
		want, problems := compile.Compile(snapshot, node)
		if got, _ := engine.AddressProblems(); !slices.Equal(got, compile.AddressProblems(snapshot, node)) {
			return fmt.Errorf("commit %d: addresses reported: %v\nwant: %v", i, got, compile.AddressProblems(snapshot, node))
		}
		if err := compare(engine, change, before, want, problems); err != nil {
			return fmt.Errorf("commit %d: %w", i, err)
		}
		before = engine.Program()
	}
	return nil
}

func compare(e *compile.Engine, c *policy.Change, before, want *policy.Program, problems []policy.Problem) error {
	wanted, is := canonical.Text(want), e.Program()
	if got := canonical.Text(is); got != wanted {
		return fmt.Errorf("the engine's program (+) is not the one compiled from scratch (-):\n%s", lineDiff(wanted, got))
	}
	if got, want := describe(c), describe(difference(before, is)); got != want {
		return fmt.Errorf("the change that is told (+) is not the one that happened (-):\n%s", lineDiff(want, got))
	}
	if got := canonical.Text(before.With(c)); got != wanted {
		return fmt.Errorf("the program with the change (+) is not the one compiled from scratch (-):\n%s", lineDiff(wanted, got))
	}
	if got := e.Problems(); !slices.Equal(got, problems) {
		return fmt.Errorf("problems: %v\nwant: %v", got, problems)
	}
	return nil
}

// snapshotOf is the snapshot of the objects, in any order.
func snapshotOf(u *compile.Update, d policy.Defaults, shuffle *rand.Rand) *compile.Snapshot {
	return &compile.Snapshot{
		Pods: values(u.Pods, shuffle), Namespaces: values(u.Namespaces, shuffle), Nodes: values(u.Nodes, shuffle),
		NetworkPolicies:        values(u.NetworkPolicies, shuffle),
		ClusterNetworkPolicies: values(u.ClusterNetworkPolicies, shuffle),
		TierRoles:              values(u.TierRoles, shuffle),
		Defaults:               d,
	}
}

func values[O any](objects compile.Objects[O], shuffle *rand.Rand) []*O {
	var out []*O
	for _, o := range objects {
		if o != nil {
			out = append(out, o)
		}
	}
	shuffle.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

// difference is the change between two programs, found by comparing all of them.
func difference(before, after *policy.Program) *policy.Change {
	c := &policy.Change{}
	old := map[string]policy.Endpoint{}
	for _, e := range before.Endpoints {
		old[e.Key()] = e
	}
	for _, e := range after.Endpoints {
		was, there := old[e.Key()]
		if !there || was.Node != e.Node || was.Class != e.Class || !slices.Equal(was.Addrs, e.Addrs) {
			c.Endpoints = append(c.Endpoints, e)
		}
		delete(old, e.Key())
	}
	for key := range old {
		c.EndpointsGone = append(c.EndpointsGone, key)
	}
	for _, d := range policy.Directions {
		for id, class := range after.Classes[d] {
			if before.Classes[d][id] == nil {
				c.Classes[d] = append(c.Classes[d], class)
			}
		}
		for id := range before.Classes[d] {
			if after.Classes[d][id] == nil {
				c.ClassesGone[d] = append(c.ClassesGone[d], id)
			}
		}
	}
	for id, set := range after.Sets {
		was := before.Sets[id]
		if was == nil {
			c.Sets = append(c.Sets, set)
			continue
		}
		m := policy.SetChange{ID: id, Added: missing(set.Elements, was.Elements), Removed: missing(was.Elements, set.Elements)}
		if len(m.Added)+len(m.Removed) > 0 {
			c.Members = append(c.Members, m)
		}
	}
	for id := range before.Sets {
		if after.Sets[id] == nil {
			c.SetsGone = append(c.SetsGone, id)
		}
	}
	c.Frame = frameDifference(before, after)
	return c
}

// frameDifference is the frame if it changed. The program without anything, before the first
// commit, has none.
func frameDifference(before, after *policy.Program) *policy.NodeConfig {
	f := func(p *policy.Program) *policy.Program {
		return &policy.Program{Hosts: p.Hosts, Local: p.Local, Unknown: p.Unknown}
	}
	if before.Sets != nil && f(before).String() == f(after).String() {
		return nil
	}
	return &policy.NodeConfig{Hosts: after.Hosts, Local: after.Local, Unknown: after.Unknown}
}

func missing(of, in []policy.Element) []policy.Element {
	return slices.DeleteFunc(slices.Clone(of), func(e policy.Element) bool { return slices.Contains(in, e) })
}

// describe is the change as text, in order.
func describe(c *policy.Change) string {
	var lines []string
	say := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	for _, e := range c.Endpoints {
		say("endpoint %v", e)
	}
	for _, key := range c.EndpointsGone {
		say("endpoint %s gone", key)
	}
	for _, d := range policy.Directions {
		for _, class := range c.Classes[d] {
			say("class %s %s %s", d, class.ID, class)
		}
		for _, id := range c.ClassesGone[d] {
			say("class %s %s gone", d, id)
		}
	}
	for _, s := range c.Sets {
		say("set %s %s %s %v", s.ID, s.Kind, s.Description, s.Elements)
	}
	for _, id := range c.SetsGone {
		say("set %s gone", id)
	}
	for _, m := range c.Members {
		say("set %s added %v removed %v", m.ID, m.Added, m.Removed)
	}
	if f := c.Frame; f != nil {
		say("frame %s", &policy.Program{Hosts: f.Hosts, Local: f.Local, Unknown: f.Unknown})
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// lineDiff is the lines that only one of the texts has.
func lineDiff(want, got string) string {
	var b strings.Builder
	a, c := strings.Split(want, "\n"), strings.Split(got, "\n")
	for _, line := range a {
		if !slices.Contains(c, line) {
			fmt.Fprintf(&b, "- %s\n", line)
		}
	}
	for _, line := range c {
		if !slices.Contains(a, line) {
			fmt.Fprintf(&b, "+ %s\n", line)
		}
	}
	return b.String()
}

// begin is the steps that make the snapshot, an object each.
func begin(s *compile.Snapshot) []generate.Step {
	return singly([]generate.Step{{What: "at first", Update: s.Update()}})
}

// singly parts steps into steps of one object, in the same order.
func singly(steps []generate.Step) []generate.Step {
	var out []generate.Step
	for _, step := range steps {
		u := step.Update
		part(&out, step.What, u.Pods, func(o compile.Objects[compile.Pod]) *compile.Update { return &compile.Update{Pods: o} })
		part(&out, step.What, u.Namespaces, func(o compile.Objects[compile.Namespace]) *compile.Update { return &compile.Update{Namespaces: o} })
		part(&out, step.What, u.Nodes, func(o compile.Objects[compile.Node]) *compile.Update { return &compile.Update{Nodes: o} })
		part(&out, step.What, u.NetworkPolicies, func(o compile.Objects[networkingv1.NetworkPolicy]) *compile.Update {
			return &compile.Update{NetworkPolicies: o}
		})
		part(&out, step.What, u.ClusterNetworkPolicies, func(o compile.Objects[policyv1alpha2.ClusterNetworkPolicy]) *compile.Update {
			return &compile.Update{ClusterNetworkPolicies: o}
		})
		part(&out, step.What, u.TierRoles, func(o compile.Objects[v1alpha1.TierRole]) *compile.Update { return &compile.Update{TierRoles: o} })
	}
	return out
}

func part[O any](out *[]generate.Step, what string, objects compile.Objects[O], update func(compile.Objects[O]) *compile.Update) {
	byName := func(a, b types.NamespacedName) int { return strings.Compare(a.String(), b.String()) }
	for _, key := range slices.SortedFunc(maps.Keys(objects), byName) {
		what := fmt.Sprintf("%s: %s %+v", what, key, objects[key])
		*out = append(*out, generate.Step{What: what, Update: update(compile.Objects[O]{key: objects[key]})})
	}
}

// permuted is the steps in another order, in which those of one object keep theirs.
func permuted(r *rand.Rand, steps []generate.Step) []generate.Step {
	places := map[string][]int{}
	order := r.Perm(len(steps))
	for i, step := range steps {
		key := objectOf(step.Update)
		places[key] = append(places[key], order[i])
	}
	out := make([]generate.Step, len(steps))
	for _, at := range places {
		slices.Sort(at)
	}
	for _, step := range steps {
		key := objectOf(step.Update)
		out[places[key][0]] = step
		places[key] = places[key][1:]
	}
	return out
}

// objectOf names the object of a step that has a single one.
func objectOf(u *compile.Update) string {
	var out strings.Builder
	name := func(kind string, keys []types.NamespacedName) {
		for _, key := range keys {
			fmt.Fprint(&out, kind, " ", key)
		}
	}
	name("pod", slices.Collect(maps.Keys(u.Pods)))
	name("namespace", slices.Collect(maps.Keys(u.Namespaces)))
	name("node", slices.Collect(maps.Keys(u.Nodes)))
	name("np", slices.Collect(maps.Keys(u.NetworkPolicies)))
	name("cnp", slices.Collect(maps.Keys(u.ClusterNetworkPolicies)))
	name("role", slices.Collect(maps.Keys(u.TierRoles)))
	return out.String()
}

// inPortions parts the steps at random places.
func inPortions(r *rand.Rand, steps []generate.Step) [][]generate.Step {
	var out [][]generate.Step
	for len(steps) > 0 {
		n := 1 + r.IntN(min(len(steps), 6))
		out, steps = append(out, steps[:n]), steps[n:]
	}
	return out
}

// alone is every step as a portion.
func alone(steps []generate.Step) [][]generate.Step {
	out := make([][]generate.Step, len(steps))
	for i := range steps {
		out[i] = steps[i : i+1]
	}
	return out
}

// orders are the ways in which the same can happen.
func orders(r *rand.Rand, start *compile.Snapshot, steps []generate.Step) map[string]sequence {
	first, single := begin(start), singly(steps)
	in := func(portions ...[]generate.Step) sequence { return sequence{start.Defaults, portions} }
	return map[string]sequence{
		"step by step":      in(append([][]generate.Step{first}, alone(steps)...)...),
		"object by object":  in(alone(slices.Concat(first, single))...),
		"in one commit":     in(first, steps),
		"without beginning": in(slices.Concat(first, steps)),
		"in another order":  in(inPortions(r, permuted(r, slices.Concat(first, single)))...),
		"in portions":       in(append([][]generate.Step{first}, inPortions(r, steps)...)...),
		"there and back":    in(first, steps, undo(first, steps)),
	}
}

// undo is the steps that put all objects back to what they were at first.
func undo(first, steps []generate.Step) []generate.Step {
	var out []generate.Step
	for _, step := range steps {
		u := step.Update
		out = append(out, generate.Step{What: "not so: " + step.What, Update: &compile.Update{
			Pods: none(u.Pods), Namespaces: none(u.Namespaces), Nodes: none(u.Nodes), NetworkPolicies: none(u.NetworkPolicies),
			ClusterNetworkPolicies: none(u.ClusterNetworkPolicies), TierRoles: none(u.TierRoles)}})
	}
	return append(out, first...)
}

// none is the objects deleted.
func none[O any](objects compile.Objects[O]) compile.Objects[O] {
	out := compile.Objects[O]{}
	for key := range objects {
		out.Set(key, nil)
	}
	return out
}

func TestTheEngineHasWhatCompileGives(t *testing.T) {
	verifySequences(t, setting(t, "TIERWALL_SEED", 1), setting(t, "TIERWALL_SEQUENCES", 60))
}

// TestTheEngineHasWhatCompileGivesOverBudgets has policies, classes, namespaces and nodes come over their budgets
// and back.
func TestTheEngineHasWhatCompileGivesOverBudgets(t *testing.T) {
	defer compile.LowerBudgets()()
	verifySequences(t, setting(t, "TIERWALL_SEED", 1), setting(t, "TIERWALL_SEQUENCES", 60)/3)
}

func TestLoweredBudgetsAreExceeded(t *testing.T) {
	defer compile.LowerBudgets()()
	var messages strings.Builder
	for seed := range uint64(60) {
		_, problems := compile.Compile(generate.Cluster(generate.NewRand(seed), generate.Small), "node-1")
		fmt.Fprint(&messages, problems)
	}
	for _, budget := range []string{"at most 2 are allowed: write them", "select the same pods come to", "as peers for ", "allowed in a namespace", "beyond 0 of each namespace", "are among the largest"} {
		if !strings.Contains(messages.String(), budget) {
			t.Errorf("no cluster is over the budget that says %q", budget)
		}
	}
}

func verifySequences(t *testing.T, first, n uint64) {
	t.Helper()
	for seed := first; seed < first+n && !t.Failed(); seed++ {
		*compile.LeftAtMost = int(seed % 3)
		start := generate.Cluster(generate.NewRand(seed), generate.Small)
		steps := generate.Steps(generate.NewRand(seed), start, generate.Small, 30)
		for order, s := range orders(generate.NewRand(seed), start, steps) {
			for _, node := range []string{"", "node-1"} {
				if err := s.verify(node, generate.NewRand(seed)); err != nil {
					t.Fatalf("seed %d, %s, node %q: %s", seed, order, node, s.shrink(node))
				}
			}
		}
	}
}

// shrink drops steps for as long as the rest still fails, and tells what is left.
func (s sequence) shrink(node string) string {
	for again := true; again; {
		again = false
		for i := len(s.portions) - 1; i >= 0; i-- {
			for j := len(s.portions[i]) - 1; j >= -1; j-- {
				rest := sequence{s.defaults, slices.Clone(s.portions)}
				if j < 0 { // the whole portion
					rest.portions = slices.Delete(rest.portions, i, i+1)
				} else {
					rest.portions[i] = slices.Delete(slices.Clone(rest.portions[i]), j, j+1)
				}
				if rest.verify(node, generate.NewRand(1)) != nil {
					s, again = rest, true
				}
				if j < 0 {
					break
				}
			}
		}
	}
	var b strings.Builder
	fmt.Fprintln(&b, s.verify(node, generate.NewRand(1)))
	for i, portion := range s.portions {
		for _, step := range portion {
			fmt.Fprintf(&b, "commit %d: %s\n", i, step.What)
		}
	}
	return b.String()
}

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

// FuzzEngine reads a cluster and what happens to it from any bytes. Making them smaller takes long
// and shows little, as the test shrinks what fails: run it with -fuzzminimizetime 1x.
func FuzzEngine(f *testing.F) {
	for seed := range uint64(8) {
		source := rand.NewChaCha8([32]byte{byte(seed)})
		bytes := make([]byte, 4096)
		_, _ = source.Read(bytes)
		f.Add(bytes)
	}
	f.Fuzz(func(t *testing.T, bytes []byte) {
		r := rand.New(&readable{bytes: bytes})
		start := generate.Cluster(r, generate.Small)
		steps := generate.Steps(r, start, generate.Small, 12)
		all := orders(r, start, steps)
		order := slices.Sorted(maps.Keys(all))[r.IntN(len(all))]
		node := []string{"", "node-1"}[r.IntN(2)]
		if all[order].verify(node, generate.NewRand(1)) != nil {
			t.Fatalf("%s, node %q: %s", order, node, all[order].shrink(node))
		}
	})
}

// readable is a source of numbers that reads bytes, and counts when there are no more of them.
type readable struct {
	bytes []byte
	more  uint64
}

func (s *readable) Uint64() uint64 {
	if len(s.bytes) < 8 {
		s.more += 0x9e3779b97f4a7c15
		return s.more ^ s.more>>29
	}
	n := binary.LittleEndian.Uint64(s.bytes)
	s.bytes = s.bytes[8:]
	return n
}
