//go:build cluster

package e2e

import (
	"bytes"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
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

// fewest is how many attempts a probe must have made to say anything: a small part of what it does on a
// machine that is busy with other things.
const fewest = 100

// waitPast is wait for a probe that has to have been at work throughout, and for
// a second more after the moment.
func (fl *flow) waitPast(t *testing.T, moment time.Time) []shop.Attempt {
	t.Helper()
	attempts := fl.wait(t)
	var last int64
	for _, a := range attempts {
		last = max(last, a.Sent)
	}
	if beyond := time.Unix(0, last).Sub(moment); len(attempts) < fewest || beyond < time.Second {
		t.Errorf("%s: %d attempts, the last %v after the last fault was over; want %d, and 1 s", fl.name, len(attempts), beyond, fewest)
	}
	return attempts
}

// killEnforcer has the enforcers of both nodes end, by SIGKILL and by want of memory, under canaries.
func killEnforcer(t *testing.T, f *fixture) {
	c := f.startCanaries(t, "prod/frontend", "prod/data", "prod/backend")
	for _, death := range []struct {
		reason string // as Kubernetes shows it
		bring  func(*testing.T, *cluster.Node, string)
	}{{"Error", kill}, {"OOMKilled", starve}} {
		for _, node := range f.lab.Nodes() {
			f.endEnforcerOn(t, node, death.reason, death.bring)
		}
	}
	c.stop(t, "2 SIGKILLs and 2 kills for want of memory")
}

// endEnforcerOn brings about the end of the node's enforcer, by its process ID, and waits until
// kubelet has brought it back and it says that it is ready.
func (f *fixture) endEnforcerOn(t *testing.T, node *cluster.Node, reason string, bring func(*testing.T, *cluster.Node, string)) {
	t.Helper()
	pod := f.enforcerOn(t, node.Name)
	before := f.containerOf(t, pod).RestartCount
	bring(t, node, enforcerProcess(t, node))
	var now corev1.ContainerStatus
	eventually(t, 2*time.Minute, "the enforcer is back", func() error {
		if now = f.containerOf(t, pod); now.RestartCount <= before || now.LastTerminationState.Terminated == nil {
			return fmt.Errorf("%d restarts", now.RestartCount)
		}
		return nil
	})
	if got := now.LastTerminationState.Terminated; got.Reason != reason || got.ExitCode != 128+9 {
		t.Errorf("the enforcer on %s ended by %q with %d, want %q and 137", node.Name, got.Reason, got.ExitCode, reason)
	}
	f.run(t, "kubectl", "-n", systemNamespace, "wait", "pod/"+pod, "--for=condition=Ready", "--timeout=60s")
}

// enforcerProcess is the process ID of the node's enforcer, on the node.
func enforcerProcess(t *testing.T, node *cluster.Node) string {
	t.Helper()
	out, err := node.Exec(t.Context(), "sh", "-c", `grep -lx enforcer /proc/[0-9]*/comm | cut -d/ -f3`)
	must(t, err)
	pid := strings.TrimSpace(out)
	if pid == "" || strings.Contains(pid, "\n") {
		t.Fatalf("want one enforcer process on %s, got %q", node.Name, out)
	}
	return pid
}

func kill(t *testing.T, node *cluster.Node, pid string) {
	t.Helper()
	_, err := node.Exec(t.Context(), "kill", "-9", pid)
	must(t, err)
}

func (f *fixture) containerOf(t *testing.T, pod string) corev1.ContainerStatus {
	t.Helper()
	p, err := f.client.CoreV1().Pods(systemNamespace).Get(t.Context(), pod, metav1.GetOptions{})
	must(t, err)
	if len(p.Status.ContainerStatuses) == 0 {
		return corev1.ContainerStatus{}
	}
	return p.Status.ContainerStatuses[0]
}

// controlPlaneKilled kills etcd, then the API server, and, while that is away, an enforcer. What was in
// force stays, readiness tells what is so, and the next change is enforced without help.
func controlPlaneKilled(t *testing.T, f *fixture) {
	c := f.startCanaries(t, "prod/frontend", "prod/data", "prod/backend")
	f.killDaemon(t, "etcd")
	time.Sleep(3 * time.Second)
	for _, node := range f.lab.Nodes() {
		f.wantReadyz(t, node, true)
	}
	f.restartDaemon(t, "etcd")
	f.wantCallback(t, true)

	f.killDaemon(t, "kube-apiserver")
	kept, killed := f.lab.Nodes()[0], f.lab.Nodes()[1]
	kill(t, killed, enforcerProcess(t, killed))
	time.Sleep(5 * time.Second)
	f.wantReadyz(t, kept, true)
	f.wantReadyz(t, killed, false)
	f.restartDaemon(t, "kube-apiserver")
	f.wantCallback(t, false)
	eventually(t, 2*time.Minute, "the enforcers are ready", func() error {
		for _, node := range f.lab.Nodes() {
			if got := readyz(t, node); !strings.Contains(got, "200 OK") {
				return fmt.Errorf("/readyz on %s says %q", node.Name, got)
			}
		}
		return nil
	})
	c.stop(t, "etcd, the API server and an enforcer without it were killed")
	f.run(t, "kubectl", "wait", "node", "--all", "--for=condition=Ready", "--timeout=90s")
	f.await(t, "daemonset/tierwall-enforcer")
	f.await(t, "deployment/tierwall-webhook")
}

func (f *fixture) killDaemon(t *testing.T, name string) {
	t.Helper()
	must(t, f.lab.Signal(t.Context(), f.lab.ControlPlane(), name, syscall.SIGKILL))
}

// restartDaemon starts a daemon of the control plane again and waits until the API server answers.
func (f *fixture) restartDaemon(t *testing.T, name string) {
	t.Helper()
	must(t, f.lab.Restart(t.Context(), f.lab.ControlPlane(), name))
	f.awaitAPI(t)
}

func (f *fixture) awaitAPI(t *testing.T) {
	t.Helper()
	eventually(t, time.Minute, "the API server answers", func() error {
		_, err := f.Run(t.Context(), "kubectl", "get", "--raw", "/readyz")
		return err
	})
}

// readyz is what the node's enforcer says of itself, or why nobody does.
func readyz(t *testing.T, node *cluster.Node) string {
	t.Helper()
	out, err := node.Exec(t.Context(), "bash", "-c", `exec 3<>/dev/tcp/127.0.0.1/9467; printf 'GET /readyz HTTP/1.0\r\n\r\n' >&3; head -1 <&3`)
	if err != nil {
		return err.Error()
	}
	return out
}

func (f *fixture) wantReadyz(t *testing.T, node *cluster.Node, ready bool) {
	t.Helper()
	if got := readyz(t, node); strings.Contains(got, "200 OK") != ready {
		t.Errorf("/readyz on %s says %q, want ready: %v", node.Name, got, ready)
	}
}

// wantCallback lets the back end call the front end, or takes that away, and wants it enforced. The webhooks'
// pods may need a moment to be reached by an API server that has just started.
func (f *fixture) wantCallback(t *testing.T, allow bool) {
	t.Helper()
	from, to := f.pod(t, "prod/backend"), f.pod(t, "prod/frontend")
	policies, ctx := f.client.NetworkingV1().NetworkPolicies("prod"), t.Context()
	eventually(t, 30*time.Second, "the policy is changed", func() (err error) {
		if allow {
			_, err = policies.Create(ctx, callbackPolicy(), metav1.CreateOptions{})
		} else {
			err = policies.Delete(ctx, callbackPolicy().Name, metav1.DeleteOptions{})
		}
		return err
	})
	changed := time.Now()
	eventually(t, 30*time.Second, "the change is enforced", func() error {
		out, err := f.inPod(t, from, append([]string{f.probe.Program, "reach", "-timeout", "500ms"}, to.Targets()...)...).Output()
		if want := fmt.Sprintf(`"reached":%v`, allow); err != nil || strings.Count(string(out), want) != len(to.Targets()) {
			return fmt.Errorf("want %s: %s (%w)", want, out, err)
		}
		return nil
	})
	t.Logf("a change was seen to be enforced within %v", time.Since(changed).Round(time.Millisecond))
}
