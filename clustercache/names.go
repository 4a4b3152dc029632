package clustercache

import (
	"net/netip"
	"slices"
	"time"

	"github.com/tierwall/tierwall/policy/compile"
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

// podAt is the pod that the address belongs to, as the compiler resolves it.
func (w *Watcher) podAt(addr netip.Addr) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var claimants []*compile.Pod
	for _, p := range w.kinds.pods.objects {
		if slices.Contains(p.Addrs, addr) {
			claimants = append(claimants, p)
		}
	}
	if len(claimants) == 0 {
		return ""
	}
	owner := compile.Owner(w.kinds.nodes.values(), claimants, addr)
	if owner == nil {
		return ""
	}
	return owner.Namespace + "/" + owner.Name
}
