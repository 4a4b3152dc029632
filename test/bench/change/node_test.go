//go:build netns

package change

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/test/apiserver"
	"github.com/tierwall/tierwall/test/netns"
)

// memoryLimit is the soft limit that the chart gives an agent.
const memoryLimit = "GOMEMLIMIT=110MiB"

// node is a node with two pods that are there, an API server on its loopback, and the agent's program.
type node struct {
	host, from, to *netns.Host
	api            kubernetes.Interface
	enforcer       string // the program
	env            []string
	turn           int // of the churn
}

func newNode(b *testing.B) *node {
	lab := netns.NewLab(b, []policy.Host{{Name: local, Addrs: []netip.Addr{nodeAddr}}})
	n := &node{host: lab.Nodes[local]}
	n.from, n.to = lab.AddPod(b, local, "client", podAddr(0)), lab.AddPod(b, local, "server", podAddr(1))
	dir := b.TempDir()
	n.enforcer = filepath.Join(dir, "enforcer")
	build := exec.CommandContext(b.Context(), "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", n.enforcer, "../../../cmd/enforcer")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // as the image has it
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("building the enforcer: %v: %s", err, out)
	}
	server, err := apiserver.Start(b.Context(), apiserver.Options{Dir: dir, Namespace: n.host.Path(), Dial: n.dial,
		Flags: []string{"--disable-admission-plugins=ServiceAccount", "--advertise-address=" + nodeAddr.String()}})
	b.Cleanup(server.Close)
	if err != nil {
		b.Fatal(err)
	}
	config := server.Config(apiserver.Admin)
	if _, err := envtest.InstallCRDs(config, envtest.CRDInstallOptions{Paths: []string{"../../../charts/tierwall/crds"}}); err != nil {
		b.Fatal(err)
	}
	if n.api, err = kubernetes.NewForConfig(config); err != nil {
		b.Fatal(err)
	}
	n.env = append(os.Environ(), memoryLimit, "KUBECONFIG="+kubeconfig(b, dir, config))
	return n
}

// dial connects to what listens on the node's loopback.
func (n *node) dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = n.host.Do(func() error {
		conn, err = (&net.Dialer{}).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

func kubeconfig(b *testing.B, dir string, c *rest.Config) string {
	k := clientcmdapi.NewConfig()
	k.Clusters["bench"] = &clientcmdapi.Cluster{Server: c.Host, CertificateAuthority: c.CAFile}
	k.AuthInfos["bench"] = &clientcmdapi.AuthInfo{Token: c.BearerToken}
	k.Contexts["bench"] = &clientcmdapi.Context{Cluster: "bench", AuthInfo: "bench"}
	k.CurrentContext = "bench"
	path := filepath.Join(dir, "kubeconfig")
	if err := clientcmd.WriteToFile(*k, path); err != nil {
		b.Fatal(err)
	}
	return path
}

// agent is a running enforcer.
type agent struct {
	cmd *exec.Cmd
	log *bytes.Buffer
}

// start starts the enforcer with a backend on the node, whose kernel has no rule.
func (n *node) start(b *testing.B, backend string) *agent {
	a := &agent{log: &bytes.Buffer{}}
	a.cmd = exec.Command("nsenter", "--net="+n.host.Path(), n.enforcer, "--node-name="+local, "--backend="+backend,
		"--default-action=Deny", "--exempt-namespaces=kube-system", "--metrics-bind-address=0", "--health-probe-bind-address="+health)
	a.cmd.Env, a.cmd.Stdout, a.cmd.Stderr = n.env, a.log, a.log
	if err := netns.Start(a.cmd); err != nil {
		b.Fatal(err)
	}
	return a
}

const health = "127.0.0.1:9467"

// awaitInForce waits until the enforcer says that everything is in force.
func (n *node) awaitInForce(b *testing.B, a *agent) {
	client := &http.Client{Transport: &http.Transport{DialContext: n.dial}, Timeout: time.Second}
	defer client.CloseIdleConnections()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if r, err := client.Get("http://" + health + "/readyz"); err == nil {
			r.Body.Close()
			if r.StatusCode == http.StatusOK {
				return
			}
		}
	}
	b.Fatalf("the enforcer is not ready: %s", a.log)
}

// stop ends the enforcer and removes its rules.
func (n *node) stop(b *testing.B, a *agent) {
	if err := a.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		b.Fatal(err)
	}
	if err := a.cmd.Wait(); err != nil {
		b.Fatalf("the enforcer: %v: %s", err, a.log)
	}
	n.host.Run(b, n.enforcer, "cleanup")
}

// usage is what a process and the programs that it started have used.
type usage struct {
	cpu      time.Duration
	resident float64 // megabytes
}

// ticks of /proc/PID/stat a second, the kernel's USER_HZ.
const ticks = 100

func (a *agent) usage(b *testing.B) usage {
	proc := fmt.Sprintf("/proc/%d/", a.cmd.Process.Pid)
	stat, err := os.ReadFile(proc + "stat")
	if err != nil {
		b.Fatal(err)
	}
	status, err := os.ReadFile(proc + "status")
	if err != nil {
		b.Fatal(err)
	}
	var u usage
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+2:]))
	for _, f := range fields[11:15] { // utime, stime, cutime, cstime: proc(5)
		var n int
		if _, err := fmt.Sscan(f, &n); err != nil {
			b.Fatal(err)
		}
		u.cpu += time.Duration(n) * time.Second / ticks
	}
	for line := range strings.Lines(string(status)) {
		var kB float64
		if _, err := fmt.Sscanf(line, "VmRSS: %f kB", &kB); err == nil {
			u.resident = kB / 1000
		}
	}
	return u
}
