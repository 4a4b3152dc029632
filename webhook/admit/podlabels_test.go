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

func podLabels(t *testing.T, w *world) *PodLabelHandler {
	return &PodLabelHandler{Reviewer: reviewer(w, newLoadedStore(t)), Decoder: decoder}
}

func TestPodLabelsOfRunningPods(t *testing.T) {
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
			h := podLabels(t, shop())
			got := h.Handle(t.Context(), request("UPDATE", "Pod", "shop", pod(c.account, c.before), pod(c.account, c.after)))
			answers(t, got, c.allowed, c.message)
		})
	}
}

func TestPodLabelsOfNewPods(t *testing.T) {
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
			h := podLabels(t, shop())
			answers(t, h.Handle(t.Context(), request("CREATE", "Pod", "shop", nil, pod("web", c.labels))), c.allowed, "")
		})
	}
}

// A replica may hear of a TierRole a moment after the one that wrote the label.
func TestPodLabelsOfNewPodsWaitForNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &watched{snapshot: &compile.Snapshot{}, changed: make(chan struct{})}
		follower := snapshot.NewSnapshotBroadcaster(w)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- follower.Start(ctx) }()
		answer := make(chan admission.Response)
		create := func() {
			h := &PodLabelHandler{Reviewer: &Reviewer{Snapshots: follower}, Decoder: decoder}
			answer <- h.Handle(t.Context(), request("CREATE", "Pod", "shop", nil, pod("web", labels{role: "frontend"})))
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
		w.change(shop().Snapshot())
		answers(t, <-answer, true, "")

		w.change(&compile.Snapshot{})
		synctest.Wait()
		w.looks.Store(0)
		start := time.Now()
		go create()
		answers(t, <-answer, false, "is computed")
		if looks, took := w.looks.Load(), time.Since(start); looks != 2 || took != roleNewsTimeout {
			t.Errorf("without news: looked %d times in %v, want 2 in %v", looks, took, roleNewsTimeout)
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// watched is a Source that counts how often it is looked at.
type watched struct {
	mu       sync.Mutex
	snapshot *compile.Snapshot
	changed  chan struct{}
	looks    atomic.Int32
}

func (w *watched) Snapshot() *compile.Snapshot {
	w.looks.Add(1)
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.snapshot
}

func (w *watched) Synced() bool { return true }

func (w *watched) Changed() <-chan struct{} { return w.changed }

func (w *watched) change(to *compile.Snapshot) {
	w.mu.Lock()
	w.snapshot = to
	w.mu.Unlock()
	w.changed <- struct{}{}
}

func TestPodLabelsOfBindings(t *testing.T) {
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
				req := request("CREATE", "Binding", "shop", nil, &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: c.pod, Labels: c.labels}})
				if older {
					req.Resource.Resource = "bindings"
				} else {
					req.Resource.Resource, req.SubResource, req.Name = "pods", "binding", c.pod
				}
				answers(t, podLabels(t, shop()).Handle(t.Context(), req), c.allowed, c.message)
			})
		}
	}
}

func TestPodLabelsWhileTheClusterIsUnknown(t *testing.T) {
	w := shop()
	w.unsynced = true
	h := podLabels(t, w)
	p := pod("web", labels{role: "data"})
	answers(t, h.Handle(t.Context(), request("CREATE", "Pod", "shop", nil, p)), true, "")
	answers(t, h.Handle(t.Context(), request("UPDATE", "Pod", "shop", p, p)), false, "does not know the whole cluster yet")
}
