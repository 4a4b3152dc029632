//go:build cluster

package e2e

import (
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tierwall/tierwall/test/cluster"
	"github.com/tierwall/tierwall/test/shop"
)

// canaries are flows that have to be denied, and such that have to pass, throughout a fault.
type canaries struct{ denied, allowed []*flow }

// startCanaries starts, over both IP families, connections that policy denies, connections that it
// allows, and one long connection with echoes, between pods of the shop; and such a connection of a node
// to its own pod, which comes from an address that is no node's for the API server.
func (f *fixture) startCanaries(t *testing.T, source, closed, open string) *canaries {
	t.Helper()
	from, denied, allowed := f.pod(t, source), f.pod(t, closed), f.pod(t, open)
	c := &canaries{}
	for i := range denied.Targets() {
		c.denied = append(c.denied, f.startCanary(t, "denied", from, "watch", "900ms", denied.Targets()[i]))
		c.allowed = append(c.allowed, f.startCanary(t, "allowed", from, "watch", "900ms", allowed.Targets()[i]),
			f.startCanary(t, "held", from, "hold", "20s", allowed.Targets()[i]),
			f.startFrom(t, "held by the node", f.nodeNetwork(t, allowed), "hold", "20s", allowed.Targets()[i]))
	}
	return c
}

// startCanary starts the probe in the network of a pod, with the API server and the kubelet out of the way,
// until it is stopped. Where a first packet is lost no other is sent within 900 ms, so that one counts. Who
// answers an echo is a pod that gets little of a busy processor, so that there patience is needed.
func (f *fixture) startCanary(t *testing.T, name string, from shop.Workload, verb, timeout, target string) *flow {
	t.Helper()
	return f.startFrom(t, name, f.podNetwork(t, from), verb, timeout, target)
}

func (f *fixture) startFrom(t *testing.T, name, network, verb, timeout, target string) *flow {
	t.Helper()
	fl := &flow{name: name, cmd: inNetwork(t, network, "nice", "-n", "-10", f.probe.Program, verb, "-every", "5ms", "-timeout", timeout, "-for", "10m", target)}
	fl.cmd.Stdout = &fl.out
	must(t, fl.cmd.Start())
	t.Cleanup(func() { _ = fl.cmd.Process.Kill() })
	return fl
}

// inPod is a command of the host that will run in the network of a pod.
func (f *fixture) inPod(t *testing.T, pod shop.Workload, args ...string) *exec.Cmd {
	t.Helper()
	return inNetwork(t, f.podNetwork(t, pod), args...)
}

func inNetwork(t *testing.T, network string, args ...string) *exec.Cmd {
	t.Helper()
	return exec.CommandContext(t.Context(), "nsenter", append([]string{"--net=" + network, "--"}, args...)...)
}

// podNetwork is the network namespace of a pod, and nodeNetwork that of its node, seen from the host.
func (f *fixture) podNetwork(t *testing.T, pod shop.Workload) string {
	t.Helper()
	node := f.nodeOf(t, pod)
	network, err := node.Exec(t.Context(), "sh", "-c", `for n in /run/netns/*; do
		[ -z "$(nsenter --net=$n ip -o -4 address show to $1)" ] || echo $n; done`, "sh", pod.Addrs[0])
	must(t, err)
	if strings.Count(network, "\n") != 1 {
		t.Fatalf("want the one network of %s on %s, got %q", pod, node.Name, network)
	}
	return fmt.Sprintf("/proc/%d/root%s", node.Init.PID, strings.TrimSpace(network))
}

func (f *fixture) nodeNetwork(t *testing.T, pod shop.Workload) string {
	t.Helper()
	return fmt.Sprintf("/proc/%d/ns/net", f.nodeOf(t, pod).Init.PID)
}

// nodeOf is the node that a pod is on, by its address.
func (f *fixture) nodeOf(t *testing.T, pod shop.Workload) *cluster.Node {
	t.Helper()
	addr, err := netip.ParseAddr(pod.Addrs[0])
	must(t, err)
	for _, node := range f.lab.Nodes() {
		if node.PodCIDR4.Contains(addr) {
			return node
		}
	}
	t.Fatalf("%s is on no node: %v", pod, addr)
	return nil
}

// stop ends the flows two seconds from now, and wants no leak and no break of any.
func (c *canaries) stop(t *testing.T, faults string) {
	t.Helper()
	now := time.Now()
	time.Sleep(2 * time.Second)
	for _, fl := range append(c.denied, c.allowed...) {
		_ = fl.cmd.Process.Signal(syscall.SIGTERM) // one that has ended already is found out below
	}
	sent, leaks, breaks := 0, 0, 0
	for _, fl := range c.denied {
		for _, a := range fl.waitPast(t, now) {
			sent++
			if a.Reached {
				leaks++
				t.Logf("%s leaked at %v", fl.name, time.Unix(0, a.Sent))
			}
		}
	}
	for _, fl := range c.allowed {
		for _, a := range fl.waitPast(t, now) {
			sent++
			if !a.Reached {
				breaks++
				t.Logf("%s broke at %v: %s", fl.name, time.Unix(0, a.Sent), a.Error)
			}
		}
	}
	t.Logf("%s under %d connections and echoes: %d leaks, %d breaks", faults, sent, leaks, breaks)
	if leaks > 0 || breaks > 0 {
		t.Errorf("want no leak and no break")
	}
}
