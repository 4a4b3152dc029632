package enforcer

import (
	"fmt"
	"testing"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tierwall/tierwall/policy/compile"
)

// policies is an update of one policy in each namespace, of the name; those of hostile are large.
func policies(name string, namespaces ...string) *compile.Update {
	u := &compile.Update{}
	for _, ns := range namespaces {
		np := &networkingv1.NetworkPolicy{}
		np.Namespace, np.Name = ns, name
		if ns == "hostile" {
			np.Spec.Ingress = make([]networkingv1.NetworkPolicyIngressRule, freeSize)
		}
		u.NetworkPolicies.Set(types.NamespacedName{Namespace: ns, Name: name}, np)
	}
	return u
}

func admitted(p *pacer, u *compile.Update, now time.Time) string {
	p.admit(u, now)
	out := map[string]bool{}
	for key := range u.NetworkPolicies {
		out[key.String()] = true
	}
	return fmt.Sprint(out)
}

func TestAnExpensiveNamespaceWaitsAloneForItsNextChange(t *testing.T) {
	var p pacer
	now := time.Unix(1, 0)
	if got := admitted(&p, policies("a", "hostile"), now); got != "map[hostile/a:true]" {
		t.Fatalf("the first change: %s", got)
	}
	p.charge(50*time.Millisecond, now)
	now = now.Add(time.Second)
	if got := admitted(&p, policies("b", "hostile", "shop"), now); got != "map[shop/b:true]" {
		t.Errorf("during the pause: %s", got)
	}
	p.charge(time.Millisecond, now)
	if wait, held := p.next(now); !held || wait != 4*time.Second {
		t.Errorf("held %v, for %v", held, wait)
	}
	now = now.Add(4 * time.Second)
	if got := admitted(&p, &compile.Update{}, now); got != "map[hostile/b:true]" {
		t.Errorf("after the pause: %s", got)
	}
	if wait, held := p.next(now); held {
		t.Errorf("still held, for %v", wait)
	}
}

func TestOfWhatWaitsTheLatestStateIsEnforced(t *testing.T) {
	var p pacer
	now := time.Unix(1, 0)
	admitted(&p, policies("a", "hostile"), now)
	p.charge(time.Hour, now)
	admitted(&p, policies("b", "hostile"), now)
	gone := &compile.Update{}
	gone.NetworkPolicies.Set(types.NamespacedName{Namespace: "hostile", Name: "b"}, nil)
	admitted(&p, gone, now)
	u := &compile.Update{}
	p.admit(u, now.Add(longestPause))
	np, there := u.NetworkPolicies[types.NamespacedName{Namespace: "hostile", Name: "b"}]
	if !there || np != nil || len(u.NetworkPolicies) != 1 {
		t.Errorf("want the deletion, got %v", u.NetworkPolicies)
	}
}

func TestANewerStateReplacesOneThatWaited(t *testing.T) {
	var p pacer
	now := time.Unix(1, 0)
	admitted(&p, policies("a", "hostile"), now)
	p.charge(time.Hour, now)
	admitted(&p, policies("b", "hostile"), now)
	newer := policies("b", "hostile")
	want := newer.NetworkPolicies[types.NamespacedName{Namespace: "hostile", Name: "b"}]
	p.admit(newer, now.Add(longestPause))
	if got := newer.NetworkPolicies[types.NamespacedName{Namespace: "hostile", Name: "b"}]; got != want {
		t.Error("an older state is enforced in place of the newer one")
	}
}

func TestOrdinaryNamespacesAreNeverHeldBack(t *testing.T) {
	var p pacer
	now := time.Unix(1, 0)
	for i := range 1000 {
		name := fmt.Sprint("p", i)
		if got, want := admitted(&p, policies(name, "shop"), now), fmt.Sprintf("map[shop/%s:true]", name); got != want {
			t.Fatalf("change %d: %s", i, got)
		}
		p.charge(time.Hour, now) // the machine is busy
	}
}

func TestANamespaceThatBecameSmallIsNotHeldBack(t *testing.T) {
	var p pacer
	now := time.Unix(1, 0)
	admitted(&p, policies("a", "hostile"), now)
	p.charge(time.Millisecond, now)
	gone := &compile.Update{}
	gone.NetworkPolicies.Set(types.NamespacedName{Namespace: "hostile", Name: "a"}, nil)
	admitted(&p, gone, now)
	p.charge(time.Hour, now)
	if got := admitted(&p, policies("b", "hostile"), now); got != "map[hostile/b:true]" {
		t.Errorf("after all large policies are gone: %s", got)
	}
	if len(p.sizes) != 1 || len(p.total) != 1 {
		t.Errorf("sizes of %d policies in %d namespaces are kept, want 1 in 1", len(p.sizes), len(p.total))
	}
}

func TestTheCostIsDividedBySize(t *testing.T) {
	var p pacer
	now := time.Unix(1, 0)
	u := policies("large", "hostile")
	for key, other := range policies("small", "shop").NetworkPolicies {
		u.NetworkPolicies.Set(key, other)
	}
	admitted(&p, u, now)
	p.charge(time.Second, now)
	if got := admitted(&p, policies("b", "hostile", "shop"), now); got != "map[shop/b:true]" {
		t.Errorf("after a change of both: %s", got)
	}
}
