package enforcer

import (
	"context"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/tierwall/tierwall/policy/compile"
)

// An API server that is away tells of nothing. What is in force stays in force, and is still mended.
func TestAnHourWithoutTheAPIServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeCluster()
		close(w.synced)
		e := runEnforcer(t, w, false)
		for range 60 {
			time.Sleep(time.Minute)
			w.mu.Lock()
			w.damaged = true
			w.mu.Unlock()
		}
		time.Sleep(repairEvery)
		synctest.Wait()
		w.mu.Lock()
		damaged := w.damaged
		w.mu.Unlock()
		if got := w.appliedPrograms(); len(got) != 1 || damaged || !e.InForce() || e.Stuck() != 0 {
			t.Errorf("%d programs, damaged %v, in force %v, stuck %v", len(got), damaged, e.InForce(), e.Stuck())
		}
		w.setSnapshot(withPods(1))
		time.Sleep(burstTime)
		synctest.Wait()
		if got := w.appliedPrograms(); len(got) != 2 || !e.InForce() {
			t.Errorf("once it is back: %d programs, in force %v", len(got), e.InForce())
		}
	})
}

// A kernel that always says no is asked again for ever, ever less often, and what the cluster asks
// for last is what comes in force in the end.
func TestAnHourOfAKernelThatSaysNo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeCluster()
		close(w.synced)
		e := runEnforcer(t, w, false)
		const many = 1 << 20
		w.mu.Lock()
		w.failures = many
		w.mu.Unlock()
		w.setSnapshot(withPods(1))
		time.Sleep(time.Hour)
		w.setSnapshot(withPods(2))
		time.Sleep(burstTime)
		synctest.Wait()
		w.mu.Lock()
		asked := many - w.failures
		w.failures = 0
		w.mu.Unlock()
		if most := int(time.Hour/retryMax) + 20; e.InForce() || e.Stuck() != 0 || asked < most/2 || asked > most {
			t.Errorf("in force %v, stuck %v, asked %d times, want %d at most", e.InForce(), e.Stuck(), asked, most)
		}
		time.Sleep(retryMax)
		synctest.Wait()
		if got := w.appliedPrograms(); len(got) != 2 || len(got[1].Endpoints) != 3 || !e.InForce() {
			t.Errorf("once it says yes: %d programs, in force %v", len(got), e.InForce())
		}
	})
}

// The loop's turns are timed by a clock that does not step (package time, "Monotonic Clocks").
func TestAClockThatStepsMakesNoLoopStuck(t *testing.T) {
	w := newFakeCluster()
	close(w.synced)
	e := &Enforcer{Node: "n1", Source: w, Backend: w, Log: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.Start(ctx) }()
	if err := e.Await(ctx, "prod", "web", []netip.Addr{webAddr}); err != nil {
		t.Error(err)
	}
	if last := e.lastTurn.Load().String(); !strings.Contains(last, "m=") { // Time.String shows a monotonic reading
		t.Errorf("the last turn, %v, was read from the clock on the wall", last)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Start: %v", err)
	}
}

func TestABadPolicyStallsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeCluster()
		close(w.synced)
		e := runEnforcer(t, w, false)
		s := withPods(1)
		port := intstr.FromInt32(-1)
		s.NetworkPolicies = []*networkingv1.NetworkPolicy{{
			ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: "bad"},
			Spec: networkingv1.NetworkPolicySpec{
				PodSelector: metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: " ", Operator: "Near"}}},
				PolicyTypes: []networkingv1.PolicyType{"Sideways"},
				Ingress:     []networkingv1.NetworkPolicyIngressRule{{Ports: []networkingv1.NetworkPolicyPort{{Port: &port}}}},
			}}}
		s.Pods = append(s.Pods, &compile.Pod{Namespace: "other", Name: "other", Node: "n1"})
		w.setSnapshot(s)
		synctest.Wait()
		if got := w.appliedPrograms(); len(got) != 2 || len(got[1].Endpoints) != 2 || !e.InForce() || len(e.problems.reported) == 0 {
			t.Errorf("%d programs, in force %v, %d problems reported", len(got), e.InForce(), len(e.problems.reported))
		}
	})
}
