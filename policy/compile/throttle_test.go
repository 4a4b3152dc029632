package compile_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/test/canonical"
	"github.com/tierwall/tierwall/test/generate"
)

// throttle is a compile.Throttle.
type throttle func(namespace string, size int) bool

func (t throttle) AllowClass(namespace string, size int) bool { return t(namespace, size) }

// A pod whose class is deferred is closed, each change is consistent, and in the end the program is as without a throttle.
func TestDeferredClassesAreClosedUntilTheyAreBuilt(t *testing.T) {
	deferred := 0
	for seed := range setting(t, "TIERWALL_SEQUENCES", 60) {
		random := generate.NewRand(seed)
		start := generate.Cluster(generate.NewRand(seed), generate.Small)
		steps := append(begin(start), singly(generate.Steps(generate.NewRand(seed), start, generate.Small, 30))...)
		n, err := verifyDeferred(inPortions(random, steps), start.Defaults, random)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		deferred += n
	}
	if deferred < 20 {
		t.Errorf("only %d commits had deferred classes", deferred)
	}
}

func verifyDeferred(portions [][]generate.Step, defaults policy.Defaults, random *rand.Rand) (deferred int, err error) {
	engine := compile.NewEngine("node-1", defaults)
	engine.Throttle(throttle(func(string, int) bool { return random.IntN(3) == 0 }))
	objects, before := &compile.Update{}, &policy.Program{}
	commit := func(u *compile.Update) (*policy.Program, error) {
		generate.Merge(objects, u)
		change := engine.Commit(u)
		want, _ := compile.Compile(snapshotOf(objects, defaults, random), "node-1")
		is := engine.Program()
		if got, want := describe(change), describe(difference(before, is)); got != want {
			return nil, fmt.Errorf("the change (+) is not the difference of the programs (-):\n%s", lineDiff(want, got))
		}
		before = is
		return want, onlyClosed(is, want, engine.Deferred())
	}
	for i, portion := range portions {
		u := &compile.Update{}
		for _, step := range portion {
			generate.Merge(u, step.Update)
		}
		if _, err := commit(u); err != nil {
			return deferred, fmt.Errorf("commit %d: %w", i, err)
		}
		if engine.Deferred() {
			deferred++
		}
	}
	engine.Throttle(throttle(func(string, int) bool { return true }))
	want, err := commit(&compile.Update{})
	switch {
	case err != nil:
		return deferred, err
	case engine.Deferred():
		return deferred, fmt.Errorf("classes are deferred although all are allowed")
	}
	if got, want := canonical.Text(before), canonical.Text(want); got != want {
		return deferred, fmt.Errorf("in the end the program (+) is not the one compiled from scratch (-):\n%s", lineDiff(want, got))
	}
	return deferred, nil
}

// onlyClosed compares the classes of all endpoints: one that is not as wanted allows nothing by NetworkPolicies.
func onlyClosed(is, want *policy.Program, deferred bool) error {
	wanted := map[string]policy.Endpoint{}
	for _, e := range want.Endpoints {
		wanted[e.Key()] = e
	}
	if len(is.Endpoints) != len(wanted) {
		return fmt.Errorf("%d endpoints, want %d", len(is.Endpoints), len(wanted))
	}
	for _, e := range is.Endpoints {
		for _, d := range policy.Directions {
			got := is.Classes[d][e.Class[d]]
			if got.Equal(want.Classes[d][wanted[e.Key()].Class[d]]) {
				continue
			}
			last := got.Tiers[len(got.Tiers)-1]
			if !deferred || last.Name != policy.NetworkPolicyTier || len(last.Rules) > 0 || last.Else != policy.Deny {
				return fmt.Errorf("%s of %s is neither as wanted nor closed: %s", d, e.Key(), got)
			}
		}
	}
	return nil
}

// A tenant who labels its pods anew and anew has no more classes built than the throttle allows.
func TestNewLabelsBuildNoClassThatIsNotAllowed(t *testing.T) {
	engine := compile.NewEngine("node", policy.Defaults{Action: policy.Deny})
	asked := map[string]int{}
	engine.Throttle(throttle(func(namespace string, size int) bool {
		asked[namespace] += size
		return false
	}))
	np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "hostile", Name: "large"}}
	np.Spec.PodSelector.MatchLabels = map[string]string{"app": "a"}
	for i := range 1000 {
		np.Spec.Ingress = append(np.Spec.Ingress, networkingv1.NetworkPolicyIngressRule{From: []networkingv1.NetworkPolicyPeer{
			{IPBlock: &networkingv1.IPBlock{CIDR: fmt.Sprintf("10.%d.%d.0/24", i/256, i%256)}}}})
	}
	u := &compile.Update{}
	u.NetworkPolicies.Set(types.NamespacedName{Namespace: "hostile", Name: "large"}, np)
	engine.Commit(u)
	for i, app := range []string{"b", "a", "b", "a"} {
		u := &compile.Update{}
		u.Pods.Set(types.NamespacedName{Namespace: "hostile", Name: "pod"}, &compile.Pod{Namespace: "hostile", Name: "pod", Node: "node",
			Labels: map[string]string{"app": app}, Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}})
		if change := engine.Commit(u); len(change.Sets) > 0 {
			t.Errorf("change %d made %d sets", i, len(change.Sets))
		}
		if got, want := engine.Deferred(), app == "a"; got != want {
			t.Errorf("change %d: deferred %v, want %v", i, got, want)
		}
	}
	const ofRules = 3 * 1000 // a rule, a peer and a network in each
	if !maps.Equal(asked, map[string]int{"hostile": 2 * ofRules}) {
		t.Errorf("asked for %v", asked)
	}
}
