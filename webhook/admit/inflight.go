package admit

import (
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/rego"
	"github.com/tierwall/tierwall/webhook/peer"
	"github.com/tierwall/tierwall/webhook/snapshot"
)

// inflightLifetime is how long an admitted change may still happen. The API server ends a
// request after a minute (--request-timeout), whatever other webhooks it waits for.
const inflightLifetime = 65 * time.Second

// maxInflight bounds the tracked changes of one namespace from one sender. No change is dropped
// early to make room: the change that exceeds the bound is refused.
const maxInflight = 64

// maxInflightOfPeer bounds the tracked changes of all namespaces from one sender that is not authenticated. Such a
// sender may be a stranger, who can name any number of namespaces, or an API server with an administrator's change of a
// cluster-scoped object, which does not count.
const maxInflightOfPeer = 4096

// Bounds on the bytes of the tracked changes' requests. Decoded, they take several times as much.
const (
	// maxInflightBytes bounds those of one namespace from one sender. It is more than one change can have: two objects
	// of the largest size that an API server stores.
	maxInflightBytes = 4 << 20
	// maxInflightBytesOfSender bounds those of all namespaces from one sender, which may be an API server. Beyond it,
	// each namespace still has a small share, so that one tenant leaves room for the others. Cluster-scoped objects do not
	// count: administrators alone change them.
	maxInflightBytesOfSender = 16 << 20
	inflightShareBytes       = 512 << 10
	// maxInflightBytesOfPeer bounds those from one sender that is not authenticated, shares included.
	maxInflightBytesOfPeer = 32 << 20
)

var (
	errTooManyInflight = errors.New("too many changes of this namespace are in flight; try again in a moment")
	errTooManyOfPeer   = errors.New("too many changes from this address are in flight; try again in a moment")
)

// inflightChanges tracks the changes that are under review or admitted, and that the snapshot
// does not show yet. Each of them may happen or not: the API server can still refuse it, because
// of a conflict, a quota, or another webhook.
//
// Each replica tracks its own; Rechecker finds what several replicas admitted together. Senders that are not authenticated are bounded separately, so that
// a stranger can neither use up an API server's room nor replace its changes.
type inflightChanges struct {
	mu      sync.Mutex
	changes []*inflightChange
	settled settledChanges
}

// inflightChange is a change that may happen until a point in time.
type inflightChange struct {
	change
	sender peer.Identity
	until  time.Time
	// base holds the policies of the snapshot that the change was first reviewed in, request is what asked for it, and
	// admitted is true once it was admitted.
	base     *compile.Snapshot
	request  rego.Request
	admitted bool
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
	if err := f.checkRoom(sender, c); err != nil {
		return nil, nil, err
	}
	self := &inflightChange{change: c, sender: sender, until: time.Now().Add(inflightLifetime), base: policiesOf(now), isShown: c.shownAfter(now)}
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
	f.changes = slices.DeleteFunc(f.changes, func(c *inflightChange) bool {
		shown := c.isShown(now)
		if shown && c.admitted {
			f.settled.add(c, clock)
		}
		return shown || clock.After(c.until)
	})
	return now
}

// prune removes settled changes, as track does.
func (f *inflightChanges) prune(from snapshot.SnapshotReader) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pruneSettled(from)
}

// checkRoom returns an error if the sender has too many changes in flight for another one, or changes that are too large.
func (f *inflightChanges) checkRoom(sender peer.Identity, next change) error {
	var inNamespace, inAll, ofSender inflightTotal
	for _, c := range f.changes {
		if c.sender != sender {
			continue
		}
		ofSender.add(c)
		if c.namespace != "" {
			inAll.add(c)
		}
		if c.namespace == next.namespace {
			inNamespace.add(c)
		}
	}
	isCrowded := next.namespace != "" && inAll.bytes+next.size > maxInflightBytesOfSender
	switch {
	case inNamespace.count >= maxInflight, inNamespace.bytes+next.size > maxInflightBytes,
		isCrowded && inNamespace.bytes+next.size > inflightShareBytes:
		return errTooManyInflight
	case !sender.Authenticated && next.namespace != "" && (ofSender.count >= maxInflightOfPeer || ofSender.bytes+next.size > maxInflightBytesOfPeer):
		return errTooManyOfPeer
	default:
		return nil
	}
}

// inflightTotal is how many changes there are, and the bytes of their requests.
type inflightTotal struct{ count, bytes int }

func (t *inflightTotal) add(c *inflightChange) {
	t.count++
	t.bytes += c.size
}

// keepAdmitted keeps an admitted change, in place of the sender's changes with the same outcome. The request is kept for
// another review after the change happened.
func (f *inflightChanges) keepAdmitted(self *inflightChange, request rego.Request) {
	if self == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	self.until, self.request, self.admitted = time.Now().Add(inflightLifetime), request, true
	f.settled.markHandled(self)
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
