package clustercache

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

var (
	webKey = types.NamespacedName{Namespace: "prod", Name: "web"}
	first  = netip.MustParseAddr("10.0.0.1")
	second = netip.MustParseAddr("10.0.0.2")
	sixth  = netip.MustParseAddr("fd00::6")
)

// starting is a pod that is bound to a node and has no addresses yet.
func starting() *corev1.Pod {
	p := web()
	p.Spec.HostNetwork, p.Status.PodIPs = false, nil
	return p
}

// at is an attachment of the pod.
func at(container string, addrs ...netip.Addr) Attachment {
	return Attachment{Pod: webKey, UID: "u", Container: container, Addrs: addrs}
}

// attachNow tries for a moment to attach.
func attachNow(t *testing.T, w *Watcher, a Attachment) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	return w.Attach(ctx, "n1", a)
}

// seenWith are the addresses that readers see the pod with.
func seenWith(w *Watcher) []netip.Addr {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p := w.kinds.pods.objects[webKey]; p != nil {
		return p.Addrs
	}
	return nil
}

func wantSeen(t *testing.T, w *Watcher, what string, want ...netip.Addr) {
	t.Helper()
	if got := seenWith(w); !slices.Equal(got, want) {
		t.Errorf("%s: seen with %v, want %v", what, got, want)
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestAttachedPodIsSeenBeforeTheAPIServerShowsItsAddresses(t *testing.T) {
	w := unstarted()
	w.Take()
	ok(t, w.kinds.pods.Add(starting()))
	w.Take()
	ok(t, attachNow(t, w, at("c1", sixth, first)))
	if !newsOf(w) || w.Take().Pods[webKey] == nil {
		t.Error("nobody is told")
	}
	wantSeen(t, w, "attached", first, sixth)

	touched := starting()
	touched.Labels = map[string]string{"app": "other"}
	ok(t, w.kinds.pods.Update(touched))
	wantSeen(t, w, "changed otherwise", first, sixth)
	ok(t, w.kinds.pods.Replace([]any{starting()}, ""))
	wantSeen(t, w, "listed anew", first, sixth)

	shown := starting()
	shown.Status.PodIPs = []corev1.PodIP{{IP: second.String()}}
	ok(t, w.kinds.pods.Update(shown))
	wantSeen(t, w, "shown with an address", second)
	ok(t, w.kinds.pods.Update(starting()))
	wantSeen(t, w, "its sandbox died")
}

func TestDetachedPodHasWhatTheAPIServerShows(t *testing.T) {
	w := unstarted()
	ok(t, w.kinds.pods.Add(starting()))
	ok(t, attachNow(t, w, at("c1", first)))
	ok(t, attachNow(t, w, at("c2", second)))
	w.Detach(webKey, "c1")
	wantSeen(t, w, "an earlier container of it is gone", second)
	w.Detach(webKey, "c2")
	wantSeen(t, w, "its container is gone")
	w.Detach(webKey, "c2")

	ok(t, attachNow(t, w, at("c3", first)))
	w.DetachAll(func(a Attachment) bool { return a.Container != "c3" })
	wantSeen(t, w, "others are collected", first)
	ok(t, w.kinds.pods.Delete(starting()))
	ok(t, w.kinds.pods.Add(starting()))
	wantSeen(t, w, "deleted and made anew")
}

// What is said of a pod counts only where the API server shows that pod here.
func TestAttachmentsThatAreNotBelieved(t *testing.T) {
	ended, elsewhere, recreated, host := starting(), starting(), starting(), starting()
	ended.Status.Phase = corev1.PodFailed
	elsewhere.Spec.NodeName = "n2"
	recreated.UID = "another"
	host.Spec.HostNetwork = true
	for _, c := range []struct {
		what  string
		shown *corev1.Pod
		said  Attachment
		why   string
	}{
		{"no such pod", nil, at("c", first), "does not show pod prod/web"},
		{"the pod before it", recreated, at("c", first), "with UID"},
		{"a pod of another node", elsewhere, at("c", first), `on "n2"`},
		{"a pod that ended", ended, at("c", first), "has ended"},
		{"a pod on the host network", host, at("c", first), "host network"},
		{"no address", starting(), at("c"), "no address"},
		{"loopback", starting(), at("c", netip.MustParseAddr("127.0.0.1")), "cannot be"},
		{"every address", starting(), at("c", netip.IPv6Unspecified()), "cannot be"},
		{"mapped", starting(), at("c", netip.MustParseAddr("::ffff:10.0.0.1")), "cannot be"},
		{"no address at all", starting(), at("c", netip.Addr{}), "cannot be"},
		{"two of a family", starting(), at("c", first, second), "more than one"},
		{"three", starting(), at("c", first, sixth, second), "more than one"},
	} {
		t.Run(c.what, func(t *testing.T) {
			w := unstarted()
			if c.shown != nil {
				ok(t, w.kinds.pods.Add(c.shown))
			}
			before := seenWith(w)
			if err := attachNow(t, w, c.said); err == nil || !strings.Contains(err.Error(), c.why) {
				t.Errorf("error %v, want one that says %q", err, c.why)
			}
			wantSeen(t, w, "after it", before...)
		})
	}
}

func TestAttachmentWaitsForThePod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := unstarted()
		done := make(chan error, 1)
		go func() { done <- w.Attach(t.Context(), "n1", at("c", first)) }()
		time.Sleep(time.Second)
		select {
		case err := <-done:
			t.Fatalf("attached to a pod that is not shown: %v", err)
		default:
		}
		ok(t, w.kinds.pods.Add(starting()))
		ok(t, <-done)
		wantSeen(t, w, "attached", first)
	})
}

// The API server goes on showing the addresses of a sandbox that died until the next one is reported.
func TestNewSandboxOfAPodIsBelievedOverItsOldAddresses(t *testing.T) {
	w := unstarted()
	shown := func(ips ...netip.Addr) *corev1.Pod {
		p := starting()
		for _, ip := range ips {
			p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: ip.String()})
		}
		return p
	}
	ok(t, w.kinds.pods.Add(shown(first)))
	ok(t, attachNow(t, w, at("c1", second)))
	wantSeen(t, w, "attached", second)
	touched := shown(first)
	touched.Labels = map[string]string{"app": "other"}
	ok(t, w.kinds.pods.Update(touched))
	wantSeen(t, w, "still shown with the old address", second)
	w.Detach(webKey, "c1")
	wantSeen(t, w, "the sandbox failed", first)
	ok(t, attachNow(t, w, at("c2", sixth)))
	ok(t, attachNow(t, w, at("c3", second)))
	wantSeen(t, w, "another", second)
	ok(t, w.kinds.pods.Update(shown(second)))
	ok(t, w.kinds.pods.Update(shown(first)))
	wantSeen(t, w, "the new one was reported, and then another", first)
}

func TestAttachmentThatTheAPIServerShowsAlready(t *testing.T) {
	w := unstarted()
	shown := starting()
	shown.Status.PodIPs = []corev1.PodIP{{IP: first.String()}}
	ok(t, w.kinds.pods.Add(shown))
	ok(t, attachNow(t, w, at("c", first)))
	w.Detach(webKey, "c")
	wantSeen(t, w, "detached", first)
}

func TestAttachEndsWithItsContext(t *testing.T) {
	w := unstarted()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.Attach(ctx, "n1", at("c", first)); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that of the context", err)
	}
}

func TestStaticPodHasTheUIDThatItsKubeletKnows(t *testing.T) {
	p := web()
	p.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "of-the-file"}
	if got := Pod(p).UID; got != "of-the-file" {
		t.Errorf("UID %q, want that of the annotation", got)
	}
}
