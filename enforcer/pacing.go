package enforcer

import (
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tierwall/tierwall/policy/compile"
)

const (
	// freeCost is what changes of one namespace's policies may cost without a pause after them.
	freeCost = 20 * time.Millisecond
	// pausePerCost is how many times as long as its last change a namespace waits for the next
	// one, so that its changes take about one part in a hundred of the agent's time.
	pausePerCost = 100
	// longestPause bounds the wait: a namespace is late for its own changes only.
	longestPause = 10 * time.Second
)

// pacer holds back changes of NetworkPolicies of namespaces whose last change was expensive, so
// that one tenant's policies do not delay another's. Changes of pods, nodes, namespaces and
// ClusterNetworkPolicies are never held back. The zero value holds back nothing.
type pacer struct {
	// until is when a namespace may change its policies again.
	until map[string]time.Time
	// held are the latest of the changes that wait.
	held compile.Objects[networkingv1.NetworkPolicy]
	// charged are the sizes of what was let through since the last charge, by namespace.
	charged map[string]int
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

func (p *pacer) note(changed map[types.NamespacedName]*networkingv1.NetworkPolicy) {
	for key, np := range changed {
		if p.charged == nil {
			p.charged = map[string]int{}
		}
		p.charged[key.Namespace]++
		if np != nil {
			p.charged[key.Namespace] += compile.NetworkPolicySize(np)
		}
	}
}

// charge divides what putting the admitted changes in force cost among their namespaces, by the
// sizes of their policies, and makes those wait whose part is large.
func (p *pacer) charge(cost time.Duration, now time.Time) {
	total := 0
	for _, size := range p.charged {
		total += size
	}
	for namespace, size := range p.charged {
		part := time.Duration(float64(cost) * float64(size) / float64(total))
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
