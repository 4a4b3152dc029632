package agent

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/tierwall/tierwall/clustercache"
	"github.com/tierwall/tierwall/enforcer/cni"
)

// node is a cluster and a loop in memory. Rules come in force when they are let.
type node struct {
	mu        sync.Mutex
	attached  map[types.NamespacedName]clustercache.Attachment
	refuses   error
	inForce   chan struct{} // closed when rules are in force
	cancelled chan struct{} // receives when somebody gave up
}

func newNode() *node {
	return &node{attached: map[types.NamespacedName]clustercache.Attachment{}, inForce: make(chan struct{}), cancelled: make(chan struct{}, 10)}
}

func (n *node) Attach(_ context.Context, _ string, a clustercache.Attachment) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.refuses == nil {
		n.attached[a.Pod] = a
	}
	return n.refuses
}

func (n *node) Detach(pod types.NamespacedName, container string) {
	n.DetachAll(func(a clustercache.Attachment) bool { return a.Pod == pod && a.Container == container })
}

func (n *node) DetachAll(gone func(clustercache.Attachment) bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for k, a := range n.attached {
		if gone(a) {
			delete(n.attached, k)
		}
	}
}

func (n *node) Await(ctx context.Context, _, _ string, _ []netip.Addr) error {
	select {
	case <-n.inForce:
		return nil
	case <-ctx.Done():
		n.cancelled <- struct{}{}
		return errors.New("not in force")
	}
}

func (n *node) countAttached() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.attached)
}

// startServer runs a server for the node until the end of the test, or of stop.
func startServer(t *testing.T, n *node, socket string) (stop func()) {
	t.Helper()
	s := &Server{Socket: socket, Node: "n1", Cluster: n, Loop: n, Log: slog.New(slog.DiscardHandler)}
	before, _ := os.Stat(socket)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Start(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Start: %v", err)
		}
	})
	t.Cleanup(stop)
	for {
		if now, err := os.Stat(socket); err == nil && !os.SameFile(before, now) {
			return stop
		}
		time.Sleep(time.Millisecond)
	}
}

func addRequest(timeout time.Duration) cni.Request {
	return cni.Request{Verb: cni.Add, Namespace: "prod", Name: "web", UID: "u", Container: "c1",
		Addrs: []netip.Addr{netip.MustParseAddr("10.1.0.5")}, Timeout: timeout}
}

func TestPodIsLetGoOnWhenItsRulesAreInForce(t *testing.T) {
	n, socket := newNode(), filepath.Join(t.TempDir(), "run", "s")
	startServer(t, n, socket)
	if err := cni.Call(t.Context(), socket, addRequest(20*time.Millisecond)); err == nil || !strings.Contains(err.Error(), "not in force") {
		t.Errorf("error %v before the rules are in force", err)
	}
	close(n.inForce)
	if err := cni.Call(t.Context(), socket, addRequest(time.Minute)); err != nil {
		t.Error(err)
	}
	a := n.attached[types.NamespacedName{Namespace: "prod", Name: "web"}]
	if a.Container != "c1" || a.UID != "u" || len(a.Addrs) != 1 {
		t.Errorf("attached %+v", a)
	}
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket is open to others: %v, %v", info, err)
	}
}

func TestWhatIsNotBelievedIsToldToThePlugin(t *testing.T) {
	n, socket := newNode(), filepath.Join(t.TempDir(), "s")
	n.refuses = errors.New("the API server does not show the pod")
	startServer(t, n, socket)
	for _, r := range []cni.Request{addRequest(time.Second), {Verb: "open"}, {}} {
		if err := cni.Call(t.Context(), socket, r); err == nil || errors.Is(err, cni.ErrAway) {
			t.Errorf("%+v: error %v", r, err)
		}
	}
}

func TestContainersThatAreGoneAreForgotten(t *testing.T) {
	n, socket := newNode(), filepath.Join(t.TempDir(), "s")
	close(n.inForce)
	startServer(t, n, socket)
	for _, step := range []struct {
		r    cni.Request
		left int
	}{
		{addRequest(time.Second), 1},
		{cni.Request{Verb: cni.Del, Namespace: "prod", Name: "web", Container: "c0"}, 1},
		{cni.Request{Verb: cni.GC, Containers: []string{"c0", "c1"}}, 1},
		{cni.Request{Verb: cni.GC, Containers: []string{"c0"}}, 0},
		{addRequest(time.Second), 1},
		{cni.Request{Verb: cni.Del, Namespace: "prod", Name: "web", Container: "c1"}, 0},
	} {
		if err := cni.Call(t.Context(), socket, step.r); err != nil || n.countAttached() != step.left {
			t.Errorf("%+v: error %v, %d left, want %d", step.r, err, n.countAttached(), step.left)
		}
	}
}

func TestPluginThatWasKilledWaitsNoLonger(t *testing.T) {
	n, socket := newNode(), filepath.Join(t.TempDir(), "s")
	startServer(t, n, socket)
	conn, err := new(net.Dialer).DialContext(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, `{"verb":"add","timeout":60000000000}`+"\n"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-n.cancelled:
		t.Fatal("given up although the plugin waits")
	case <-time.After(50 * time.Millisecond):
	}
	conn.Close()
	select {
	case <-n.cancelled:
	case <-time.After(10 * time.Second):
		t.Error("the agent goes on waiting for a plugin that is gone")
	}
}

func TestRubbishIsNotAnswered(t *testing.T) {
	n, socket := newNode(), filepath.Join(t.TempDir(), "s")
	startServer(t, n, socket)
	for _, text := range []string{"rubbish\n", "[]\n", `{"addrs":["300.0.0.1"]}` + "\n", `{"verb":"` + strings.Repeat("x", 2*maxRequest)} {
		conn, err := new(net.Dialer).DialContext(t.Context(), "unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, text)
		if answer, _ := io.ReadAll(conn); len(answer) != 0 {
			t.Errorf("%.20s is answered with %s", text, answer)
		}
		conn.Close()
	}
	if n.countAttached() != 0 {
		t.Error("something is attached")
	}
}

func TestARequestWithManyAddressesIsRefused(t *testing.T) {
	n, socket := newNode(), filepath.Join(t.TempDir(), "s")
	close(n.inForce)
	startServer(t, n, socket)
	for _, verb := range []cni.Verb{cni.Add, cni.Check} {
		r := addRequest(time.Second)
		r.Verb = verb
		for range 10_000 {
			r.Addrs = append(r.Addrs, r.Addrs[0])
		}
		if err := cni.Call(t.Context(), socket, r); err == nil || errors.Is(err, cni.ErrAway) {
			t.Errorf("%s: error %v", verb, err)
		}
	}
	if n.countAttached() != 0 {
		t.Error("something is attached")
	}
}

// Connections that say nothing occupy every call for a while, and no longer.
func TestSilentConnectionsDoNotKeepThePluginOut(t *testing.T) {
	n, socket := newNode(), filepath.Join(t.TempDir(), "s")
	close(n.inForce)
	startServer(t, n, socket)
	for range maxCalls {
		conn, err := new(net.Dialer).DialContext(t.Context(), "unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	if err := cni.CallUntilTimeout(t.Context(), socket, addRequest(time.Minute)); err != nil {
		t.Error(err)
	}
}

func TestAnEndlessAnswerIsNotRead(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := new(net.ListenConfig).Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, `{"missing":"`)
		for chunk := strings.Repeat("x", 4096); err == nil; {
			_, err = io.WriteString(conn, chunk)
		}
	}()
	if err := cni.Call(t.Context(), socket, addRequest(time.Minute)); !errors.Is(err, cni.ErrAway) {
		t.Errorf("error %v", err)
	}
}

// The next agent listens at the same path, whether the one before ended well or not.
func TestAgentsFollowOneAnother(t *testing.T) {
	n, socket := newNode(), filepath.Join(t.TempDir(), "s")
	close(n.inForce)
	stop := startServer(t, n, socket)
	stop()
	if err := cni.Call(t.Context(), socket, addRequest(time.Second)); !errors.Is(err, cni.ErrAway) {
		t.Errorf("error %v, want that nobody answers", err)
	}
	old := startServer(t, n, socket)
	startServer(t, n, socket)
	old()
	if err := cni.Call(t.Context(), socket, addRequest(time.Second)); err != nil {
		t.Errorf("the end of the old agent took the new one's socket away: %v", err)
	}
}

func TestAgentListensOnceItCan(t *testing.T) {
	n, dir := newNode(), t.TempDir()
	close(n.inForce)
	inTheWay := filepath.Join(dir, "s.new", "file")
	if err := os.MkdirAll(inTheWay, 0o755); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(50*time.Millisecond, func() { _ = os.RemoveAll(filepath.Dir(inTheWay)) })
	socket := filepath.Join(dir, "s")
	startServer(t, n, socket)
	if err := cni.Call(t.Context(), socket, addRequest(time.Second)); err != nil {
		t.Error(err)
	}
}
