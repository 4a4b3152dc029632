package enforcer

import (
	"cmp"
	"fmt"
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
	// maxTurnSize is the size that the policies of one larger namespace have at least when no more of them are let
	// through in one turn.
	maxTurnSize = 2000
	// freeTurn is the cost that a turn may have without a debt: about that of an ordinary change.
	freeTurn = 5 * time.Millisecond
	// freeDebt is the debt up to which a namespace does not wait.
	freeDebt = 20 * time.Millisecond
	// repaymentFactor is how many times as long as the debt it takes to repay it: the expensive changes of one
	// namespace take at most half of a hundredth of the loop's time.
	repaymentFactor = 200
	// maxPause bounds the wait after one turn. A namespace delays only its own changes.
	maxPause = time.Minute
)

// pacer is a token bucket for each large namespace, in time that the loop spends on its NetworkPolicies. It holds
// their changes back, in the order in which they came, while the bucket is empty, so that the policies of one tenant
// do not delay those of another. It is the compile.Throttle of the classes of pods that are new or have new labels.
// Other changes are never held back. The zero value holds back nothing.
type pacer struct {
	now     time.Time // of the turn
	tenants map[string]*tenant
	// active are the tenants with changes that wait, that were let through, or that are not paid for.
	active map[string]*tenant
}

// tenant is a namespace that has NetworkPolicies.
type tenant struct {
	// held are the changes that wait, as protobuf in a tenth of the memory, or nil for a deletion. queue are their
	// names in the order in which they came.
	held  map[types.NamespacedName][]byte
	queue []types.NamespacedName
	// sizes are those of the policies that were let through, and total is their sum.
	sizes map[types.NamespacedName]int
	total int
	// charged is the size of what was let through since the last charge; large is true when the namespace was
	// large before or after one of these changes.
	charged int
	large   bool
	// deferred is true when classes of pods wait.
	deferred bool
	// repaid is when the debt is repaid.
	repaid time.Time
}

// admitChanges removes from the update what has to wait, and adds what may go on.
func (p *pacer) admitChanges(u *compile.Update, now time.Time) {
	p.now = now
	for _, key := range writesFirst(u.NetworkPolicies) {
		np := u.NetworkPolicies[key]
		t := p.activeTenant(key.Namespace)
		size, refused := policySize(np)
		if refused || len(t.held) == 0 && t.sizeWith(key, size) <= smallNamespace {
			delete(t.held, key) // an older state
			t.letThrough(key, size)
			continue
		}
		delete(u.NetworkPolicies, key)
		t.holdBack(key, np)
	}
	for name, t := range p.active {
		t.deferred = false
		t.releaseHeld(u, now)
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
		t := p.activeTenant(key.Namespace)
		size, _ := policySize(np)
		t.letThrough(key, size)
		t.charged, t.large = 0, false
	}
}

// writesFirst are the keys of changes that came at once: what is written before what is deleted, so that a policy that
// takes the place of another is in force before the other goes.
func writesFirst(changed compile.Objects[networkingv1.NetworkPolicy]) []types.NamespacedName {
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

// activeTenant is the namespace's, which is active from now on.
func (p *pacer) activeTenant(namespace string) *tenant {
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

// policySize is the size of a policy. A policy over its budget is refused: it is cheap, as its rules are not read.
func policySize(np *networkingv1.NetworkPolicy) (size int, refused bool) {
	if np == nil {
		return 0, false
	}
	if size = 1 + compile.NetworkPolicySize(np); size > 1+compile.MaxPolicySize {
		return 1, true
	}
	return size, false
}

// sizeWith is the size of the namespace's policies before or after a policy gets a size, whichever is more.
func (t *tenant) sizeWith(key types.NamespacedName, size int) int {
	return t.total + max(0, size-t.sizes[key])
}

// holdBack queues a change. A later change of a policy takes the place of an earlier one.
func (t *tenant) holdBack(key types.NamespacedName, np *networkingv1.NetworkPolicy) {
	if _, queued := t.held[key]; !queued {
		t.queue = append(t.queue, key)
	}
	if t.held == nil {
		t.held = map[types.NamespacedName][]byte{}
	}
	t.held[key] = packPolicy(np)
}

func packPolicy(np *networkingv1.NetworkPolicy) []byte {
	if np == nil {
		return nil
	}
	packed, err := np.Marshal()
	if err != nil {
		panic(fmt.Sprintf("packing NetworkPolicy %s/%s: %v", np.Namespace, np.Name, err)) // into memory: it cannot fail
	}
	return packed
}

func unpackPolicy(packed []byte) *networkingv1.NetworkPolicy {
	if packed == nil {
		return nil
	}
	np := &networkingv1.NetworkPolicy{}
	if err := np.Unmarshal(packed); err != nil {
		panic(fmt.Sprintf("unpacking a NetworkPolicy: %v", err)) // it was packed here
	}
	return np
}

// releaseHeld adds held changes to the update, up to the size of a turn, when the namespace need not wait.
func (t *tenant) releaseHeld(u *compile.Update, now time.Time) {
	if t.waitTime(now) > 0 {
		return
	}
	for len(t.queue) > 0 && (t.charged < maxTurnSize) {
		key := t.queue[0]
		t.queue = t.queue[1:]
		packed, waits := t.held[key]
		if !waits {
			continue
		}
		delete(t.held, key)
		np := unpackPolicy(packed)
		u.NetworkPolicies.Set(key, np)
		size, _ := policySize(np)
		t.letThrough(key, size)
	}
	if len(t.queue) == 0 {
		t.queue, t.held = nil, nil
	}
}

// letThrough counts a change of a policy, which has a size from now on.
func (t *tenant) letThrough(key types.NamespacedName, size int) {
	before := t.sizes[key]
	t.charged += max(before, size)
	t.large = t.large || max(t.total, t.total+size-before) > smallNamespace
	t.total += size - before
	if t.sizes[key] = size; size == 0 {
		delete(t.sizes, key)
	}
}

// AllowClass implements compile.Throttle.
func (p *pacer) AllowClass(namespace string, size int) bool {
	t := p.tenants[namespace]
	if t == nil || t.total <= smallNamespace {
		return true
	}
	p.active[namespace] = t
	if t.waitTime(p.now) > 0 || t.charged > 0 && t.charged+size > maxTurnSize {
		t.deferred = true
		return false
	}
	t.charged += size
	t.large = true
	return true
}

// waitTime is how long the namespace has to wait.
func (t *tenant) waitTime(now time.Time) time.Duration {
	if !t.repaid.After(now) {
		return 0
	}
	return max(0, t.repaid.Sub(now)-repaymentFactor*freeDebt)
}

// chargeTenants divides what it cost to put the admitted changes in force among their namespaces, in proportion to the
// sizes of their policies. Only large namespaces owe it.
func (p *pacer) chargeTenants(cost time.Duration, now time.Time) {
	all := 0
	for _, t := range p.active {
		all += t.charged
	}
	for _, t := range p.active {
		if t.large {
			t.addDebt(time.Duration(float64(cost)*float64(t.charged)/float64(all))-freeTurn, now)
		}
		t.charged, t.large = 0, false
	}
}

func (t *tenant) addDebt(cost time.Duration, now time.Time) {
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

// nextRelease is how long to wait until something that is held may go on; false where nothing is held.
func (p *pacer) nextRelease(now time.Time) (time.Duration, bool) {
	var first time.Duration
	found := false
	for _, t := range p.active {
		if len(t.held) == 0 && !t.deferred {
			continue
		}
		if wait := t.waitTime(now); !found || wait < first {
			first, found = wait, true
		}
	}
	return first, found
}
