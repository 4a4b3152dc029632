package webhook

import (
	"slices"
	"sync"
	"time"

	"github.com/tierwall/tierwall/policy/compile"
)

// recall is how long a change is remembered that no snapshot shows, because
// something else refused it after all.
const recall = 5 * time.Second

// recent is the changes of policies that are being judged, or were let go a
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

// join remembers a change until forget is called. now is the state, and likely
// what it is with the changes remembered before; it is the same where there are none.
func (r *recent) join(c change, from Snapshots) (now, likely *compile.Snapshot, forget func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now = from.Snapshot() // under the lock: what a change was dropped for is in it
	r.changes = slices.DeleteFunc(r.changes, func(c *remembered) bool { return time.Now().After(c.until) || c.shown(now) })
	likely = now
	for _, before := range r.changes {
		_, likely = before.on(likely)
	}
	self := &remembered{c, time.Now().Add(recall)}
	r.changes = append(r.changes, self)
	return now, likely, func() { r.forget(self) }
}

func (r *recent) forget(c *remembered) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changes = slices.DeleteFunc(r.changes, func(have *remembered) bool { return have == c })
}
