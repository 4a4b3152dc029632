package enforcer

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
)

// world is a cluster and a kernel in memory. It fails where it is told to.
type world struct {
	mu       sync.Mutex
	changed  chan struct{}
	synced   chan struct{}
	snapshot *compile.Snapshot

	programmed bool
	applied    []*policy.Program
	failures   int // how many applies fail
	damaged    bool
	repairErr  error
	repairs    int
	hang       chan struct{} // a repair waits until it is closed
}

func newWorld() *world {
	w := &world{changed: make(chan struct{}, 1), synced: make(chan struct{}), hang: make(chan struct{}), snapshot: state()}
	close(w.hang)
	return w
}

// state is one node with one pod, default deny.
func state() *compile.Snapshot {
	return &compile.Snapshot{
		Nodes:      []*compile.Node{node()},
		Namespaces: []*compile.Namespace{{Name: "prod"}},
		Pods:       []*compile.Pod{{Namespace: "prod", Name: "web", Node: "n1", Addrs: []netip.Addr{netip.MustParseAddr("10.1.0.5")}}},
	}
}

func node() *compile.Node {
	return &compile.Node{Name: "n1", Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")},
		PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24")}}
}

func (w *world) WaitForSync(ctx context.Context) error {
	select {
	case <-w.synced:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (w *world) Changed() <-chan struct{} { return w.changed }

func (w *world) Snapshot() *compile.Snapshot {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.snapshot
}

func (w *world) Programmed() bool { return w.programmed }

func (w *world) Apply(_ context.Context, p *policy.Program) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failures > 0 {
		w.failures--
		return errors.New("the kernel says no")
	}
	w.applied = append(w.applied, p)
	return nil
}

func (w *world) Repair(context.Context) (bool, error) {
	w.mu.Lock()
	hang := w.hang
	w.mu.Unlock()
	<-hang
	w.mu.Lock()
	defer w.mu.Unlock()
	w.repairs++
	mended := w.damaged
	w.damaged = false
	return mended, w.repairErr
}

func (w *world) programs() []*policy.Program {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]*policy.Program(nil), w.applied...)
}

// run runs an enforcer in the world for the length of the test.
func run(t *testing.T, w *world, boot bool) *Enforcer {
	e := &Enforcer{Node: "n1", Source: w, Backend: w, Log: slog.New(slog.DiscardHandler)}
	if boot {
		e.Boot = func(context.Context) (*compile.Snapshot, error) {
			return &compile.Snapshot{Nodes: []*compile.Node{node()}}, nil
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- e.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Start: %v", err)
		}
	})
	synctest.Wait()
	return e
}

func TestFreshNodeIsClosedBeforeTheFirstSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		e := run(t, w, true)
		applied := w.programs()
		if len(applied) != 1 || len(applied[0].Endpoints) != 0 || len(applied[0].Local) != 1 || applied[0].Unknown != policy.Deny {
			t.Fatalf("before the sync: %v, want one program that denies the node's pod addresses", applied)
		}
		if e.InForce() {
			t.Error("says that the cluster's policies are in force before it knows them")
		}
		close(w.synced)
		synctest.Wait()
		if applied = w.programs(); len(applied) != 2 || len(applied[1].Endpoints) != 1 || !e.InForce() {
			t.Errorf("after the sync: %v, in force %v", applied, e.InForce())
		}
	})
}

func TestRestartAdoptsWhatIsInForce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.programmed = true
		run(t, w, true)
		if got := w.programs(); len(got) != 0 {
			t.Errorf("a restart before the sync wrote %v, want nothing", got)
		}
	})
}

// The API server may be away when a node boots.
func TestNodeIsClosedOnceItCanBe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.failures = 4
		run(t, w, true)
		if got := w.programs(); len(got) != 0 {
			t.Fatalf("wrote %v though every write failed", got)
		}
		time.Sleep(retryMin * 5)
		synctest.Wait()
		if got := w.programs(); len(got) != 1 || len(got[0].Endpoints) != 0 {
			t.Errorf("after four failures: %v, want the node closed", got)
		}
	})
}

func TestNodeWithoutPodCIDRsIsNotSaidToBeClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		e := &Enforcer{Node: "n1", Source: w, Backend: w, Log: slog.New(slog.DiscardHandler)}
		e.Boot = func(context.Context) (*compile.Snapshot, error) {
			return &compile.Snapshot{Nodes: []*compile.Node{{Name: "n1"}}}, nil
		}
		e.closeBeforeSync(t.Context())
		if got := w.programs(); len(got) != 0 {
			t.Errorf("wrote %v, want nothing: there is nothing to close", got)
		}
	})
}

func TestLoopThatStandsStillIsStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		close(w.synced)
		e := run(t, w, false)
		time.Sleep(2 * stuckAfter)
		synctest.Wait()
		if still := e.Stuck(); still != 0 {
			t.Errorf("a loop that goes round is said to be stuck for %v", still)
		}
		w.mu.Lock()
		w.hang = make(chan struct{})
		w.mu.Unlock()
		time.Sleep(2 * stuckAfter)
		still := e.Stuck()
		close(w.hang)
		if still < stuckAfter {
			t.Errorf("a loop that hangs is said to be stuck for %v", still)
		}
	})
}

func TestStockClusterIsNotClosedBeforeTheFirstSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		run(t, w, false)
		if got := w.programs(); len(got) != 0 {
			t.Errorf("wrote %v before the sync, want nothing", got)
		}
	})
}

func TestChangesAreApplied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		close(w.synced)
		run(t, w, false)
		w.mu.Lock()
		w.snapshot = &compile.Snapshot{Nodes: []*compile.Node{node()}}
		w.mu.Unlock()
		w.changed <- struct{}{}
		synctest.Wait()
		if got := w.programs(); len(got) != 2 || len(got[1].Endpoints) != 0 {
			t.Errorf("programs: %v, want the pod gone from the second", got)
		}
	})
}

func TestFailedApplyIsTriedAgainAndReadinessSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.failures = 3
		close(w.synced)
		e := run(t, w, false)
		if e.InForce() {
			t.Error("says in force after a failed apply")
		}
		time.Sleep(retryMin * 8)
		synctest.Wait()
		if got := w.programs(); len(got) != 1 || !e.InForce() {
			t.Errorf("after three failures: %d programs, in force %v", len(got), e.InForce())
		}
	})
}

func TestKernelIsComparedAndMended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		close(w.synced)
		e := run(t, w, false)
		time.Sleep(repairEvery)
		synctest.Wait()
		w.mu.Lock()
		compared := w.repairs
		w.repairErr = errors.New("cannot read the kernel")
		w.mu.Unlock()
		if compared != 1 || !e.InForce() {
			t.Errorf("after %v: compared %d times, in force %v", repairEvery, compared, e.InForce())
		}
		time.Sleep(repairEvery)
		synctest.Wait()
		if e.InForce() {
			t.Error("says in force though the kernel could not be compared")
		}
		time.Sleep(retryMin)
		synctest.Wait()
		if got := w.programs(); len(got) != 2 || !e.InForce() {
			t.Errorf("after a failed comparison: %d programs, in force %v; want all applied again", len(got), e.InForce())
		}
	})
}
