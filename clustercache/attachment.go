package clustercache

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/tierwall/tierwall/policy/compile"
)

// Attachment is a pod's interface as the node's network plugins made it, seconds before the API
// server shows its addresses (CNI specification 1.1, attachment).
type Attachment struct {
	Pod types.NamespacedName
	// UID is the pod's as the kubelet knows it; empty where the container runtime does not tell it.
	UID types.UID
	// Container is the ID of the pod's sandbox.
	Container string
	// Addrs are the pod's addresses, at most one of each IP family.
	Addrs []netip.Addr
}

// attached is an attachment that is believed.
type attached struct {
	Attachment
	// shown are the addresses that the API server shows, if any: those of an earlier sandbox, which
	// it goes on showing until it learns of the new ones.
	shown []netip.Addr
}

// attachPoll is how often it is looked whether the API server shows a pod yet.
const attachPoll = 5 * time.Millisecond

// Attach has the pod seen with the attachment's addresses until the API server shows others than
// it does now. It waits until the Watcher is in sync and the API server shows the pod on the node; what is said of
// a pod of another node, or of another UID, is not believed. When ctx ends first, the error says what was missing.
func (w *Watcher) Attach(ctx context.Context, node string, a Attachment) error {
	if err := a.check(); err != nil {
		return err
	}
	tick := time.NewTicker(attachPoll)
	defer tick.Stop()
	for {
		missing := w.attach(node, a)
		if missing == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", missing, ctx.Err())
		case <-tick.C:
		}
	}
}

// check refuses addresses that no pod can have.
func (a Attachment) check() error {
	if len(a.Addrs) == 0 {
		return errors.New("the network plugins gave the pod no address")
	}
	for i, addr := range a.Addrs {
		if !addr.IsValid() || addr.Is4In6() || addr.Zone() != "" || addr.IsUnspecified() || addr.IsLoopback() || addr.IsMulticast() {
			return fmt.Errorf("%v cannot be the address of a pod", addr)
		}
		if i > 0 && addr.Is4() == a.Addrs[0].Is4() || i > 1 {
			return fmt.Errorf("%v: more than one address of an IP family", a.Addrs)
		}
	}
	return nil
}

// attach notes the attachment, or says why it cannot be believed yet.
func (w *Watcher) attach(node string, a Attachment) error {
	if !w.Synced() {
		return errors.New("not in sync with the API server")
	}
	addrs := slices.SortedFunc(slices.Values(a.Addrs), netip.Addr.Compare)
	w.mu.Lock()
	defer w.mu.Unlock()
	seen, ok := w.kinds.pods.objects[a.Pod]
	before, again := w.attachments[a.Pod]
	switch {
	case !ok, a.UID != "" && seen.UID != a.UID:
		return fmt.Errorf("the API server does not show pod %s with UID %q yet", a.Pod, a.UID)
	case seen.Node != node:
		return fmt.Errorf("the API server does not show pod %s on node %s, but on %q", a.Pod, node, seen.Node)
	case seen.HostNetwork, seen.Ended:
		return fmt.Errorf("pod %s is on the host network or has ended", a.Pod)
	case !again && slices.Equal(seen.Addrs, addrs):
		return nil
	}
	if !again {
		before.shown = seen.Addrs
	}
	a.Addrs = addrs
	w.attachments[a.Pod] = attached{a, before.shown}
	w.kinds.pods.put(a.Pod, withAddrs(seen, addrs))
	return nil
}

// Detach takes back what was said of a container of a pod. What the API server shows stays.
func (w *Watcher) Detach(pod types.NamespacedName, container string) {
	w.DetachAll(func(a Attachment) bool { return a.Pod == pod && a.Container == container })
}

// DetachAll takes back all attachments that are gone.
func (w *Watcher) DetachAll(gone func(Attachment) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for pod, a := range w.attachments {
		if gone(a.Attachment) {
			delete(w.attachments, pod)
			w.kinds.pods.put(pod, withAddrs(w.kinds.pods.objects[pod], a.shown))
		}
	}
}

// withAttachment is a pod that the API server shows, with the addresses that it does not show
// yet. Once it shows new ones, or the end of the pod, it alone is believed. It needs the lock.
func (w *Watcher) withAttachment(pod types.NamespacedName, shown *compile.Pod) *compile.Pod {
	a, ok := w.attachments[pod]
	if !ok {
		return shown
	}
	news := len(shown.Addrs) > 0 && !slices.Equal(shown.Addrs, a.shown)
	if news || shown.Ended || a.UID != "" && a.UID != shown.UID {
		delete(w.attachments, pod)
		return shown
	}
	a.shown = shown.Addrs
	w.attachments[pod] = a
	return withAddrs(shown, a.Addrs)
}

// withAddrs is a copy of the pod with other addresses.
func withAddrs(p *compile.Pod, addrs []netip.Addr) *compile.Pod {
	out := *p
	out.Addrs = addrs
	return &out
}
