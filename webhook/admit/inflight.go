package admit

import (
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/webhook/snapshot"
)

// inflightLifetime is how long an admitted change may still happen: the API server ends
// a request after a minute (--request-timeout), whatever other webhooks it waits for.
const inflightLifetime = 65 * time.Second

// maxInflight bounds the changes that are remembered of one namespace. None is forgotten
// early for another one: the change that would be too many is refused.
const maxInflight = 64

var errTooManyInflight = errors.New("too many changes of this namespace are in flight; try again in a moment")

// inflightChanges holds the changes that are under review, or were admitted, and that the
// snapshot does not show yet. Each of them may happen or not: the API server can still
// refuse it, for a conflict, a quota, or another webhook.
//
// It is what one replica knows.
type inflightChanges struct {
	mu      sync.Mutex
	changes []*inflightChange
}

// inflightChange is a change, and until when it may happen.
type inflightChange struct {
	change
	until time.Time
	// isShown reports whether a snapshot shows the outcome.
	isShown func(*compile.Snapshot) bool
}

// track remembers a change that is about to be reviewed, and returns the states of the
// cluster that it has to be safe in. Of two changes, the one that begins later is
// reviewed with the other one in flight.
func (f *inflightChanges) track(c change, from snapshot.SnapshotReader) ([]hypothesis, *inflightChange, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.pruneSettled(from)
	states := possibleStates(now, f.changes, c)
	if c.isNoop {
		return states, nil, nil
	}
	if f.countInNamespace(c.namespace) >= maxInflight {
		return nil, nil, errTooManyInflight
	}
	self := &inflightChange{change: c, until: time.Now().Add(inflightLifetime), isShown: c.shownAfter(now)}
	f.changes = append(f.changes, self)
	return states, self, nil
}

// statesFor returns the states of the cluster that a change has to be safe in, and does not remember it.
func (f *inflightChanges) statesFor(c change, from snapshot.SnapshotReader) []hypothesis {
	f.mu.Lock()
	defer f.mu.Unlock()
	return possibleStates(f.pruneSettled(from), f.changes, c)
}

// pruneSettled forgets the changes whose outcome the snapshot shows, and those that cannot happen
// any more. It takes the snapshot under the lock: what a change was forgotten for is in it.
func (f *inflightChanges) pruneSettled(from snapshot.SnapshotReader) *compile.Snapshot {
	now, clock := from.Snapshot(), time.Now()
	f.changes = slices.DeleteFunc(f.changes, func(c *inflightChange) bool { return clock.After(c.until) || c.isShown(now) })
	return now
}

func (f *inflightChanges) countInNamespace(namespace string) int {
	n := 0
	for _, c := range f.changes {
		if c.namespace == namespace {
			n++
		}
	}
	return n
}

// keepAdmitted keeps an admitted change. One that is remembered already takes no more room.
func (f *inflightChanges) keepAdmitted(self *inflightChange) {
	if self == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	self.until = time.Now().Add(inflightLifetime)
	f.changes = slices.DeleteFunc(f.changes, func(c *inflightChange) bool { return c != self && c.hasSameOutcome(self.change) })
}

// removeChange forgets a change that does not happen.
func (f *inflightChanges) removeChange(self *inflightChange) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.changes = slices.DeleteFunc(f.changes, func(c *inflightChange) bool { return c == self })
}
