package admit

import (
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/webhook/peer"
	"github.com/tierwall/tierwall/webhook/snapshot"
)

// inflightLifetime is how long an admitted change may still happen. The API server ends a
// request after a minute (--request-timeout), whatever other webhooks it waits for.
const inflightLifetime = 65 * time.Second

// maxInflight bounds the tracked changes of one namespace from one sender. No change is dropped
// early to make room: the change that exceeds the bound is refused.
const maxInflight = 64

// maxInflightOfPeer bounds the tracked changes from one sender that is not authenticated. Such a
// sender may be a stranger, who can name any number of namespaces.
const maxInflightOfPeer = 4096

var (
	errTooManyInflight = errors.New("too many changes of this namespace are in flight; try again in a moment")
	errTooManyOfPeer   = errors.New("too many changes from this address are in flight; try again in a moment")
)

// inflightChanges tracks the changes that are under review or admitted, and that the snapshot
// does not show yet. Each of them may happen or not: the API server can still refuse it, because
// of a conflict, a quota, or another webhook.
//
// Each replica tracks its own. Senders that are not authenticated are bounded separately, so that
// a stranger can neither use up an API server's room nor replace its changes.
type inflightChanges struct {
	mu      sync.Mutex
	changes []*inflightChange
}

// inflightChange is a change that may happen until a point in time.
type inflightChange struct {
	change
	sender peer.Identity
	until  time.Time
	// isShown reports whether a snapshot shows the outcome.
	isShown func(*compile.Snapshot) bool
}

// track starts to track a change, and returns the states of the cluster that the change must be
// safe in. Of two concurrent changes, the later one is reviewed with the earlier one in flight.
func (f *inflightChanges) track(sender peer.Identity, c change, from snapshot.SnapshotReader) ([]hypothesis, *inflightChange, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.pruneSettled(from)
	states := possibleStates(now, f.changes, sender, c)
	if c.isNoop {
		return states, nil, nil
	}
	if err := f.checkRoom(sender, c.namespace); err != nil {
		return nil, nil, err
	}
	self := &inflightChange{change: c, sender: sender, until: time.Now().Add(inflightLifetime), isShown: c.shownAfter(now)}
	f.changes = append(f.changes, self)
	return states, self, nil
}

// statesFor returns the states of the cluster that a change must be safe in, without tracking the change.
func (f *inflightChanges) statesFor(sender peer.Identity, c change, from snapshot.SnapshotReader) []hypothesis {
	f.mu.Lock()
	defer f.mu.Unlock()
	return possibleStates(f.pruneSettled(from), f.changes, sender, c)
}

// pruneSettled removes the changes whose outcome the snapshot shows, and those that cannot happen any
// more. It reads the snapshot under the lock, so that the snapshot contains what was removed.
func (f *inflightChanges) pruneSettled(from snapshot.SnapshotReader) *compile.Snapshot {
	now, clock := from.Snapshot(), time.Now()
	f.changes = slices.DeleteFunc(f.changes, func(c *inflightChange) bool { return clock.After(c.until) || c.isShown(now) })
	return now
}

// checkRoom returns an error if the sender has too many changes in flight for another one.
func (f *inflightChanges) checkRoom(sender peer.Identity, namespace string) error {
	inNamespace, total := 0, 0
	for _, c := range f.changes {
		if c.sender != sender {
			continue
		}
		total++
		if c.namespace == namespace {
			inNamespace++
		}
	}
	switch {
	case inNamespace >= maxInflight:
		return errTooManyInflight
	case !sender.Authenticated && total >= maxInflightOfPeer:
		return errTooManyOfPeer
	default:
		return nil
	}
}

// keepAdmitted keeps an admitted change, in place of the sender's changes with the same outcome.
func (f *inflightChanges) keepAdmitted(self *inflightChange) {
	if self == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	self.until = time.Now().Add(inflightLifetime)
	f.changes = slices.DeleteFunc(f.changes, func(c *inflightChange) bool {
		return c != self && c.sender == self.sender && c.hasSameOutcome(self.change)
	})
}

// removeChange removes a change that does not happen.
func (f *inflightChanges) removeChange(self *inflightChange) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.changes = slices.DeleteFunc(f.changes, func(c *inflightChange) bool { return c == self })
}
