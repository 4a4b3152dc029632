package webhook

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
	"github.com/tierwall/tierwall/rego"
)

// isolating is a policy that lets nothing into the pods of shop.
func isolating(name string) *networkingv1.NetworkPolicy {
	p := networkPolicy()
	p.Name = name
	return p
}

// guarded are the Policies of an open shop that two policies isolate, with the
// guardrail against taking default deny away.
func guarded(t *testing.T) (*Policies, *world) {
	t.Helper()
	w := shop()
	w.snapshot.Defaults.Action = policy.Allow
	w.snapshot.NetworkPolicies = []*networkingv1.NetworkPolicy{isolating("a"), isolating("b")}
	stays := &v1alpha1.Guardrail{ObjectMeta: metav1.ObjectMeta{Name: "default-deny-stays", UID: types.UID("1"), Generation: 1},
		Spec: v1alpha1.GuardrailSpec{Library: "default-deny-stays"}}
	return policies(w, engine(t, stays)), w
}

func deletion(name string) admission.Request {
	req := request("DELETE", "NetworkPolicy", "shop", isolating(name), nil)
	req.Name = name
	return req
}

// creation is of a policy that changes nothing.
func creation(name string) admission.Request {
	req := request("CREATE", "NetworkPolicy", "shop", nil, isolating(name))
	req.Name = name
	return req
}

// The second comes before the watch tells of the first.
func TestWhatTwoDeletionsOpenTogetherIsRefused(t *testing.T) {
	h, _ := guarded(t)
	answers(t, h.Handle(t.Context(), deletion("a")), true, "")
	answers(t, h.Handle(t.Context(), deletion("b")), false, "takes default deny away")
	answers(t, h.Handle(t.Context(), deletion("a")), true, "") // the refusal was not remembered
}

func TestChangesThatDidNotHappenAreNotRemembered(t *testing.T) {
	h, _ := guarded(t)
	rehearsal, dry := deletion("a"), true
	rehearsal.DryRun = &dry
	answers(t, h.Handle(t.Context(), rehearsal), true, "")
	answers(t, h.Handle(t.Context(), deletion("b")), true, "")
	answers(t, h.Handle(t.Context(), rehearsal), false, "takes default deny away")
}

// One that something else refused after all is forgotten in a while.
func TestChangesAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, w := guarded(t)
		answers(t, h.Handle(t.Context(), deletion("a")), true, "")
		time.Sleep(recall + 1)
		answers(t, h.Handle(t.Context(), deletion("b")), true, "")
		// Now b is remembered, until the snapshot shows that it is gone.
		w.snapshot.NetworkPolicies = []*networkingv1.NetworkPolicy{isolating("a"), isolating("c")}
		answers(t, h.Handle(t.Context(), deletion("c")), true, "")
		if n := len(h.recent.changes); n != 1 {
			t.Errorf("%d changes are remembered, want the last one alone", n)
		}
	})
}

// Two that are judged at the same time: the later one knows of the earlier.
func TestChangesAreRememberedWhileTheyAreJudged(t *testing.T) {
	h, w := guarded(t)
	inside := h.Guardrails
	h.Guardrails = judgeFunc(func(ctx context.Context, in rego.Input) (rego.Result, error) {
		if in.Request.Name == "a" {
			answers(t, h.Handle(ctx, deletion("b")), false, "takes default deny away")
		}
		return inside.Judge(ctx, in)
	})
	answers(t, h.Handle(t.Context(), deletion("a")), true, "")
	// A creation that isolates is no help before it is sure: both states count.
	w.snapshot.NetworkPolicies = w.snapshot.NetworkPolicies[1:]
	answers(t, h.Handle(t.Context(), creation("c")), true, "")
	answers(t, h.Handle(t.Context(), deletion("b")), false, "takes default deny away")
}

// Of changes that are let go here and refused elsewhere, such as by a quota, any
// number may come.
func TestWhatIsRememberedIsBounded(t *testing.T) {
	h, _ := guarded(t)
	h.Guardrails = judgeFunc(func(context.Context, rego.Input) (rego.Result, error) { return rego.Result{}, nil })
	remembers := func(want int) {
		t.Helper()
		if got := len(h.recent.changes); got != want {
			t.Errorf("%d changes are remembered, want %d", got, want)
		}
	}
	for range 20 {
		answers(t, h.Handle(t.Context(), creation("x")), true, "")
	}
	remembers(1)
	for i := range maxRemembered + 5 {
		answers(t, h.Handle(t.Context(), creation(fmt.Sprint(i))), true, "")
	}
	remembers(maxRemembered)
}
