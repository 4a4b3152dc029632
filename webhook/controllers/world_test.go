package controllers

import (
	"log/slog"
	"testing"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/cache/informertest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/tierwall/tierwall/clustercache"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/webhook/guardrails"
)

// world is a cluster as the loop sees it.
type world struct {
	snapshot compile.Snapshot
	next     func() <-chan struct{}
}

func (w *world) Snapshot() *compile.Snapshot { return &w.snapshot }

func (w *world) Synced() bool { return true }

func (w *world) Next() <-chan struct{} { return w.next() }

func (w *world) State(types.UID) (guardrails.GuardrailState, bool) {
	return guardrails.GuardrailState{}, false
}

// loop is a Loop on the world and on an API server in memory that holds the objects.
func loop(t *testing.T, w *world, calls interceptor.Funcs, objects ...client.Object) (*Reconciler, *events.FakeRecorder) {
	t.Helper()
	recorder := events.NewFakeRecorder(100)
	c := fake.NewClientBuilder().WithScheme(clustercache.Scheme()).WithInterceptorFuncs(calls).
		WithStatusSubresource(&policyv1alpha2.ClusterNetworkPolicy{}).WithObjects(objects...).Build()
	return &Reconciler{Snapshots: w, States: w, Cache: &informertest.FakeInformers{Scheme: clustercache.Scheme()}, Client: c,
		Recorder: recorder, Log: slog.New(slog.DiscardHandler)}, recorder
}
