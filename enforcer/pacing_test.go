package enforcer

import (
	"fmt"
	"testing"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tierwall/tierwall/policy/compile"
)

// policyUpdate is an update of one policy in each namespace, of the name; those of hostile are large.
func policyUpdate(name string, namespaces ...string) *compile.Update {
	u := &compile.Update{}
	for _, ns := range namespaces {
		np := &networkingv1.NetworkPolicy{}
		np.Namespace, np.Name = ns, name
		if ns == "hostile" {
			np.Spec.Ingress = make([]networkingv1.NetworkPolicyIngressRule, smallNamespace)
		}
		u.NetworkPolicies.Set(types.NamespacedName{Namespace: ns, Name: name}, np)
	}
	return u
}

func admittedNames(p *pacer, u *compile.Update, now time.Time) string {
	p.admitChanges(u, now)
	out := map[string]bool{}
	for key := range u.NetworkPolicies {
		out[key.String()] = true
	}
	return fmt.Sprint(out)
}

func hostileKey(name string) types.NamespacedName {
	return types.NamespacedName{Namespace: "hostile", Name: name}
}

func hostileDeletion(name string) *compile.Update {
	u := &compile.Update{}
	u.NetworkPolicies.Set(hostileKey(name), nil)
	return u
}

func mergeUpdates(updates ...*compile.Update) *compile.Update {
	all := &compile.Update{}
	for _, u := range updates {
		for k, np := range u.NetworkPolicies {
			all.NetworkPolicies.Set(k, np)
		}
	}
	return all
}

func TestAnExpensiveNamespaceWaitsAloneForItsNextChange(t *testing.T) {
	var p pacer
	now := time.Unix(1, 0)
	if got := admittedNames(&p, policyUpdate("a", "hostile"), now); got != "map[hostile/a:true]" {
		t.Fatalf("the first change: %s", got)
	}
	p.chargeTenants(freeTurn+freeDebt+10*time.Millisecond, now)
	now = now.Add(time.Second)
	if got := admittedNames(&p, policyUpdate("b", "hostile", "shop"), now); got != "map[shop/b:true]" {
		t.Errorf("during the pause: %s", got)
	}
	p.chargeTenants(time.Millisecond, now)
	want := repaymentFactor*10*time.Millisecond - time.Second
	if wait, held := p.nextRelease(now); !held || wait != want {
		t.Errorf("held %v, for %v, want %v", held, wait, want)
	}
	now = now.Add(want)
	if got := admittedNames(&p, &compile.Update{}, now); got != "map[hostile/b:true]" {
		t.Errorf("after the pause: %s", got)
	}
	if wait, held := p.nextRelease(now); held {
		t.Errorf("still held, for %v", wait)
	}
}

func TestChangesThatCameDuringAPauseAreSpreadOverTurns(t *testing.T) {
	var p pacer
	now := time.Unix(1, 0)
	admittedNames(&p, policyUpdate("a", "hostile"), now)
	p.chargeTenants(time.Hour, now)
	for _, name := range []string{"d", "c", "b"} {
		admittedNames(&p, policyUpdate(name, "hostile"), now)
	}
	now = now.Add(maxPause)
	for _, want := range []string{"d", "c", "b"} { // in the order in which they came
		if got := admittedNames(&p, &compile.Update{}, now); got != "map[hostile/"+want+":true]" {
			t.Errorf("a turn has %s, want %s", got, want)
		}
		p.chargeTenants(0, now)
	}
}

func TestPoliciesThatComeAtOnceAreSpreadOverTurns(t *testing.T) {
	var p pacer
	now := time.Unix(1, 0)
	all := mergeUpdates(policyUpdate("a", "hostile"), policyUpdate("b", "hostile"), policyUpdate("c", "shop"))
	if got := admittedNames(&p, all, now); got != "map[hostile/a:true shop/c:true]" {
		t.Errorf("the first turn: %s", got)
	}
	p.chargeTenants(0, now)
	if wait, held := p.nextRelease(now); !held || wait != 0 {
		t.Errorf("held %v, for %v, want the next turn at once", held, wait)
	}
	if got := admittedNames(&p, &compile.Update{}, now); got != "map[hostile/b:true]" {
		t.Errorf("the second turn: %s", got)
	}
}

func TestAPolicyIsReplacedBeforeItsPredecessorGoes(t *testing.T) {
	var p pacer
	now := time.Unix(1, 0)
	admittedNames(&p, policyUpdate("a", "hostile"), now)
	p.chargeTenants(0, now)
	if got := admittedNames(&p, mergeUpdates(hostileDeletion("a"), policyUpdate("b", "hostile")), now); got != "map[hostile/b:true]" {
		t.Errorf("the first turn: %s", got)
	}
	p.chargeTenants(0, now)
	if got := admittedNames(&p, &compile.Update{}, now); got != "map[hostile/a:true]" {
		t.Errorf("the second turn: %s", got)
	}
}

func TestWritingAndDeletingOneLargePolicyIsPaidFor(t *testing.T) {
	var p pacer
	now := time.Unix(1, 0)
	for range 2 {
		admittedNames(&p, policyUpdate("a", "hostile"), now)
		p.chargeTenants(freeTurn, now)
		admittedNames(&p, hostileDeletion("a"), now)
		p.chargeTenants(freeTurn+freeDebt, now)
	}
	if got := admittedNames(&p, policyUpdate("a", "hostile"), now); got != "map[]" {
		t.Errorf("after expensive deletions: %s", got)
	}
}

func TestTheLoopSpendsLittleTimeOnExpensivePolicies(t *testing.T) {
	var p pacer
	const cost = 60 * time.Millisecond
	start := time.Unix(1, 0)
	now, spent := start, time.Duration(0)
	for i := 0; now.Before(start.Add(10 * time.Minute)); i++ {
		if got := admittedNames(&p, policyUpdate(fmt.Sprint("p", i%200), "hostile"), now); got == "map[]" {
			p.chargeTenants(0, now)
			now = now.Add(50 * time.Millisecond)
			continue
		}
		spent += cost
		now = now.Add(cost)
		p.chargeTenants(cost, now)
	}
	if share := spent.Seconds() / now.Sub(start).Seconds(); share > 0.006 {
		t.Errorf("%.1f %% of the time was spent on the policies of one namespace, want at most half of a hundredth", 100*share)
	}
}

func TestClassesOfNewLabelsArePaidForByTheirNamespace(t *testing.T) {
	var p pacer
	now := time.Unix(1, 0)
	admittedNames(&p, mergeUpdates(policyUpdate("a", "hostile"), policyUpdate("b", "shop")), now)
	p.chargeTenants(0, now)
	turn := func(cost time.Duration) (allowed string) {
		p.admitChanges(&compile.Update{}, now)
		for range 3 {
			allowed += fmt.Sprint(p.AllowClass("hostile", smallNamespace), p.AllowClass("shop", 1), " ")
		}
		p.chargeTenants(cost, now)
		return allowed
	}
	if got, want := turn(time.Second), "true true false true false true "; got != want {
		t.Errorf("the first turn: %s, want %s", got, want)
	}
	if got, want := turn(0), "false true false true false true "; got != want {
		t.Errorf("in debt: %s, want %s", got, want)
	}
	if wait, waits := p.nextRelease(now); !waits || wait != maxPause {
		t.Errorf("next in %v, %v; want %v", wait, waits, maxPause)
	}
	now = now.Add(maxPause)
	if got, want := turn(0), "true true false true false true "; got != want {
		t.Errorf("when the debt is repaid: %s, want %s", got, want)
	}
}

func TestOfWhatWaitsTheLatestStateIsEnforced(t *testing.T) {
	var p pacer
	now := time.Unix(1, 0)
	admittedNames(&p, policyUpdate("a", "hostile"), now)
	p.chargeTenants(time.Hour, now)
	admittedNames(&p, policyUpdate("b", "hostile"), now)
	admittedNames(&p, hostileDeletion("b"), now)
	u := &compile.Update{}
	p.admitChanges(u, now.Add(maxPause))
	np, there := u.NetworkPolicies[hostileKey("b")]
	if !there || np != nil || len(u.NetworkPolicies) != 1 {
		t.Errorf("want the deletion, got %v", u.NetworkPolicies)
	}
}

func TestANewerStateReplacesOneThatWaited(t *testing.T) {
	var p pacer
	now := time.Unix(1, 0)
	admittedNames(&p, policyUpdate("a", "hostile"), now)
	p.chargeTenants(time.Hour, now)
	admittedNames(&p, policyUpdate("b", "hostile"), now)
	newer := policyUpdate("b", "hostile")
	newer.NetworkPolicies[hostileKey("b")].Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeEgress}
	p.admitChanges(newer, now.Add(maxPause))
	if got := newer.NetworkPolicies[hostileKey("b")]; got == nil || len(got.Spec.PolicyTypes) != 1 || len(got.Spec.Ingress) != smallNamespace {
		t.Errorf("an older state is enforced in place of the newer one: %v", got)
	}
}

func TestAPolicyOverItsBudgetIsNotKept(t *testing.T) {
	var p pacer
	now := time.Unix(1, 0)
	admittedNames(&p, policyUpdate("a", "hostile"), now)
	p.chargeTenants(time.Hour, now)
	admittedNames(&p, policyUpdate("b", "hostile"), now)
	refused := policyUpdate("b", "hostile")
	refused.NetworkPolicies[hostileKey("b")].Spec.Ingress = make([]networkingv1.NetworkPolicyIngressRule, compile.MaxPolicySize+1)
	if got := admittedNames(&p, refused, now); got != "map[hostile/b:true]" {
		t.Errorf("let through: %s", got)
	}
	if got := admittedNames(&p, &compile.Update{}, now.Add(maxPause)); got != "map[]" {
		t.Errorf("an older state follows: %s", got)
	}
}

func TestOrdinaryNamespacesAreNeverHeldBack(t *testing.T) {
	var p pacer
	now := time.Unix(1, 0)
	for i := range 1000 {
		name := fmt.Sprint("p", i)
		if got, want := admittedNames(&p, policyUpdate(name, "shop"), now), fmt.Sprintf("map[shop/%s:true]", name); got != want {
			t.Fatalf("change %d: %s", i, got)
		}
		p.chargeTenants(time.Hour, now) // the machine is busy
	}
}

func TestNothingIsKeptOfANamespaceWithoutPolicies(t *testing.T) {
	var p pacer
	now := time.Unix(1, 0)
	admittedNames(&p, policyUpdate("a", "hostile"), now)
	p.chargeTenants(time.Millisecond, now)
	admittedNames(&p, hostileDeletion("a"), now)
	p.chargeTenants(time.Hour, now)
	now = now.Add(repaymentFactor*freeDebt + maxPause)
	admittedNames(&p, policyUpdate("b", "shop"), now)
	p.chargeTenants(0, now)
	admittedNames(&p, &compile.Update{}, now)
	if len(p.tenants) != 1 || len(p.active) != 0 {
		t.Errorf("%d tenants are kept and %d active, want 1 and 0", len(p.tenants), len(p.active))
	}
}

func TestTheCostIsDividedBySize(t *testing.T) {
	var p pacer
	now := time.Unix(1, 0)
	admittedNames(&p, mergeUpdates(policyUpdate("large", "hostile"), policyUpdate("small", "shop")), now)
	p.chargeTenants(time.Second, now)
	if got := admittedNames(&p, policyUpdate("b", "hostile", "shop"), now); got != "map[shop/b:true]" {
		t.Errorf("after a change of both: %s", got)
	}
}

func TestTheStartDelaysNobody(t *testing.T) {
	var p pacer
	now := time.Unix(1, 0)
	p.admitAll(mergeUpdates(policyUpdate("a", "hostile"), policyUpdate("b", "hostile")))
	p.chargeTenants(time.Hour, now)
	if got := admittedNames(&p, policyUpdate("c", "hostile"), now); got != "map[hostile/c:true]" {
		t.Errorf("the first change after the start: %s", got)
	}
}
