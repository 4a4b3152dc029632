//go:build cluster

package e2e

import (
	"bytes"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tierwall/tierwall/test/cluster"
	"github.com/tierwall/tierwall/test/shop"
)

// flow is a probe that runs in a pod of the shop beside the test.
type flow struct {
	name string
	cmd  *exec.Cmd
	out  bytes.Buffer
}

// startFlow starts the probe in a pod, against a target.
func (f *fixture) startFlow(t *testing.T, name string, from shop.Workload, verb, target string, args ...string) *flow {
	t.Helper()
	args = append([]string{"-n", from.Namespace, "exec", from.Pod, "--", "/probe", verb}, args...)
	fl := &flow{name: name, cmd: f.Command(t.Context(), "kubectl", append(args, target)...)}
	fl.cmd.Stdout = &fl.out
	must(t, fl.cmd.Start())
	t.Cleanup(func() { _ = fl.cmd.Process.Kill() })
	return fl
}

// wait waits for the probe's end and returns its attempts.
func (fl *flow) wait(t *testing.T) []shop.Attempt {
	t.Helper()
	if err := fl.cmd.Wait(); err != nil {
		t.Errorf("%s: %v", fl.name, err)
	}
	var out []shop.Attempt
	for a := range shop.Attempts(&fl.out) {
		out = append(out, a)
	}
	return out
}

// waitPast is wait for a probe that has to have been at work throughout, and for
// two seconds more after the moment.
func (fl *flow) waitPast(t *testing.T, moment time.Time) []shop.Attempt {
	t.Helper()
	attempts := fl.wait(t)
	var last int64
	for _, a := range attempts {
		last = max(last, a.Sent)
	}
	if beyond := time.Unix(0, last).Sub(moment); len(attempts) < 1000 || beyond < 2*time.Second {
		t.Errorf("%s: %d attempts, the last %v after the last enforcer was back; want 1,000, and 2 s", fl.name, len(attempts), beyond)
	}
	return attempts
}

// killEnforcer kills the enforcers of both nodes, again and again, under
// traffic that is denied, traffic that is allowed, and one long connection.
func killEnforcer(t *testing.T, f *fixture) {
	const kills, length = 2, "100s"
	from, denied, allowed := f.pod(t, "prod/frontend"), f.pod(t, "prod/data"), f.pod(t, "prod/backend")
	var refused, passing, held []*flow
	for i := range denied.Targets() {
		refused = append(refused, f.startFlow(t, "denied", from, "watch", denied.Targets()[i], "-every", "5ms", "-timeout", "900ms", "-for", length))
		passing = append(passing, f.startFlow(t, "allowed", from, "watch", allowed.Targets()[i], "-every", "5ms", "-timeout", "900ms", "-for", length))
		held = append(held, f.startFlow(t, "held", from, "hold", allowed.Targets()[i], "-every", "5ms", "-timeout", "900ms", "-for", length))
	}
	for range kills {
		for _, node := range f.lab.Nodes() {
			f.killEnforcerOn(t, node)
		}
	}
	ready := time.Now()
	leaks, breaks, sent := 0, 0, 0
	for _, fl := range refused {
		for _, a := range fl.waitPast(t, ready) {
			sent++
			if a.Reached {
				leaks++
			}
		}
	}
	for _, fl := range append(passing, held...) {
		for _, a := range fl.waitPast(t, ready) {
			sent++
			if !a.Reached {
				breaks++
			}
		}
	}
	t.Logf("%d SIGKILLs under %d connections and echoes: %d leaks, %d breaks", kills*len(f.lab.Nodes()), sent, leaks, breaks)
	if leaks > 0 || breaks > 0 {
		t.Errorf("want no leak and no break")
	}
}

// killEnforcerOn kills the node's enforcer by its process ID, and waits until
// kubelet has brought it back and it says that it is ready.
func (f *fixture) killEnforcerOn(t *testing.T, node *cluster.Node) {
	t.Helper()
	pod := f.enforcerOn(t, node.Name)
	before := f.restarts(t, pod)
	pid, err := node.Exec(t.Context(), "sh", "-c", `grep -lx enforcer /proc/[0-9]*/comm | cut -d/ -f3`)
	must(t, err)
	if strings.Count(strings.TrimSpace(pid), "\n") != 0 || strings.TrimSpace(pid) == "" {
		t.Fatalf("want one enforcer process on %s, got %q", node.Name, pid)
	}
	_, err = node.Exec(t.Context(), "kill", "-9", strings.TrimSpace(pid))
	must(t, err)
	eventually(t, time.Minute, "the enforcer is back", func() error {
		if now := f.restarts(t, pod); now <= before {
			return fmt.Errorf("%d restarts", now)
		}
		return nil
	})
	f.run(t, "kubectl", "-n", systemNamespace, "wait", "pod/"+pod, "--for=condition=Ready", "--timeout=60s")
}

func (f *fixture) restarts(t *testing.T, pod string) int32 {
	t.Helper()
	p, err := f.client.CoreV1().Pods(systemNamespace).Get(t.Context(), pod, metav1.GetOptions{})
	must(t, err)
	if len(p.Status.ContainerStatuses) == 0 {
		return 0
	}
	return p.Status.ContainerStatuses[0].RestartCount
}
