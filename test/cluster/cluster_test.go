//go:build cluster

package cluster_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"

	"github.com/tierwall/tierwall/test/cluster"
)

// TestLab boots the lab in both modes of kube-proxy, crashes the first, and
// looks at what is left of the second on the host.
func TestLab(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	if err := cluster.Down(ctx, cluster.DefaultDir()); err != nil {
		t.Fatal(err)
	}
	if err := cluster.Build(ctx, t.Output(), false); err != nil {
		t.Fatal(err)
	}
	before := traces(t)
	t.Cleanup(func() { // also after a failure
		if err := cluster.Down(context.WithoutCancel(ctx), cluster.DefaultDir()); err != nil {
			t.Error(err)
		}
	})

	first := up(ctx, t, cluster.Options{})
	t.Run("iptables", func(t *testing.T) { check(ctx, t, first) })
	crash(t, first)
	eventually(ctx, t, "the crash is noticed", func() bool {
		_, err := cluster.Attach()
		return errors.Is(err, cluster.ErrNotRunning)
	})

	second := up(ctx, t, cluster.Options{ProxyMode: cluster.ProxyNFTables, IPTables: cluster.IPTablesLegacy})
	t.Run("nftables", func(t *testing.T) { check(ctx, t, second) })
	t.Run("restart of the API server", func(t *testing.T) { restartAPI(ctx, t, second) })
	if err := second.Down(ctx); err != nil {
		t.Fatal(err)
	}
	for kind, want := range before {
		if got := traces(t)[kind]; !slices.Equal(got, want) {
			t.Errorf("%s on the host:\nbefore the lab: %v\nafter it:       %v", kind, want, got)
		}
	}
}

func up(ctx context.Context, t *testing.T, o cluster.Options) *cluster.Cluster {
	t.Helper()
	o.Log = t.Output()
	c, err := cluster.Up(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// crash ends the lab's machines behind its back.
func crash(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	for _, m := range append([]*cluster.Machine{c.ControlPlane()}, c.Nodes()[0].Machine, c.Nodes()[1].Machine) {
		if err := syscall.Kill(m.Init.PID, syscall.SIGKILL); err != nil {
			t.Fatalf("kill %s: %v", m.Name, err)
		}
	}
}

// check looks at the cluster from the outside and from inside its pods.
func check(ctx context.Context, t *testing.T, c *cluster.Cluster) {
	client, err := kubernetes.NewForConfig(c.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	if ready := readyNodes(ctx, t, client); !slices.Equal(ready, []string{"tw-node-1", "tw-node-2"}) {
		t.Fatalf("nodes that are ready: %v", ready)
	}
	deployServer(ctx, t, client)
	pods := serverPods(ctx, t, client)
	from, to := pods["tw-node-1"], pods["tw-node-2"]
	for _, ip := range to.Status.PodIPs {
		ask(ctx, t, c, from.Name, ip.IP, to.Name)
	}
	if len(to.Status.PodIPs) != 2 {
		t.Errorf("addresses of the pod: %v, want one of each family", to.Status.PodIPs)
	}
	ask(ctx, t, c, from.Name, "server.default.svc.cluster.local", from.Name, to.Name)
	for _, node := range c.Nodes() {
		out, err := node.Exec(ctx, "iptables", "--version")
		if err != nil {
			t.Error(err)
		}
		t.Logf("%s: %s", node.Name, strings.TrimSpace(out))
	}
}

func readyNodes(ctx context.Context, t *testing.T, client kubernetes.Interface) []string {
	t.Helper()
	nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var ready []string
	for _, node := range nodes.Items {
		for _, c := range node.Status.Conditions {
			if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue {
				ready = append(ready, node.Name)
			}
		}
	}
	slices.Sort(ready)
	return ready
}

// deployServer runs an HTTP server that says its name on every node, behind a
// Service.
func deployServer(ctx context.Context, t *testing.T, client kubernetes.Interface) {
	t.Helper()
	labels := map[string]string{"app": "server"}
	_, err := client.AppsV1().DaemonSets("default").Create(ctx, &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Name: "server"},
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{Containers: []corev1.Container{
					{Name: "server", Image: cluster.AgnhostImage, Args: []string{"netexec", "--http-port=8080"}},
					{Name: "client", Image: cluster.BusyboxImage, Command: []string{"sleep", "1d"}},
				}},
			},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.CoreV1().Services("default").Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "server"},
		Spec: corev1.ServiceSpec{
			Selector: labels,
			Ports:    []corev1.ServicePort{{Port: 8080, TargetPort: intstr.FromInt32(8080)}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

// serverPods waits for the server's pods and returns them by node.
func serverPods(ctx context.Context, t *testing.T, client kubernetes.Interface) map[string]corev1.Pod {
	t.Helper()
	running := map[string]corev1.Pod{}
	for ctx.Err() == nil && len(running) < 2 {
		pods, err := client.CoreV1().Pods("default").List(ctx, metav1.ListOptions{LabelSelector: "app=server"})
		if err != nil {
			t.Fatal(err)
		}
		for _, pod := range pods.Items {
			if pod.Status.Phase == corev1.PodRunning {
				running[pod.Spec.NodeName] = pod
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	if len(running) < 2 {
		t.Fatalf("running pods: %v: %v", running, ctx.Err())
	}
	return running
}

// ask asks a server for its name from inside a pod, until one of the wanted
// answers: the server may still be starting.
func ask(ctx context.Context, t *testing.T, c *cluster.Cluster, pod, host string, want ...string) {
	t.Helper()
	kubectl, err := cluster.Program("kubectl")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	eventually(ctx, t, fmt.Sprintf("%s gets an answer of %v from %s", pod, want, host), func() bool {
		out, err := exec.CommandContext(ctx, kubectl, "--kubeconfig", c.Kubeconfig(), "exec", pod, "-c", "client", "--",
			"timeout", "1", "wget", "-q", "-O", "-", "http://"+host+":8080/hostname").CombinedOutput()
		t.Logf("from %s to %s: %s (%v)", pod, host, out, err)
		return err == nil && slices.Contains(want, strings.TrimSpace(string(out)))
	})
}

// restartAPI kills the API server, and starts it again.
func restartAPI(ctx context.Context, t *testing.T, c *cluster.Cluster) {
	client, err := kubernetes.NewForConfig(c.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Signal(ctx, c.ControlPlane(), "kube-apiserver", syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error(); err == nil {
		t.Error("the API server answers after it was killed")
	}
	if err := c.Restart(ctx, c.ControlPlane(), "kube-apiserver"); err != nil {
		t.Fatal(err)
	}
	eventually(ctx, t, "the API server is ready again", func() bool {
		return client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error() == nil
	})
}

// eventually waits until something comes true.
func eventually(ctx context.Context, t *testing.T, what string, check func() bool) {
	t.Helper()
	for !check() {
		if ctx.Err() != nil {
			t.Fatalf("not in time: %s", what)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// traces is what a lab could leave on the host, by kind.
func traces(t *testing.T) map[string][]string {
	t.Helper()
	found := map[string][]string{
		"mounts": lines(t, "/proc/self/mounts"),
		"links":  glob(t, "/sys/class/net/*"),
		"state":  glob(t, cluster.DefaultDir()),
		"directories": glob(t, "/etc/cni", "/opt/*", "/run/containerd", "/usr/libexec/*", "/var/lib/cni",
			"/var/lib/containerd", "/var/lib/kubelet", "/var/log/pods", "/var/log/containers"),
		"cgroups":   glob(t, "/sys/fs/cgroup/tw-*", "/sys/fs/cgroup/*/tw-*"),
		"processes": processes(t),
	}
	for _, key := range []string{"vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops",
		"kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes", "net/ipv4/ip_forward"} {
		found["sysctls"] = append(found["sysctls"], key+"="+strings.Join(lines(t, "/proc/sys/"+key), " "))
	}
	return found
}

func lines(t *testing.T, file string) []string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

func glob(t *testing.T, patterns ...string) []string {
	t.Helper()
	var found []string
	for _, pattern := range patterns {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, paths...)
	}
	return found
}

// processes are those in a pid namespace other than ours, and children of ours
// that have ended and that nobody has waited for.
func processes(t *testing.T) []string {
	t.Helper()
	ours, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		t.Fatal(err)
	}
	zombie := fmt.Sprintf(") Z %d ", os.Getpid())
	var found []string
	for _, dir := range glob(t, "/proc/[0-9]*") {
		stat, err := os.ReadFile(dir + "/stat")
		if err != nil {
			continue // ended
		}
		namespace, err := os.Readlink(dir + "/ns/pid")
		lives := err == nil && !bytes.Contains(stat, []byte(") Z "))
		if strings.Contains(string(stat), zombie) || lives && namespace != ours {
			found = append(found, string(stat[:bytes.IndexByte(stat, ')')+1]))
		}
	}
	return found
}
