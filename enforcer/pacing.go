package enforcer

import (
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tierwall/tierwall/policy/compile"
)

const (
	// freeSize is what the policies of a namespace may come to, in entries as the compiler counts
	// them, without any pause: a busy machine does not make a namespace of ordinary size wait.
	freeSize = 2000
	// freeCost is what changes of one namespace's policies may cost without a pause after them.
	freeCost = 20 * time.Millisecond
	// pausePerCost is how many times as long as its last change a namespace waits for the next
	// one, so that its changes take about one part in a hundred of the agent's time.
	pausePerCost = 100
	// longestPause bounds the wait: a namespace is late for its own changes only.
	longestPause = 10 * time.Second
)

// pacer holds back changes of NetworkPolicies of large namespaces whose last change was expensive, so
// that one tenant's policies do not delay another's. Changes of pods, nodes, namespaces and
// ClusterNetworkPolicies are never held back. The zero value holds back nothing.
type pacer struct {
	// until is when a namespace may change its policies again.
	until map[string]time.Time
	// held are the latest of the changes that wait.
	held compile.Objects[networkingv1.NetworkPolicy]
	// charged are the sizes of what was let through since the last charge, by namespace.
	charged map[string]int
	// sizes are those of all policies that were let through, total their sums by namespace.
	sizes map[types.NamespacedName]int
	total map[string]int
}

// admit takes out of the update what has to wait, and adds what need not wait any longer.
func (p *pacer) admit(u *compile.Update, now time.Time) {
	for namespace, until := range p.until {
		if !now.Before(until) {
			delete(p.until, namespace)
		}
	}
	for key, np := range u.NetworkPolicies {
		if _, wait := p.until[key.Namespace]; wait {
			p.held.Set(key, np)
			delete(u.NetworkPolicies, key)
		} else {
			delete(p.held, key) // an older state of it
		}
	}
	for key, np := range p.held {
		if _, wait := p.until[key.Namespace]; !wait {
			u.NetworkPolicies.Set(key, np)
			delete(p.held, key)
		}
	}
	p.note(u.NetworkPolicies)
}

// note counts what is let through.
func (p *pacer) note(changed compile.Objects[networkingv1.NetworkPolicy]) {
	if p.sizes == nil {
		p.sizes, p.total, p.charged = map[types.NamespacedName]int{}, map[string]int{}, map[string]int{}
	}
	for key, np := range changed {
		before, size := p.sizes[key], 0
		if np != nil {
			size = 1 + compile.NetworkPolicySize(np)
		}
		p.charged[key.Namespace] += max(before, size)
		p.total[key.Namespace] += size - before
		if p.sizes[key] = size; size == 0 {
			delete(p.sizes, key)
		}
		if p.total[key.Namespace] == 0 {
			delete(p.total, key.Namespace)
		}
	}
}

// charge divides what putting the admitted changes in force cost among their namespaces, by the
// sizes of their policies, and makes those large ones wait whose part is large.
func (p *pacer) charge(cost time.Duration, now time.Time) {
	all := 0
	for _, size := range p.charged {
		all += size
	}
	for namespace, size := range p.charged {
		if p.total[namespace] <= freeSize {
			continue
		}
		part := time.Duration(float64(cost) * float64(size) / float64(all))
		if part <= freeCost {
			continue
		}
		if p.until == nil {
			p.until = map[string]time.Time{}
		}
		p.until[namespace] = now.Add(min(pausePerCost*part, longestPause))
	}
	clear(p.charged)
}

// next is how long to wait until something that is held may go on; false where nothing is held.
func (p *pacer) next(now time.Time) (time.Duration, bool) {
	var first time.Duration
	found := false
	for key := range p.held {
		wait := max(0, p.until[key.Namespace].Sub(now))
		if !found || wait < first {
			first, found = wait, true
		}
	}
	return first, found
}
