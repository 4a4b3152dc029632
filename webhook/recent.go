package webhook

import (
	"slices"
	"sync"
	"time"

	"github.com/tierwall/tierwall/policy/compile"
)

// pending is how long a change is remembered that is being judged: longer than a judgement may take.
const pending = 10 * time.Second

// recall is how long a change is remembered that no snapshot shows, because
// something else refused it after all.
const recall = 5 * time.Second

// maxRemembered is how many changes are remembered. More than a few that no
// snapshot shows come only from somebody whose changes are refused elsewhere.
const maxRemembered = 100

// recent is the changes that are being judged, or were let go a
// moment ago, and that the snapshot need not show yet: it is behind by
// milliseconds. Without them two changes that come together would each be judged
// as if the other one did not come, and open together what neither opens alone.
//
// It is what one replica knows.
type recent struct {
	mu      sync.Mutex
	changes []*remembered
}

type remembered struct {
	change
	until time.Time
}

// join remembers a change that is to be judged. now is the state, and likely what
// it is with the changes remembered before; it is the same where there are none.
func (r *recent) join(c change, from Snapshots) (now, likely *compile.Snapshot, self *remembered) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now = from.Snapshot() // under the lock: what a change was dropped for is in it
	r.changes = slices.DeleteFunc(r.changes, func(c *remembered) bool { return time.Now().After(c.until) || c.shown(now) })
	likely = now
	for _, before := range r.changes {
		_, likely = before.on(likely)
	}
	self = &remembered{c, time.Now().Add(pending)}
	r.changes = append(r.changes, self)
	if len(r.changes) > maxRemembered {
		r.changes = slices.Delete(r.changes, 0, 1)
	}
	return now, likely, self
}

// keep is called for a change that was let go: what was remembered of the same object before is past.
func (r *recent) keep(self *remembered) {
	r.mu.Lock()
	defer r.mu.Unlock()
	self.until = time.Now().Add(recall)
	i := max(slices.Index(r.changes, self), 0)
	past := func(c *remembered) bool { return c.object == self.object }
	r.changes = append(slices.DeleteFunc(slices.Clone(r.changes[:i]), past), r.changes[i:]...)
}

// forget is called for a change that does not happen.
func (r *recent) forget(self *remembered) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changes = slices.DeleteFunc(r.changes, func(c *remembered) bool { return c == self })
}
