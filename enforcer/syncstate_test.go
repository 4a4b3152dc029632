package enforcer

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tierwall/tierwall/policy/compile"
)

var webAddr = netip.MustParseAddr("10.1.0.5")

// startAwaiting waits for the pod of the world's state, beside the test.
func startAwaiting(t *testing.T, e *Enforcer, addrs ...netip.Addr) <-chan error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- e.Await(t.Context(), "prod", "web", addrs) }()
	return done
}

func assertStillWaiting(t *testing.T, what string, done <-chan error) {
	t.Helper()
	time.Sleep(burstTime)
	synctest.Wait()
	select {
	case err := <-done:
		t.Fatalf("%s: waits no longer: %v", what, err)
	default:
	}
}

func assertReturned(t *testing.T, what string, done <-chan error) {
	t.Helper()
	time.Sleep(burstTime) // the loop gathers
	synctest.Wait()
	select {
	case err := <-done:
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	default:
		t.Fatalf("%s: still waits", what)
	}
}

func TestAwaitWaitsForTheSyncAndForTheKernel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeCluster()
		w.failures = 3
		e := runEnforcer(t, w, false)
		done := startAwaiting(t, e, webAddr)
		assertStillWaiting(t, "before the sync", done)
		close(w.synced)
		assertStillWaiting(t, "the kernel said no", done)
		time.Sleep(8 * retryMin)
		assertReturned(t, "in force", done)
		assertReturned(t, "in force before", startAwaiting(t, e, webAddr))
	})
}

func TestAwaitWaitsForThePodToHaveTheAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeCluster()
		close(w.synced)
		e := runEnforcer(t, w, false)
		other := netip.MustParseAddr("fd00:1::9")
		done := startAwaiting(t, e, webAddr, other)
		time.Sleep(time.Minute)
		assertStillWaiting(t, "an address that no pod has", done)
		s := oneNodeCluster()
		s.Pods = append(s.Pods, &compile.Pod{Namespace: "prod", Name: "owner", Node: "n1", Addrs: []netip.Addr{other}})
		w.setSnapshot(s)
		assertStillWaiting(t, "an address that is another's", done)
		s = oneNodeCluster()
		s.Pods[0].Addrs = append(s.Pods[0].Addrs, other)
		w.setSnapshot(s)
		assertReturned(t, "the pod has it", done)
	})
}

// A pod that is gone may have had the same name and address: what was in force before
// the call does not count.
func TestAwaitLooksAtTheClusterAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeCluster()
		close(w.synced)
		e := runEnforcer(t, w, false)
		w.mu.Lock()
		w.snapshot = &compile.Snapshot{Nodes: []*compile.Node{testNode()}} // and nobody is told
		w.mu.Unlock()
		assertStillWaiting(t, "the pod is gone", startAwaiting(t, e, webAddr))
	})
}

func TestAwaitSaysWhatWasMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeCluster()
		close(w.synced)
		e := runEnforcer(t, w, false)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := e.Await(ctx, "prod", "stranger", []netip.Addr{webAddr})
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "belongs to pod prod/web") {
			t.Errorf("error %v", err)
		}
	})
}

func TestAwaitDoesNotTrustAKernelThatCannotBeCompared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeCluster()
		close(w.synced)
		e := runEnforcer(t, w, false)
		w.mu.Lock()
		w.repairErr, w.failures = errors.New("cannot read the kernel"), 1
		w.mu.Unlock()
		time.Sleep(repairEvery)
		synctest.Wait()
		done := startAwaiting(t, e, webAddr)
		assertStillWaiting(t, "not compared", done)
		time.Sleep(8 * retryMin)
		assertReturned(t, "applied again", done)
	})
}
