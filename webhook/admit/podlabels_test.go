package admit

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/webhook/snapshot"
)

func newPodLabelHandler(t *testing.T, w *fakeCluster) *PodLabelHandler {
	return &PodLabelHandler{Reviewer: newReviewer(w, newLoadedStore(t)), Decoder: decoder}
}

func TestLabelChangeOfRunningPod(t *testing.T) {
	for _, c := range []struct {
		name, account string
		before, after labels
		allowed       bool
		message       string
	}{
		{"nothing about roles", "web", labels{role: "frontend"}, labels{role: "frontend", "a": "b"}, true, ""},
		{"repair of a missing label", "web", nil, labels{role: "frontend"}, true, ""},
		{"repair of a forged label", "web", labels{role: "data"}, labels{role: "frontend"}, true, ""},
		{"repair of a label without a role", "default", labels{role: "data"}, nil, true, ""},
		{"forged", "web", labels{role: "frontend"}, labels{role: "data"}, false, `cannot be set to "data"`},
		{"forged without a role", "default", nil, labels{role: "data"}, false, "the pod has no role"},
		{"emptied", "web", labels{role: "frontend"}, labels{role: ""}, false, `cannot be set to ""`},
		{"empty without a role", "default", nil, labels{role: ""}, false, `cannot be set to ""`},
		{"removed", "web", labels{role: "frontend"}, nil, false, "cannot be removed"},
		{"forged already, another label changes", "web", labels{role: "data"}, labels{role: "data", "a": "b"}, true, ""},
		{"into the data tier", "default", nil, labels{"app": "db"}, false, "label app of a running pod cannot change: it would move the pod from no role to role data (TierRole shop-db)"},
		{"into the data tier with its label", "default", nil, labels{"app": "db", role: "data"}, false, "would move the pod"},
		{"out of the data tier", "default", labels{"app": "db", role: "data"}, labels{"app": "x", role: "data"}, false, "from role data (TierRole shop-db) to no role"},
		{"the label means nothing to this account", "web", labels{role: "frontend"}, labels{role: "frontend", "app": "db"}, true, ""},
		{"between two TierRoles of one role", "postgres", labels{role: "data"}, labels{role: "data", "app": "db"}, true, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newPodLabelHandler(t, newShopCluster())
			got := h.Handle(t.Context(), newRequest("UPDATE", "Pod", "shop", newPod(c.account, c.before), newPod(c.account, c.after)))
			assertResponse(t, got, c.allowed, c.message)
		})
	}
}

func TestRoleLabelOfNewPodIsChecked(t *testing.T) {
	for _, c := range []struct {
		name    string
		labels  labels
		allowed bool
	}{
		{"true", labels{role: "frontend"}, true},
		{"missing", nil, true},
		{"forged after RoleLabel ran", labels{role: "data"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newPodLabelHandler(t, newShopCluster())
			assertResponse(t, h.Handle(t.Context(), newRequest("CREATE", "Pod", "shop", nil, newPod("web", c.labels))), c.allowed, "")
		})
	}
}

// A replica may hear of a TierRole a moment after the one that wrote the label.
func TestRoleLabelCheckWaitsForTierRole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &notifyingSource{snapshot: &compile.Snapshot{}, changed: make(chan struct{})}
		follower := snapshot.NewSnapshotBroadcaster(w)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- follower.Start(ctx) }()
		answer := make(chan admission.Response)
		create := func() {
			h := &PodLabelHandler{Reviewer: &Reviewer{Snapshots: follower}, Decoder: decoder}
			answer <- h.Handle(t.Context(), newRequest("CREATE", "Pod", "shop", nil, newPod("web", labels{role: "frontend"})))
		}
		go create()
		synctest.Wait()
		for range 2 { // the first news is about something else
			time.Sleep(roleNewsTimeout / 3)
			w.change(&compile.Snapshot{})
		}
		synctest.Wait()
		if looks := w.looks.Load(); looks != 4 { // one to begin, one at first, and one at each news
			t.Errorf("looked %d times, want 4", looks)
		}
		w.change(newShopCluster().Snapshot())
		assertResponse(t, <-answer, true, "")

		w.change(&compile.Snapshot{})
		synctest.Wait()
		w.looks.Store(0)
		start := time.Now()
		go create()
		assertResponse(t, <-answer, false, "is computed")
		if looks, took := w.looks.Load(), time.Since(start); looks != 2 || took != roleNewsTimeout {
			t.Errorf("without news: looked %d times in %v, want 2 in %v", looks, took, roleNewsTimeout)
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// notifyingSource is a Source that counts how often it is looked at.
type notifyingSource struct {
	mu       sync.Mutex
	snapshot *compile.Snapshot
	changed  chan struct{}
	looks    atomic.Int32
}

func (w *notifyingSource) Snapshot() *compile.Snapshot {
	w.looks.Add(1)
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.snapshot
}

func (w *notifyingSource) Synced() bool { return true }

func (w *notifyingSource) Changed() <-chan struct{} { return w.changed }

func (w *notifyingSource) change(to *compile.Snapshot) {
	w.mu.Lock()
	w.snapshot = to
	w.mu.Unlock()
	w.changed <- struct{}{}
}

func TestLabelsOfBindingAreReviewed(t *testing.T) {
	for _, c := range []struct {
		name, pod string
		labels    labels
		allowed   bool
		message   string
	}{
		{"without labels", "plain", nil, true, ""},
		{"labels of the place", "plain", labels{"topology.kubernetes.io/zone": "a"}, true, ""},
		{"forged role", "plain", labels{role: "data"}, false, "cannot be set"},
		{"into the data tier", "plain", labels{"app": "db"}, false, "would move the pod"},
		{"app=db on a pod whose account decides", "db-0", labels{"app": "db"}, true, ""},
		{"unknown pod", "new", labels{"a": "b"}, false, "is not known yet"},
	} {
		for _, older := range []bool{false, true} {
			t.Run(c.name, func(t *testing.T) {
				req := newRequest("CREATE", "Binding", "shop", nil, &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: c.pod, Labels: c.labels}})
				if older {
					req.Resource.Resource = "bindings"
				} else {
					req.Resource.Resource, req.SubResource, req.Name = "pods", "binding", c.pod
				}
				assertResponse(t, newPodLabelHandler(t, newShopCluster()).Handle(t.Context(), req), c.allowed, c.message)
			})
		}
	}
}

func TestPodLabelsBeforeSync(t *testing.T) {
	w := newShopCluster()
	w.unsynced = true
	h := newPodLabelHandler(t, w)
	p := newPod("web", labels{role: "data"})
	assertResponse(t, h.Handle(t.Context(), newRequest("CREATE", "Pod", "shop", nil, p)), true, "")
	assertResponse(t, h.Handle(t.Context(), newRequest("UPDATE", "Pod", "shop", p, p)), false, "does not know the whole cluster yet")
}
