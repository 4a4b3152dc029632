//go:build netns

package backend_test

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tierwall/tierwall/enforcer"
	"github.com/tierwall/tierwall/enforcer/backend"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/test/netns"
)

// writers are the tools that write, and dumps the commands that show what is in force, by backend.
var (
	writers = map[string][]string{
		backend.NFTables:  {"nft"},
		"iptables-nft":    {"iptables-nft-restore", "ip6tables-nft-restore", "ipset"},
		"iptables-legacy": {"iptables-legacy-restore", "ip6tables-legacy-restore", "ipset"},
	}
	dumps = map[string][]string{
		backend.NFTables:  {"nft", "list", "ruleset"},
		"iptables-nft":    {"sh", "-c", "iptables-nft-save; ipset -sorted save"},
		"iptables-legacy": {"sh", "-c", "iptables-legacy-save; ipset -sorted save"},
	}
)

// cluster is what the API server shows, as the agent's source.
type cluster struct {
	mu      sync.Mutex
	pending *compile.Update
	changed chan struct{}
}

func (c *cluster) WaitForSync(context.Context) error { return nil }

func (c *cluster) Changed() <-chan struct{} { return c.changed }

func (c *cluster) Take() *compile.Update {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := c.pending
	c.pending = &compile.Update{}
	return out
}

// change shows something new.
func (c *cluster) change(f func(*compile.Update)) {
	c.mu.Lock()
	f(c.pending)
	c.mu.Unlock()
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

func named(name string) types.NamespacedName {
	return types.NamespacedName{Namespace: "prod", Name: name}
}

// pod shows a pod of the node.
func pod(name, addr string) func(*compile.Update) {
	return func(u *compile.Update) {
		u.Pods.Set(named(name), &compile.Pod{Namespace: "prod", Name: name, Node: "n1", Labels: map[string]string{"app": name},
			Addrs: []netip.Addr{netip.MustParseAddr(addr)}})
	}
}

// agent is a node agent at work on a kernel of its own.
type agent struct {
	*enforcer.Enforcer
	*cluster
	t     *testing.T
	space *netns.Space
	dump  []string
	path  string // PATH without the tools of the test
	dir   string
}

// start starts an agent of a backend whose writing tools can be broken, with one pod in force.
func start(t *testing.T, name string) *agent {
	t.Helper()
	a := &agent{t: t, space: netns.NewSpace(t), dump: dumps[name], path: os.Getenv("PATH"), dir: t.TempDir(),
		cluster: &cluster{pending: &compile.Update{}, changed: make(chan struct{}, 1)}}
	a.wrap(writers[name])
	t.Setenv("XTABLES_LOCKFILE", filepath.Join(a.dir, "xtables.lock"))
	node := &compile.Node{Name: "n1", Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")},
		PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24"), netip.MustParsePrefix("fd00:1::/64")}}
	a.pending.Nodes.Set(types.NamespacedName{Name: "n1"}, node)
	a.pending.Namespaces.Set(types.NamespacedName{Name: "prod"}, &compile.Namespace{Name: "prod"})
	pod("web", "10.1.0.5")(a.pending)
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	a.Enforcer = &enforcer.Enforcer{Node: "n1", Defaults: policy.Defaults{Action: policy.Deny}, Source: a.cluster, Log: log}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- a.space.Do(func() error {
			chosen, err := backend.Drivers.Open(ctx, backend.Options{Name: name, Log: log})
			if err != nil {
				return err
			}
			a.Backend = chosen.Backend
			return a.Start(ctx)
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	a.eventually("the first program is in force", a.InForce)
	return a
}

// wrap puts a script before each tool: it does what the file "broken" says while that is there.
func (a *agent) wrap(tools []string) {
	a.t.Helper()
	for _, name := range tools {
		path, err := exec.LookPath(name)
		if err != nil {
			a.t.Fatal(err)
		}
		script := "#!/bin/sh\ncase \"$*\" in list*|-v*|--version*|--check*) ;; *) test -e " + a.dir + "/broken && . " + a.dir + "/broken ;; esac\nexec " + path + " \"$@\"\n"
		if err := os.WriteFile(filepath.Join(a.dir, name), []byte(script), 0o700); err != nil {
			a.t.Fatal(err)
		}
	}
	a.t.Setenv("PATH", a.dir+":"+a.path)
}

func (a *agent) breakTools(script string) {
	a.t.Helper()
	temp := filepath.Join(a.dir, "breaking")
	if err := os.WriteFile(temp, []byte(script+"\n"), 0o600); err != nil {
		a.t.Fatal(err)
	}
	if err := os.Rename(temp, filepath.Join(a.dir, "broken")); err != nil {
		a.t.Fatal(err)
	}
}

// obstruct has somebody put a pod's address into the agent's table, if that is nftables'. A change
// takes no tool there, but one that finds what it did not leave does.
func (a *agent) obstruct(addr string) {
	a.t.Helper()
	if slices.Equal(a.dump, dumps[backend.NFTables]) {
		a.space.Run(a.t, "env", "PATH="+a.path, "nft", "add element inet tierwall ingress-map-4 { "+addr+" : accept }")
	}
}

func (a *agent) mend() {
	a.t.Helper()
	if err := os.Remove(filepath.Join(a.dir, "broken")); err != nil && !os.IsNotExist(err) {
		a.t.Fatal(err)
	}
}

// eventually waits until something holds, for as long as the agent may take on a busy machine.
func (a *agent) eventually(what string, holds func() bool) {
	a.t.Helper()
	for deadline := time.Now().Add(40 * time.Second); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			a.t.Fatalf("not in time: %s; in the kernel is\n%s", what, strings.Join(a.rules(), "\n"))
		}
	}
}

var counters = regexp.MustCompile(`^#.*| \[\d+:\d+\]| initval 0x[0-9a-f]+`)

// rules are what is in the kernel, line by line; reading them waits for no lock of the agent's.
func (a *agent) rules() []string {
	a.t.Helper()
	args := append([]string{"env", "PATH=" + a.path, "XTABLES_LOCKFILE=" + filepath.Join(a.dir, "reading.lock")}, a.dump...)
	var out []string
	for line := range strings.Lines(a.space.Run(a.t, args[0], args[1:]...)) {
		out = append(out, strings.TrimSpace(counters.ReplaceAllString(line, "")))
	}
	return out
}

func (a *agent) mentions(text string) bool {
	return slices.ContainsFunc(a.rules(), func(line string) bool { return strings.Contains(line, text) })
}

// wantStill sees that all that was in force still is.
func (a *agent) wantStill(before []string) {
	a.t.Helper()
	now := a.rules()
	for _, line := range before {
		if !slices.Contains(now, line) {
			a.t.Errorf("%q is not in force any more", line)
		}
	}
}

func forEveryBackend(t *testing.T, test func(t *testing.T, name string)) {
	for name := range writers {
		t.Run(name, func(t *testing.T) { test(t, name) })
	}
}

func TestToolsThatAlwaysFailLeaveTheLastProgramAndAreTriedAgain(t *testing.T) {
	for what, script := range map[string]string{
		"refuses":      `echo "out of memory" >&2; exit 4`,
		"is killed":    `kill -9 $$`,
		"says rubbish": `printf '\000{"nftables": [{]' ; printf '\377' >&2; exit 1`,
	} {
		t.Run(what, func(t *testing.T) {
			forEveryBackend(t, func(t *testing.T, name string) {
				a := start(t, name)
				a.breakTools(script)
				a.obstruct("10.1.0.6")
				before := a.rules()
				a.change(pod("more", "10.1.0.6"))
				a.eventually("readiness says that the change is not in force", func() bool { return !a.InForce() })
				time.Sleep(time.Second) // some retries
				if a.InForce() || a.Stuck() != 0 {
					t.Errorf("in force %v, stuck for %v", a.InForce(), a.Stuck())
				}
				a.wantStill(before)
				a.mend()
				a.eventually("the change is in force", a.InForce)
				if !a.mentions("10.1.0.6") || !a.mentions("10.1.0.5") || a.mentions("10.1.0.6 : accept") {
					t.Errorf("said to be in force, and the kernel has\n%s", strings.Join(a.rules(), "\n"))
				}
			})
		})
	}
}

func TestToolThatFailsOnce(t *testing.T) {
	forEveryBackend(t, func(t *testing.T, name string) {
		a := start(t, name)
		a.breakTools(`rm ` + filepath.Join(a.dir, "broken") + `; exit 1`)
		a.obstruct("10.1.0.6")
		a.change(pod("more", "10.1.0.6"))
		a.eventually("the change is in force", func() bool { return a.InForce() && a.mentions("10.1.0.6") })
	})
}

// Legacy iptables has a lock, which others may hold for long.
func TestLockThatAnotherHolds(t *testing.T) {
	a := start(t, "iptables-legacy")
	before := a.rules()
	lock, err := os.OpenFile(filepath.Join(a.dir, "xtables.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	a.change(pod("more", "10.1.0.6"))
	a.eventually("readiness says that the change is not in force", func() bool { return !a.InForce() })
	a.wantStill(before)
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_UN); err != nil {
		t.Fatal(err)
	}
	a.eventually("the change is in force", func() bool { return a.InForce() && a.mentions("10.1.0.6") })
}

// Somebody takes everything away, and the tools fail when it is to be mended.
func TestFlushedWhileTheToolsFail(t *testing.T) {
	forEveryBackend(t, func(t *testing.T, name string) {
		a := start(t, name)
		a.breakTools("exit 1")
		flush := "iptables-" + strings.TrimPrefix(name, "iptables-") + " -F"
		if name == backend.NFTables {
			flush = "nft flush ruleset"
		}
		a.space.Run(t, "env", append([]string{"PATH=" + a.path}, strings.Fields(flush)...)...)
		a.eventually("readiness says that the rules are gone", func() bool { return !a.InForce() })
		a.mend()
		a.eventually("mended", func() bool { return a.InForce() && a.mentions("10.1.0.5") })
	})
}

func TestBadPolicyStallsNothing(t *testing.T) {
	forEveryBackend(t, func(t *testing.T, name string) {
		a := start(t, name)
		a.change(func(u *compile.Update) {
			bad, good := ingressFrom("bad", "10.300.0.0/16"), ingressFrom("good", "198.51.100.0/24")
			bad.Spec.PolicyTypes = append(bad.Spec.PolicyTypes, "Sideways")
			bad.Spec.PodSelector.MatchExpressions = []metav1.LabelSelectorRequirement{{Key: "", Operator: "Near"}}
			u.NetworkPolicies.Set(named("bad"), bad)
			u.NetworkPolicies.Set(named("good"), good)
		})
		a.eventually("the good policy is in force", func() bool { return a.InForce() && a.mentions("198.51.100.0/24") })
	})
}

func ingressFrom(name, cidr string) *networkingv1.NetworkPolicy {
	return &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: name},
		Spec: networkingv1.NetworkPolicySpec{
			PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress},
			Ingress: []networkingv1.NetworkPolicyIngressRule{{
				From: []networkingv1.NetworkPolicyPeer{{IPBlock: &networkingv1.IPBlock{CIDR: cidr}}}}},
		},
	}
}

// What the tools cannot be fed for lack of files or processes fails like any other call.
func TestAgentOutOfFiles(t *testing.T) {
	a := start(t, backend.NFTables)
	a.breakTools("exit 1") // until there are no files, lest the agent finds the obstacle before
	a.obstruct("10.1.0.6")
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	few := before
	few.Cur = 3
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	restore := func() error { return unix.Setrlimit(unix.RLIMIT_NOFILE, &before) }
	a.mend()
	a.change(pod("more", "10.1.0.6"))
	said := false
	for range 2000 {
		if said = !a.InForce(); said {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	if err := restore(); err != nil {
		t.Fatal(err)
	}
	if !said {
		t.Error("readiness says nothing")
	}
	a.eventually("the change is in force", func() bool { return a.InForce() && a.mentions("10.1.0.6") })
}
