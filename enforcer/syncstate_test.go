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

// awaiting waits for the pod of the world's state, beside the test.
func awaiting(t *testing.T, e *Enforcer, addrs ...netip.Addr) <-chan error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- e.Await(t.Context(), "prod", "web", addrs) }()
	return done
}

func stillWaits(t *testing.T, what string, done <-chan error) {
	t.Helper()
	time.Sleep(burst)
	synctest.Wait()
	select {
	case err := <-done:
		t.Fatalf("%s: waits no longer: %v", what, err)
	default:
	}
}

func returned(t *testing.T, what string, done <-chan error) {
	t.Helper()
	time.Sleep(burst) // the loop gathers
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
		w := newWorld()
		w.failures = 3
		e := run(t, w, false)
		done := awaiting(t, e, webAddr)
		stillWaits(t, "before the sync", done)
		close(w.synced)
		stillWaits(t, "the kernel said no", done)
		time.Sleep(8 * retryMin)
		returned(t, "in force", done)
		returned(t, "in force before", awaiting(t, e, webAddr))
	})
}

func TestAwaitWaitsForThePodToHaveTheAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		close(w.synced)
		e := run(t, w, false)
		other := netip.MustParseAddr("fd00:1::9")
		done := awaiting(t, e, webAddr, other)
		time.Sleep(time.Minute)
		stillWaits(t, "an address that is nobody's", done)
		s := state()
		s.Pods = append(s.Pods, &compile.Pod{Namespace: "prod", Name: "owner", Node: "n1", Addrs: []netip.Addr{other}})
		w.set(s)
		stillWaits(t, "an address that is another's", done)
		s = state()
		s.Pods[0].Addrs = append(s.Pods[0].Addrs, other)
		w.set(s)
		returned(t, "the pod has it", done)
	})
}

// A pod that is gone may have had the same name and address: what was in force before
// the call does not count.
func TestAwaitLooksAtTheClusterAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		close(w.synced)
		e := run(t, w, false)
		w.mu.Lock()
		w.snapshot = &compile.Snapshot{Nodes: []*compile.Node{node()}} // and nobody is told
		w.mu.Unlock()
		stillWaits(t, "the pod is gone", awaiting(t, e, webAddr))
	})
}

func TestAwaitSaysWhatWasMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		close(w.synced)
		e := run(t, w, false)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := e.Await(ctx, "prod", "stranger", []netip.Addr{webAddr})
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "that of pod prod/web") {
			t.Errorf("error %v", err)
		}
	})
}

func TestAwaitDoesNotTrustAKernelThatCannotBeCompared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		close(w.synced)
		e := run(t, w, false)
		w.mu.Lock()
		w.repairErr, w.failures = errors.New("cannot read the kernel"), 1
		w.mu.Unlock()
		time.Sleep(repairEvery)
		synctest.Wait()
		done := awaiting(t, e, webAddr)
		stillWaits(t, "not compared", done)
		time.Sleep(8 * retryMin)
		returned(t, "applied again", done)
	})
}
