package enforcer

import (
	"cmp"
	"maps"
	"slices"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tierwall/tierwall/policy/compile"
)

// Sizes are in entries, as compile.NetworkPolicySize counts them. Costs are the time that the loop spends on a turn.
const (
	// smallNamespace is the size of all policies of a namespace up to which it never waits.
	smallNamespace = 2000
	// maxTurnSize is the size of the policies of one larger namespace that are let through in one turn; one
	// policy is let through whatever its size.
	maxTurnSize = 2000
	// freeTurn is the cost that a turn may have without a debt: about that of an ordinary change.
	freeTurn = 5 * time.Millisecond
	// freeDebt is the debt up to which a namespace does not wait.
	freeDebt = 20 * time.Millisecond
	// repaymentFactor is how many times as long as the debt it takes to repay it: the expensive changes of one
	// namespace take at most half of a hundredth of the loop's time.
	repaymentFactor = 200
	// maxPause bounds the wait after one turn. A namespace delays only its own changes.
	maxPause = 10 * time.Second
)

// pacer is a token bucket for each large namespace, in time that the loop spends on its NetworkPolicies. It holds
// their changes back, in the order in which they came, while the bucket is empty, so that the policies of one tenant
// do not delay those of another. Changes of pods, nodes, namespaces and ClusterNetworkPolicies are never held back.
// The zero value holds back nothing.
type pacer struct {
	tenants map[string]*tenant
	// active are the tenants with changes that wait, that were let through, or that are not paid for.
	active map[string]*tenant
}

// tenant is a namespace that has NetworkPolicies.
type tenant struct {
	// held are the changes that wait, and queue their names in the order in which they came.
	held  compile.Objects[networkingv1.NetworkPolicy]
	queue []types.NamespacedName
	// sizes are those of the policies that were let through, and total is their sum.
	sizes map[types.NamespacedName]int
	total int
	// charged is the size of what was let through since the last charge; large is true when the namespace was
	// large before or after one of these changes.
	charged int
	large   bool
	// repaid is when the debt is repaid.
	repaid time.Time
}

// admit removes from the update what has to wait, and adds what may go on.
func (p *pacer) admit(u *compile.Update, now time.Time) {
	for _, key := range inOrder(u.NetworkPolicies) {
		np := u.NetworkPolicies[key]
		t := p.tenant(key.Namespace)
		if len(t.held) == 0 && t.sizeWith(key, np) <= smallNamespace {
			t.letThrough(key, np)
			continue
		}
		delete(u.NetworkPolicies, key)
		t.hold(key, np)
	}
	for name, t := range p.active {
		t.release(u, now)
		if len(t.held) > 0 || t.charged > 0 || t.repaid.After(now) {
			continue
		}
		if delete(p.active, name); t.total == 0 {
			delete(p.tenants, name)
		}
	}
}

// admitAll lets everything through, at no cost: at the start there is nobody to be delayed.
func (p *pacer) admitAll(u *compile.Update) {
	for key, np := range u.NetworkPolicies {
		t := p.tenant(key.Namespace)
		t.letThrough(key, np)
		t.charged, t.large = 0, false
	}
}

// inOrder are the keys of changes that came at once: what is written before what is deleted, so that a policy that
// takes the place of another is in force before the other goes.
func inOrder(changed compile.Objects[networkingv1.NetworkPolicy]) []types.NamespacedName {
	deleted := func(key types.NamespacedName) int {
		if changed[key] == nil {
			return 1
		}
		return 0
	}
	return slices.SortedFunc(maps.Keys(changed), func(a, b types.NamespacedName) int {
		return cmp.Or(deleted(a)-deleted(b), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
}

// tenant is the namespace's, which is active from now on.
func (p *pacer) tenant(namespace string) *tenant {
	if p.tenants == nil {
		p.tenants, p.active = map[string]*tenant{}, map[string]*tenant{}
	}
	t := p.tenants[namespace]
	if t == nil {
		t = &tenant{sizes: map[types.NamespacedName]int{}}
		p.tenants[namespace] = t
	}
	p.active[namespace] = t
	return t
}

func policySize(np *networkingv1.NetworkPolicy) int {
	if np == nil {
		return 0
	}
	return 1 + compile.NetworkPolicySize(np)
}

// sizeWith is the size of the namespace's policies, before or after the change, whichever is more.
func (t *tenant) sizeWith(key types.NamespacedName, np *networkingv1.NetworkPolicy) int {
	return t.total + max(0, policySize(np)-t.sizes[key])
}

// hold queues a change. A later change of a policy takes the place of an earlier one.
func (t *tenant) hold(key types.NamespacedName, np *networkingv1.NetworkPolicy) {
	if _, queued := t.held[key]; !queued {
		t.queue = append(t.queue, key)
	}
	t.held.Set(key, np)
}

// release adds held changes to the update, up to the size of a turn, when the namespace need not wait.
func (t *tenant) release(u *compile.Update, now time.Time) {
	if t.wait(now) > 0 {
		return
	}
	for len(t.queue) > 0 {
		key := t.queue[0]
		np := t.held[key]
		if size := max(t.sizes[key], policySize(np)); t.charged > 0 && t.charged+size > maxTurnSize {
			return
		}
		t.queue = t.queue[1:]
		delete(t.held, key)
		u.NetworkPolicies.Set(key, np)
		t.letThrough(key, np)
	}
	t.queue = nil
}

// letThrough counts a change.
func (t *tenant) letThrough(key types.NamespacedName, np *networkingv1.NetworkPolicy) {
	before, size := t.sizes[key], policySize(np)
	t.charged += max(before, size)
	t.large = t.large || max(t.total, t.total+size-before) > smallNamespace
	t.total += size - before
	if t.sizes[key] = size; size == 0 {
		delete(t.sizes, key)
	}
}

// wait is how long the namespace has to wait.
func (t *tenant) wait(now time.Time) time.Duration {
	if !t.repaid.After(now) {
		return 0
	}
	return max(0, t.repaid.Sub(now)-repaymentFactor*freeDebt)
}

// charge divides what it cost to put the admitted changes in force among their namespaces, in proportion to the
// sizes of their policies. Only large namespaces owe it.
func (p *pacer) charge(cost time.Duration, now time.Time) {
	all := 0
	for _, t := range p.active {
		all += t.charged
	}
	for _, t := range p.active {
		if t.large {
			t.owe(time.Duration(float64(cost)*float64(t.charged)/float64(all))-freeTurn, now)
		}
		t.charged, t.large = 0, false
	}
}

func (t *tenant) owe(cost time.Duration, now time.Time) {
	if cost <= 0 {
		return
	}
	if t.repaid.Before(now) {
		t.repaid = now
	}
	latest := now.Add(repaymentFactor*freeDebt + maxPause)
	if t.repaid = t.repaid.Add(repaymentFactor * min(cost, time.Minute)); t.repaid.After(latest) {
		t.repaid = latest
	}
}

// next is how long to wait until something that is held may go on; false where nothing is held.
func (p *pacer) next(now time.Time) (time.Duration, bool) {
	var first time.Duration
	found := false
	for _, t := range p.active {
		if len(t.held) == 0 {
			continue
		}
		if wait := t.wait(now); !found || wait < first {
			first, found = wait, true
		}
	}
	return first, found
}
