package compile

import "github.com/tierwall/tierwall/policy"

// Throttle bounds what the labels of pods make an engine do. A class can have MaxClassSize entries, and whoever may
// label a pod can have another class built for each label that policies tell apart.
type Throttle interface {
	// AllowClass reports whether classes of together size entries may be built now for pods of the namespace that
	// are new or have new labels. Until it does, NetworkPolicies allow these pods nothing, and each Commit asks again.
	AllowClass(namespace string, size int) bool
}

// Throttle has the engine ask the throttle from now on.
func (e *Engine) Throttle(t Throttle) { e.throttle = t }

// Deferred reports whether classes are still to be built.
func (e *Engine) Deferred() bool { return len(e.deferred) > 0 }

// retryDeferred has the classes that were not built yet looked at again.
func (c *commit) retryDeferred() {
	for p := range c.deferred {
		c.profiles[p] = true
	}
}

// subjects are what the profile's classes follow from in each direction. They are closed where a class may not be built
// yet. Only profiles that nobody here had before are deferred: what a change of a policy costs is bounded elsewhere.
func (c *commit) subjects(p *profile, s selecting, isNew bool) (out [2]subject) {
	out = [2]subject{p.subject(), p.subject()}
	_, waited := c.deferred[p]
	delete(c.deferred, p)
	if c.throttle == nil || !isNew && !waited || p.domain.budgets.areOver() {
		return out
	}
	var missing [2]int
	for _, d := range policy.Directions {
		if c.classes[d].built[c.classes[d].builder.key(out[d], s)] == nil {
			missing[d] = classCost(d, s.namespaced)
		}
	}
	size := missing[0] + missing[1]
	if size == 0 || c.throttle.AllowClass(p.domain.name, size) {
		return out
	}
	c.deferred[p] = struct{}{}
	for d := range out {
		out[d].closed = missing[d] > 0
	}
	return out
}
