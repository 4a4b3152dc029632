//go:build netns

package plugin_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tierwall/tierwall/clustercache"
	"github.com/tierwall/tierwall/enforcer"
	"github.com/tierwall/tierwall/enforcer/backend"
	"github.com/tierwall/tierwall/enforcer/cni/agent"
	"github.com/tierwall/tierwall/enforcer/cni/install"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/test/netns"
)

// source is what the API server shows of the node: two pods without addresses, and policies by which the
// client may reach the server. It takes the plugin's word for the addresses.
type source struct {
	mu      sync.Mutex
	pending *compile.Update
	changed chan struct{}
}

func pod(name string, addrs ...netip.Addr) *compile.Pod {
	return &compile.Pod{Namespace: "prod", Name: name, Node: "n1", Labels: map[string]string{"app": name}, Addrs: addrs}
}

func newSource() *source {
	s := &source{pending: &compile.Update{}, changed: make(chan struct{}, 1)}
	s.pending.Nodes.Set(types.NamespacedName{Name: "n1"}, &compile.Node{Name: "n1", PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.9.0.0/24")}})
	s.pending.Namespaces.Set(types.NamespacedName{Name: "prod"}, &compile.Namespace{Name: "prod"})
	client := []networkingv1.NetworkPolicyPeer{{PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "client"}}}}
	np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: "both"}, Spec: networkingv1.NetworkPolicySpec{
		Ingress: []networkingv1.NetworkPolicyIngressRule{{From: client}},
		Egress:  []networkingv1.NetworkPolicyEgressRule{{}},
	}}
	s.pending.NetworkPolicies.Set(types.NamespacedName{Namespace: "prod", Name: "both"}, np)
	return s
}

func (s *source) WaitForSync(context.Context) error { return nil }

func (s *source) Changed() <-chan struct{} { return s.changed }

func (s *source) Take() *compile.Update {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.pending
	s.pending = &compile.Update{}
	return out
}

func (s *source) set(p *compile.Pod) {
	s.mu.Lock()
	s.pending.Pods.Set(types.NamespacedName{Namespace: p.Namespace, Name: p.Name}, p)
	s.mu.Unlock()
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

func (s *source) Attach(_ context.Context, _ string, a clustercache.Attachment) error {
	s.set(pod(a.Pod.Name, a.Addrs...))
	return nil
}

func (s *source) Detach(p types.NamespacedName, _ string) { s.set(pod(p.Name)) }

func (s *source) DetachAll(func(clustercache.Attachment) bool) {}

// node is a node with the plugin in its chain, after the plugin ptp of Debian's package.
type node struct {
	*netns.Space
	t      *testing.T
	runner *libcni.CNIConfig
	list   *libcni.NetworkConfigList
	socket string
}

func newNode(t *testing.T) *node {
	t.Helper()
	dir := t.TempDir()
	n := &node{Space: netns.NewSpace(t), t: t, socket: filepath.Join(dir, "s")}
	at := install.Node{BinDir: filepath.Join(dir, "bin"), ConfDir: filepath.Join(dir, "conf"), Program: filepath.Join(dir, "program")}
	for _, d := range []string{at.BinDir, at.ConfDir} {
		n.must(os.Mkdir(d, 0o755))
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", at.Program, "../../../cmd/cni")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the plugin: %v\n%s", err, out)
	}
	n.must(os.WriteFile(filepath.Join(at.ConfDir, "10.conflist"), fmt.Appendf(nil, `{"cniVersion":"1.0.0","name":"lab","plugins":[
 {"type":"ptp","ipam":{"type":"host-local","dataDir":%q,"ranges":[[{"subnet":"10.9.0.0/24"}]],"routes":[{"dst":"0.0.0.0/0"}]}}]}`,
		filepath.Join(dir, "ipam")), 0o644))
	_, err := at.Install(install.Settings{Socket: n.socket, TimeoutSeconds: 2, ExemptNamespaces: []string{"kube-system"}})
	n.must(err)
	n.list, err = libcni.ConfListFromFile(filepath.Join(at.ConfDir, "10.conflist"))
	n.must(err)
	n.runner = libcni.NewCNIConfigWithCacheDir([]string{at.BinDir, "/usr/lib/cni"}, filepath.Join(dir, "cache"), nil)
	n.must(n.Do(func() error { return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644) }))
	return n
}

func (n *node) must(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}

// startAgent starts the node's agent, for the rest of the test.
func (n *node) startAgent(s *source) {
	n.t.Helper()
	log := slog.New(slog.NewTextHandler(n.t.Output(), nil))
	e := &enforcer.Enforcer{Node: "n1", Defaults: policy.Defaults{Action: policy.Deny}, Source: s, Log: log}
	server := &agent.Server{Socket: n.socket, Node: "n1", Cluster: s, Loop: e, Log: log}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	errs := make([]error, 2)
	running.Go(func() {
		errs[0] = n.Do(func() error {
			chosen, err := backend.Drivers.Open(ctx, backend.Options{Name: backend.NFTables, Log: log})
			if err != nil {
				return err
			}
			e.Backend = chosen
			return e.Start(ctx)
		})
	})
	running.Go(func() { errs[1] = server.Start(ctx) })
	n.t.Cleanup(func() {
		cancel()
		running.Wait()
		if err := errors.Join(errs...); err != nil {
			n.t.Error(err)
		}
	})
}

// run is a pod as a container runtime sees it.
func run(namespace, name string, space *netns.Space) *libcni.RuntimeConf {
	return &libcni.RuntimeConf{ContainerID: "c-" + name, NetNS: space.Path(), IfName: "eth0", Args: [][2]string{
		{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", namespace}, {"K8S_POD_NAME", name}, {"K8S_POD_UID", "u-" + name}}}
}

// add runs the chain for a pod, and gives its address.
func (n *node) add(rt *libcni.RuntimeConf) (netip.Addr, error) {
	var addr netip.Addr
	err := n.Do(func() error {
		got, err := n.runner.AddNetworkList(n.t.Context(), n.list, rt)
		if err != nil {
			return err
		}
		result, err := types100.NewResultFromResult(got)
		if err != nil {
			return err
		}
		addr, _ = netip.AddrFromSlice(result.IPs[0].Address.IP.To4())
		return nil
	})
	return addr, err
}

// reaches tries once from a pod, too shortly for a packet that is dropped to be sent again.
func reaches(from *netns.Space, to netip.Addr) bool {
	return from.Do(func() error {
		conn, err := net.DialTimeout("tcp", netip.AddrPortFrom(to, 80).String(), 700*time.Millisecond)
		if err == nil {
			conn.Close()
		}
		return err
	}) == nil
}

func TestFirstPacketOfAPodPassesAsThePoliciesSay(t *testing.T) {
	n := newNode(t)
	n.startAgent(newSource())
	spaces := map[string]*netns.Space{}
	addrs := map[string]netip.Addr{}
	join := func(name string) {
		spaces[name] = netns.NewSpace(t)
		addr, err := n.add(run("prod", name, spaces[name]))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		addrs[name] = addr
	}
	join("server")
	n.must(spaces["server"].Do(func() error {
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", ":80")
		if err == nil {
			t.Cleanup(func() { l.Close() })
		}
		return err
	}))
	for range 5 {
		join("client")
		if !reaches(spaces["client"], addrs["server"]) {
			t.Error("the first packet of the client was dropped")
		}
		join("stranger")
		if reaches(spaces["stranger"], addrs["server"]) {
			t.Error("the first packet of a stranger passed")
		}
		for _, name := range []string{"client", "stranger"} {
			rt := run("prod", name, spaces[name])
			n.must(n.Do(func() error {
				return errors.Join(n.runner.CheckNetworkList(t.Context(), n.list, rt), n.runner.DelNetworkList(t.Context(), n.list, rt))
			}))
		}
	}
}

func TestWithoutAnAgentOnlyExemptPodsGetANetwork(t *testing.T) {
	n := newNode(t)
	space := netns.NewSpace(t)
	if _, err := n.add(run("prod", "web", space)); err == nil || !strings.Contains(err.Error(), "were not in force within 2s") {
		t.Errorf("error %v", err)
	}
	n.must(n.Do(func() error { return n.runner.DelNetworkList(t.Context(), n.list, run("prod", "web", space)) }))
	if _, err := n.add(run("kube-system", "dns", netns.NewSpace(t))); err != nil {
		t.Errorf("an exempt pod: %v", err)
	}
}
