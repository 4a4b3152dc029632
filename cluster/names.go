package cluster

import (
	"net/netip"
	"slices"
	"time"
)

const (
	// lookEvery bounds how often all pods are gone through for a name.
	lookEvery = 100 * time.Millisecond
	// nameLasts is how long a name, or that there is none, is kept: addresses find other pods.
	nameLasts = 10 * time.Second
	// maxNames is how many are kept.
	maxNames = 4096
)

// Names says which pod has an address, for people to read. There is no index of all pods for
// that, which would take more memory than a log is worth: names that were asked for are kept, and
// who asks for too many different ones at a time gets none. It has one reader.
type Names struct {
	watcher *Watcher
	known   map[netip.Addr]name
	looked  time.Time
}

// name is what is known of an address.
type name struct {
	pod   string
	since time.Time
}

// Names makes a Names of the Watcher's pods.
func (w *Watcher) Names() *Names { return &Names{watcher: w, known: map[netip.Addr]name{}} }

// Of is the pod at an address, as "namespace/name", or nothing.
func (n *Names) Of(addr netip.Addr) string {
	now := time.Now()
	if known, ok := n.known[addr]; ok && now.Sub(known.since) < nameLasts {
		return known.pod
	}
	if now.Sub(n.looked) < lookEvery {
		return ""
	}
	if len(n.known) >= maxNames {
		clear(n.known)
	}
	pod := n.watcher.podAt(addr)
	n.known[addr], n.looked = name{pod, now}, now
	return pod
}

// podAt looks for the pod at an address. Of several it is the newest that is not ending.
func (w *Watcher) podAt(addr netip.Addr) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	best, terminating, created := "", true, int64(0)
	for key, p := range w.kinds.pods.objects {
		if p.HostNetwork || p.Ended || !slices.Contains(p.Addrs, addr) {
			continue
		}
		if best == "" || terminating && !p.Terminating || terminating == p.Terminating && p.Created > created {
			best, terminating, created = key.String(), p.Terminating, p.Created
		}
	}
	return best
}
