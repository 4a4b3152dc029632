package enforcer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
)

// fakeCluster is a cluster and a kernel in memory. It fails where it is told to.
type fakeCluster struct {
	mu       sync.Mutex
	changed  chan struct{}
	synced   chan struct{}
	snapshot *compile.Snapshot
	taken    *compile.Update

	programmed bool
	applied    []*policy.Program
	failures   int // how many applies fail
	damaged    bool
	repairErr  error
	repairs    int
	hang       chan struct{} // a repair waits until it is closed
}

func newFakeCluster() *fakeCluster {
	w := &fakeCluster{changed: make(chan struct{}, 1), synced: make(chan struct{}), hang: make(chan struct{}), snapshot: oneNodeCluster()}
	close(w.hang)
	return w
}

// oneNodeCluster is one node with one pod, default deny.
func oneNodeCluster() *compile.Snapshot {
	return &compile.Snapshot{
		Nodes:      []*compile.Node{testNode()},
		Namespaces: []*compile.Namespace{{Name: "prod"}},
		Pods:       []*compile.Pod{{Namespace: "prod", Name: "web", Node: "n1", Addrs: []netip.Addr{netip.MustParseAddr("10.1.0.5")}}},
	}
}

func testNode() *compile.Node {
	return &compile.Node{Name: "n1", Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")},
		PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24")}}
}

func (w *fakeCluster) WaitForSync(ctx context.Context) error {
	select {
	case <-w.synced:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (w *fakeCluster) Changed() <-chan struct{} { return w.changed }

// Take is all that there is, and that what there was is gone.
func (w *fakeCluster) Take() *compile.Update {
	w.mu.Lock()
	defer w.mu.Unlock()
	u := w.snapshot.Update()
	if w.taken != nil {
		addDeletions(&u.Pods, w.taken.Pods)
		addDeletions(&u.Namespaces, w.taken.Namespaces)
		addDeletions(&u.NetworkPolicies, w.taken.NetworkPolicies)
	}
	w.taken = w.snapshot.Update()
	return u
}

func addDeletions[O any](now *compile.Objects[O], before compile.Objects[O]) {
	for key := range before {
		if (*now)[key] == nil {
			now.Set(key, nil)
		}
	}
}

// setSnapshot makes the cluster be as the snapshot, and says so.
func (w *fakeCluster) setSnapshot(s *compile.Snapshot) {
	w.mu.Lock()
	w.snapshot = s
	w.mu.Unlock()
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// updating is a world whose kernel can take changes.
type updating struct {
	*fakeCluster
	updates int
}

func (w *updating) Update(_ context.Context, c *policy.Change) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failures > 0 {
		w.failures--
		return errors.New("the kernel says no")
	}
	w.updates++
	w.applied = append(w.applied, w.applied[len(w.applied)-1].With(c))
	return nil
}

func (w *fakeCluster) Programmed() bool { return w.programmed }

func (w *fakeCluster) Apply(_ context.Context, p *policy.Program) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failures > 0 {
		w.failures--
		return errors.New("the kernel says no")
	}
	w.applied = append(w.applied, p)
	return nil
}

func (w *fakeCluster) Repair(context.Context) (bool, error) {
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

func (w *fakeCluster) appliedPrograms() []*policy.Program {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]*policy.Program(nil), w.applied...)
}

// runEnforcer runs an enforcer in the world for the length of the test.
func runEnforcer(t *testing.T, w *fakeCluster, boot bool) *Enforcer { return runOn(t, w, w, boot) }

func runOn(t *testing.T, w Source, b Backend, boot bool, with ...func(*Enforcer)) *Enforcer {
	e := &Enforcer{Node: "n1", Source: w, Backend: b, Log: slog.New(slog.DiscardHandler)}
	for _, set := range with {
		set(e)
	}
	if boot {
		e.Boot = func(context.Context) (*compile.Snapshot, error) {
			return &compile.Snapshot{Nodes: []*compile.Node{testNode()}}, nil
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
		w := newFakeCluster()
		e := runEnforcer(t, w, true)
		applied := w.appliedPrograms()
		if len(applied) != 1 || len(applied[0].Endpoints) != 0 || len(applied[0].Local) != 1 || applied[0].Unknown != policy.Deny {
			t.Fatalf("before the sync: %v, want one program that denies the node's pod addresses", applied)
		}
		if e.InForce() {
			t.Error("says that the cluster's policies are in force before it knows them")
		}
		close(w.synced)
		synctest.Wait()
		if applied = w.appliedPrograms(); len(applied) != 2 || len(applied[1].Endpoints) != 1 || !e.InForce() {
			t.Errorf("after the sync: %v, in force %v", applied, e.InForce())
		}
	})
}

func TestRestartAdoptsWhatIsInForce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeCluster()
		w.programmed = true
		runEnforcer(t, w, true)
		if got := w.appliedPrograms(); len(got) != 0 {
			t.Errorf("a restart before the sync wrote %v, want nothing", got)
		}
	})
}

// The API server may be away when a node boots.
func TestNodeIsClosedOnceItCanBe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeCluster()
		w.failures = 4
		runEnforcer(t, w, true)
		if got := w.appliedPrograms(); len(got) != 0 {
			t.Fatalf("wrote %v though every write failed", got)
		}
		time.Sleep(retryMin * 5)
		synctest.Wait()
		if got := w.appliedPrograms(); len(got) != 1 || len(got[0].Endpoints) != 0 {
			t.Errorf("after four failures: %v, want the node closed", got)
		}
	})
}

// predecessor is another backend whose rules are in force.
type predecessor struct {
	mu       sync.Mutex
	cleanups int
	err      error
}

func (p *predecessor) Programmed() bool { return true }

func (p *predecessor) Cleanup(context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cleanups++
	return p.err
}

func (p *predecessor) cleanedUp() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cleanups
}

func TestAnotherBackendIsCleanedUpOnceAProgramIsInForce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, other := newFakeCluster(), &predecessor{err: errors.New("busy")}
		runOn(t, w, w, true, func(e *Enforcer) { e.Predecessor = other })
		if len(w.appliedPrograms()) != 0 || other.cleanedUp() != 0 {
			t.Fatalf("before the first sync: wrote %v, cleaned up %d times; want what is in force left alone", w.appliedPrograms(), other.cleanedUp())
		}
		close(w.synced)
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
		if len(w.appliedPrograms()) != 1 || other.cleanedUp() != 1 {
			t.Fatalf("in sync: %d programs, cleaned up %d times; want one of each", len(w.appliedPrograms()), other.cleanedUp())
		}
		other.mu.Lock()
		other.err = nil
		other.mu.Unlock()
		time.Sleep(3 * repairEvery)
		synctest.Wait()
		if n := other.cleanedUp(); n != 2 {
			t.Errorf("cleaned up %d times, want once more after the failure and then no more", n)
		}
	})
}

// revoker notes what it is told.
type revoker struct {
	mu       sync.Mutex
	whole    int // commits of programs of which the change is not known
	changes  int
	rechecks int
}

func (r *revoker) Commit(_ *policy.Program, c *policy.Change, apply func() error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c == nil {
		r.whole++
	} else {
		r.changes++
	}
	return apply()
}

func (r *revoker) Recheck() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rechecks++
}

func TestRevokerIsToldOfEveryProgramButTheClosing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, r := newFakeCluster(), &revoker{}
		runOn(t, w, w, true, func(e *Enforcer) { e.Revoker = r })
		if len(w.appliedPrograms()) != 1 || r.whole+r.changes != 0 {
			t.Fatalf("the closing of the node: %d programs, %d commits; want one and none", len(w.appliedPrograms()), r.whole+r.changes)
		}
		close(w.synced)
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
		if r.whole != 1 || r.changes != 0 {
			t.Fatalf("in sync: %d whole programs, %d changes; want one and none", r.whole, r.changes)
		}
		w.mu.Lock()
		w.damaged = true
		w.mu.Unlock()
		time.Sleep(2 * repairEvery)
		synctest.Wait()
		if r.rechecks != 1 {
			t.Errorf("%d rechecks after rules were mended, want one", r.rechecks)
		}
	})
}

func TestNodeWithoutPodCIDRsIsNotSaidToBeClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeCluster()
		e := &Enforcer{Node: "n1", Source: w, Backend: w, Log: slog.New(slog.DiscardHandler)}
		e.Boot = func(context.Context) (*compile.Snapshot, error) {
			return &compile.Snapshot{Nodes: []*compile.Node{{Name: "n1"}}}, nil
		}
		e.closeBeforeSync(t.Context())
		if got := w.appliedPrograms(); len(got) != 0 {
			t.Errorf("wrote %v, want nothing: there is nothing to close", got)
		}
	})
}

func TestLoopThatStandsStillIsStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeCluster()
		close(w.synced)
		e := runEnforcer(t, w, false)
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
		w := newFakeCluster()
		runEnforcer(t, w, false)
		if got := w.appliedPrograms(); len(got) != 0 {
			t.Errorf("wrote %v before the sync, want nothing", got)
		}
	})
}

func TestChangesAreApplied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeCluster()
		close(w.synced)
		runEnforcer(t, w, false)
		w.setSnapshot(&compile.Snapshot{Nodes: []*compile.Node{testNode()}})
		synctest.Wait()
		if got := w.appliedPrograms(); len(got) != 2 || len(got[1].Endpoints) != 0 {
			t.Errorf("programs: %v, want the pod gone from the second", got)
		}
	})
}

func TestFailedApplyIsTriedAgainAndReadinessSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeCluster()
		w.failures = 3
		close(w.synced)
		e := runEnforcer(t, w, false)
		if e.InForce() {
			t.Error("says in force after a failed apply")
		}
		time.Sleep(retryMin * 8)
		synctest.Wait()
		if got := w.appliedPrograms(); len(got) != 1 || !e.InForce() {
			t.Errorf("after three failures: %d programs, in force %v", len(got), e.InForce())
		}
	})
}

func TestKernelIsComparedAndMended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeCluster()
		close(w.synced)
		e := runEnforcer(t, w, false)
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
		if got := w.appliedPrograms(); len(got) != 2 || !e.InForce() {
			t.Errorf("after a failed comparison: %d programs, in force %v; want all applied again", len(got), e.InForce())
		}
	})
}

// withPods is the state with more pods on the node.
func withPods(n int) *compile.Snapshot {
	s := oneNodeCluster()
	for i := range n {
		s.Pods = append(s.Pods, &compile.Pod{Namespace: "prod", Name: fmt.Sprint("more-", i), Node: "n1",
			Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 1, 0, byte(20 + i)})}})
	}
	return s
}

func TestBackendThatCanIsGivenTheChangeAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &updating{fakeCluster: newFakeCluster()}
		close(w.synced)
		e := runOn(t, w, w, false)
		w.setSnapshot(withPods(2))
		synctest.Wait()
		got := w.appliedPrograms()
		if len(got) != 2 || w.updates != 1 || len(got[1].Endpoints) != 3 || !e.InForce() {
			t.Errorf("%d programs, %d of them by update, in force %v; want the first whole and the second by update", len(got), w.updates, e.InForce())
		}
	})
}

func TestAfterAnUpdateThatFailedTheWholeIsApplied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &updating{fakeCluster: newFakeCluster()}
		close(w.synced)
		e := runOn(t, w, w, false)
		w.mu.Lock()
		w.failures = 2
		w.mu.Unlock()
		w.setSnapshot(withPods(1))
		synctest.Wait()
		if e.InForce() {
			t.Error("says in force after a failed update")
		}
		w.setSnapshot(withPods(2)) // fails as well, at once
		time.Sleep(4 * retryMin)
		synctest.Wait()
		got := w.appliedPrograms()
		if len(got) != 2 || w.updates != 0 || len(got[1].Endpoints) != 3 || !e.InForce() {
			t.Fatalf("%d programs, %d of them by update, in force %v; want the whole of both changes", len(got), w.updates, e.InForce())
		}
		w.setSnapshot(withPods(3))
		synctest.Wait()
		if got = w.appliedPrograms(); len(got) != 3 || w.updates != 1 || len(got[2].Endpoints) != 4 {
			t.Errorf("%d programs, %d of them by update; want the third by update", len(got), w.updates)
		}
	})
}

// withRemotePods is the state with pods of other nodes, which no policy is about.
func withRemotePods(n int) *compile.Snapshot {
	s := withPods(n)
	for _, p := range s.Pods[1:] {
		p.Node = "n2"
	}
	return s
}

func TestWhatHappensElsewhereIsNotForTheKernel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeCluster()
		close(w.synced)
		e := runEnforcer(t, w, false)
		w.setSnapshot(withRemotePods(1))
		synctest.Wait()
		if got := w.appliedPrograms(); len(got) != 1 || !e.InForce() {
			t.Errorf("%d programs, want the first alone", len(got))
		}
	})
}

// A kernel that says no is asked again after a while, not as often as something happens in the cluster.
func TestWhatHappensElsewhereDoesNotHurryARetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeCluster()
		w.failures = 1000
		close(w.synced)
		runEnforcer(t, w, false)
		for i := range 100 {
			w.setSnapshot(withRemotePods(i))
			time.Sleep(time.Millisecond)
		}
		synctest.Wait()
		w.mu.Lock()
		defer w.mu.Unlock()
		if asked := 1000 - w.failures; asked > 2 {
			t.Errorf("asked %d times within %v", asked, retryMin)
		}
	})
}

func TestTheFirstChangeIsAppliedAtOnceAndABurstTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeCluster()
		close(w.synced)
		runEnforcer(t, w, false)
		w.setSnapshot(withPods(1))
		synctest.Wait()
		if got := w.appliedPrograms(); len(got) != 2 {
			t.Fatalf("%d programs at once, want the first and the changed one", len(got))
		}
		for i := range 40 {
			w.setSnapshot(withPods(2 + i))
			time.Sleep(burstTime / 20)
		}
		time.Sleep(burstTime)
		synctest.Wait()
		got := w.appliedPrograms()
		if n := len(got) - 2; n < 2 || n > 3 || len(got[len(got)-1].Endpoints) != 42 {
			t.Errorf("40 changes within %v led to %d programs, the last of %d endpoints", 2*burstTime, n, len(got[len(got)-1].Endpoints))
		}
	})
}
