package admit

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/rego"
)

// isolatingPolicy is a policy that lets nothing into the pods of shop.
func isolatingPolicy(name string) *networkingv1.NetworkPolicy {
	p := networkPolicy()
	p.Name = name
	return p
}

// newGuardedHandler are the Policies of an open shop that two policies isolate, with the
// guardrail against taking default deny away.
func newGuardedHandler(t *testing.T) (*PolicyHandler, *fakeCluster) {
	t.Helper()
	w := newShopCluster()
	w.snapshot.Defaults.Action = policy.Allow
	w.snapshot.NetworkPolicies = []*networkingv1.NetworkPolicy{isolatingPolicy("a"), isolatingPolicy("b")}
	stays := &v1alpha1.Guardrail{ObjectMeta: metav1.ObjectMeta{Name: "default-deny-stays", UID: types.UID("1"), Generation: 1},
		Spec: v1alpha1.GuardrailSpec{Library: "default-deny-stays"}}
	return newPolicyHandler(w, newLoadedStore(t, stays)), w
}

func deletionRequest(name string) admission.Request {
	req := newRequest("DELETE", "NetworkPolicy", "shop", isolatingPolicy(name), nil)
	req.Name = name
	return req
}

// creationRequest is of a policy that changes nothing.
func creationRequest(name string) admission.Request {
	req := newRequest("CREATE", "NetworkPolicy", "shop", nil, isolatingPolicy(name))
	req.Name = name
	return req
}

// The second comes before the watch tells of the first.
func TestSecondOfTwoConcurrentDeletionsIsRefused(t *testing.T) {
	h, _ := newGuardedHandler(t)
	assertResponse(t, h.Handle(t.Context(), deletionRequest("a")), true, "")
	assertResponse(t, h.Handle(t.Context(), deletionRequest("b")), false, "takes default deny away")
	assertResponse(t, h.Handle(t.Context(), deletionRequest("a")), true, "") // the refusal was not remembered
}

func TestDryRunIsNotTracked(t *testing.T) {
	h, _ := newGuardedHandler(t)
	rehearsal, dry := deletionRequest("a"), true
	rehearsal.DryRun = &dry
	assertResponse(t, h.Handle(t.Context(), rehearsal), true, "")
	assertResponse(t, h.Handle(t.Context(), deletionRequest("b")), true, "")
	assertResponse(t, h.Handle(t.Context(), rehearsal), false, "takes default deny away")
}

// The API server ends a request after a minute; one that it refused after all is forgotten then.
func TestTrackedChangeExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, w := newGuardedHandler(t)
		assertResponse(t, h.Handle(t.Context(), deletionRequest("a")), true, "")
		time.Sleep(inflightLifetime + 1)
		assertResponse(t, h.Handle(t.Context(), deletionRequest("b")), true, "")
		// Now b is remembered, until the snapshot shows that it is gone.
		w.snapshot.NetworkPolicies = []*networkingv1.NetworkPolicy{isolatingPolicy("a"), isolatingPolicy("c")}
		assertResponse(t, h.Handle(t.Context(), deletionRequest("c")), true, "")
		if n := len(h.inflight.changes); n != 1 {
			t.Errorf("%d changes are remembered, want the last one alone", n)
		}
	})
}

// Two that are judged at the same time: the later one knows of the earlier.
func TestChangeUnderReviewIsInFlight(t *testing.T) {
	h, w := newGuardedHandler(t)
	inside := h.Guardrails
	h.Guardrails = judgeFunc(func(ctx context.Context, in rego.Input) (rego.Result, error) {
		if in.Request.Name == "a" {
			assertResponse(t, h.Handle(ctx, deletionRequest("b")), false, "takes default deny away")
		}
		return inside.Judge(ctx, in)
	})
	assertResponse(t, h.Handle(t.Context(), deletionRequest("a")), true, "")
	// A creation that isolates is no help before it is sure: both states count.
	w.snapshot.NetworkPolicies = w.snapshot.NetworkPolicies[1:]
	assertResponse(t, h.Handle(t.Context(), creationRequest("c")), true, "")
	assertResponse(t, h.Handle(t.Context(), deletionRequest("b")), false, "takes default deny away")
}

// Each of them is admitted here and refused by the API server afterwards, so that the last policy that isolates
// has only changes beside it that do not happen.
func TestChangeRefusedLaterDoesNotIsolate(t *testing.T) {
	for name, refusedLater := range map[string]func(w *fakeCluster) admission.Request{
		"a CREATE of a name that is taken": func(*fakeCluster) admission.Request { return creationRequest("b") },
		"a CREATE that exceeds a quota":    func(*fakeCluster) admission.Request { return creationRequest("new") },
		"an UPDATE that conflicts": func(w *fakeCluster) admission.Request {
			other := isolatingPolicy("other")
			other.Spec.PodSelector.MatchLabels = labels{"app": "other"}
			w.snapshot.NetworkPolicies = append(w.snapshot.NetworkPolicies, other)
			req := newRequest("UPDATE", "NetworkPolicy", "shop", other, isolatingPolicy("other"))
			req.Name = "other"
			return req
		},
	} {
		t.Run(name, func(t *testing.T) {
			h, w := newGuardedHandler(t)
			for range 3 {
				assertResponse(t, h.Handle(t.Context(), refusedLater(w)), true, "")
			}
			assertResponse(t, h.Handle(t.Context(), deletionRequest("a")), true, "")
			assertResponse(t, h.Handle(t.Context(), deletionRequest("b")), false, "takes default deny away")
		})
	}
}

func TestTerminatingPolicyDoesNotIsolate(t *testing.T) {
	for name, second := range map[string]func(*networkingv1.NetworkPolicy) admission.Request{
		"the other one is deleted": func(*networkingv1.NetworkPolicy) admission.Request { return deletionRequest("a") },
		"the other one selects nothing any more": func(*networkingv1.NetworkPolicy) admission.Request {
			other := isolatingPolicy("a")
			other.Spec.PodSelector.MatchLabels = labels{"app": "none"}
			return newRequest("UPDATE", "NetworkPolicy", "shop", isolatingPolicy("a"), other)
		},
	} {
		t.Run(name, func(t *testing.T) {
			h, w := newGuardedHandler(t)
			going := terminatingPolicy("b", "example.com/keep")
			w.snapshot.NetworkPolicies[1] = going
			got := h.Handle(t.Context(), second(going))
			assertResponse(t, got, false, "takes default deny away")
			assertResponse(t, got, false, "if NetworkPolicy shop/b, which is being deleted, is gone")
		})
	}
}

func terminatingPolicy(name string, finalizers ...string) *networkingv1.NetworkPolicy {
	p, now := isolatingPolicy(name), metav1.Now()
	p.DeletionTimestamp, p.Finalizers = &now, finalizers
	return p
}

// An UPDATE that takes away the last finalizer of a terminating policy is what deletes it.
func TestRemovingLastFinalizerIsJudgedAsDeletion(t *testing.T) {
	h, w := newGuardedHandler(t)
	one, two, none := terminatingPolicy("b", "x/keep"), terminatingPolicy("b", "x/keep", "y/keep"), terminatingPolicy("b")
	for _, c := range []struct {
		name       string
		old, now   *networkingv1.NetworkPolicy
		protection []*networkingv1.NetworkPolicy
		allowed    bool
	}{
		{"another one isolates", one, none, []*networkingv1.NetworkPolicy{isolatingPolicy("a")}, true},
		{"no other one isolates", one, none, nil, false},
		{"the other one is terminating", one, none, []*networkingv1.NetworkPolicy{terminatingPolicy("a", "x/keep")}, false},
		{"all finalizers go at once", two, none, nil, false},
		{"one of two finalizers goes", two, one, nil, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.snapshot.NetworkPolicies = append([]*networkingv1.NetworkPolicy{c.old}, c.protection...)
			h.inflight = inflightChanges{}
			message := ""
			if !c.allowed {
				message = "takes default deny away"
			}
			assertResponse(t, h.Handle(t.Context(), newRequest("UPDATE", "NetworkPolicy", "shop", c.old, c.now)), c.allowed, message)
		})
	}
}

// A guardrail that is about deletions alone is asked about one by finalizers as well.
func TestGuardrailInputOfFinalizerRemovalIsDelete(t *testing.T) {
	h, _ := newGuardedHandler(t)
	h.Guardrails = judgeFunc(func(_ context.Context, in rego.Input) (rego.Result, error) {
		if in.Request.Operation != "DELETE" || len(in.Object) != 0 || len(in.OldObject) == 0 {
			t.Errorf("operation %s with the object %s", in.Request.Operation, in.Object)
		}
		return rego.Result{}, nil
	})
	assertResponse(t, h.Handle(t.Context(), newRequest("UPDATE", "NetworkPolicy", "shop", terminatingPolicy("b", "x/keep"), terminatingPolicy("b"))), true, "")
}

// Namespace going is terminating: its policies stay as long as there are pods that they are for.
func TestPolicyOfTerminatingNamespaceIsDeletedAfterPods(t *testing.T) {
	h, w := newGuardedHandler(t)
	w.snapshot.Namespaces = append(w.snapshot.Namespaces, &compile.Namespace{Name: "going"})
	last := isolatingPolicy("last")
	last.Namespace = "going"
	w.snapshot.NetworkPolicies = []*networkingv1.NetworkPolicy{last}
	pod := &compile.Pod{Namespace: "going", Name: "p"}
	w.snapshot.Pods = append(w.snapshot.Pods, pod)
	req := newRequest("DELETE", "NetworkPolicy", "going", last, nil)
	assertResponse(t, h.Handle(t.Context(), req), false, "takes default deny away")
	pod.Ended = true
	assertResponse(t, h.Handle(t.Context(), req), true, "")
}

// Of changes that are admitted here and refused elsewhere, such as by a quota, any number may come.
func TestTrackedChangesAreBounded(t *testing.T) {
	h, _ := newGuardedHandler(t)
	h.Guardrails = judgeFunc(func(context.Context, rego.Input) (rego.Result, error) { return rego.Result{}, nil })
	remembers := func(want int) {
		t.Helper()
		if got := len(h.inflight.changes); got != want {
			t.Errorf("%d changes are remembered, want %d", got, want)
		}
	}
	for range 20 {
		assertResponse(t, h.Handle(t.Context(), creationRequest("x")), true, "")
	}
	remembers(1)
	for i := range maxInflight - 1 {
		assertResponse(t, h.Handle(t.Context(), creationRequest(fmt.Sprint(i))), true, "")
	}
	assertResponse(t, h.Handle(t.Context(), creationRequest("one too many")), false, "too many changes of this namespace are in flight")
	remembers(maxInflight)
	elsewhere := isolatingPolicy("z")
	elsewhere.Namespace = "test"
	assertResponse(t, h.Handle(t.Context(), newRequest("CREATE", "NetworkPolicy", "test", nil, elsewhere)), true, "")
}

// A deletion is forgotten when the snapshot shows it, which one that is older than the object does not.
func TestStaleSnapshotDoesNotSettleDeletion(t *testing.T) {
	h, w := newGuardedHandler(t)
	w.snapshot.NetworkPolicies = []*networkingv1.NetworkPolicy{isolatingPolicy("b")} // a is there, and not known yet
	assertResponse(t, h.Handle(t.Context(), deletionRequest("a")), true, "")
	w.snapshot.NetworkPolicies = []*networkingv1.NetworkPolicy{isolatingPolicy("a"), isolatingPolicy("b")}
	assertResponse(t, h.Handle(t.Context(), deletionRequest("b")), false, "takes default deny away")
	w.snapshot.NetworkPolicies = []*networkingv1.NetworkPolicy{isolatingPolicy("b"), isolatingPolicy("c")}
	assertResponse(t, h.Handle(t.Context(), deletionRequest("b")), true, "")
}
