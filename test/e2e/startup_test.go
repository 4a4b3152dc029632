//go:build cluster

package e2e

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tierwall/tierwall/test/cluster"
)

// TestStartUp installs the chart with its CNI plugin: what a policy says of a pod holds for the
// first packet of its first container, and the plugin is never in the way of what has to start.
func TestStartUp(t *testing.T) {
	f := boot(t, cluster.Options{ProxyMode: cluster.ProxyNFTables})
	f.install(t, "--set", "enforcer.cni.enabled=true")
	f.run(t, "kubectl", "apply", "-f", "testdata/starting.yaml")
	f.run(t, "kubectl", "-n", "prod", "wait", "pod/server", "pod/open", "--for=condition=Ready", "--timeout=60s")
	for _, part := range []struct {
		name string
		test func(*testing.T, *fixture)
	}{
		{"under default deny the first packet passes that a policy allows, and no other", firstPacketsUnderDeny},
		{"the plugin stays in the chain when the network's own installer rewrites it", chainIsRewritten},
		{"a pod whose sandbox dies gets another", sandboxDies},
		{"where the agent is away pods wait, and exempt ones start", agentAway},
		{"where the default allows, a pod that a policy closes is closed from its first packet", firstPacketsUnderAllow},
		{"rules that somebody takes away come back, and the node has an event", repairIsToldOnTheNode},
		{"while the API server hangs the rules stay, and are mended", apiServerHangs},
		{"the plugin can be taken out again", pluginTakenOut},
		{"uninstall leaves nothing", uninstallWithPlugin},
	} {
		if !t.Run(part.name, func(t *testing.T) { part.test(t, f) }) {
			f.logs(t)
			t.Log(f.Run(t.Context(), "kubectl", "get", "events", "-A", "--sort-by=.lastTimestamp"))
			return
		}
	}
}

// starter is a pod whose init container tries the server once, so shortly that a first packet
// that is dropped is not sent again, and whose container then serves. One that is closed
// tries a server that no policy selects, so that only its own rules can be in the way.
func (f *fixture) starter(t *testing.T, namespace, name, app, node string) *corev1.Pod {
	t.Helper()
	target := "server"
	if app == "closed" {
		target = "open"
	}
	server, err := f.client.CoreV1().Pods("prod").Get(t.Context(), target, metav1.GetOptions{})
	must(t, err)
	container := func(args ...string) corev1.Container {
		return corev1.Container{Name: args[0], Image: "docker.io/tierwall-lab/probe:dev", ImagePullPolicy: corev1.PullIfNotPresent, Args: args}
	}
	no, second := false, int64(1)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{"app": app}},
		Spec: corev1.PodSpec{
			NodeName: node, AutomountServiceAccountToken: &no, TerminationGracePeriodSeconds: &second,
			InitContainers: []corev1.Container{container("reach", "-timeout", "700ms", "tcp:"+server.Status.PodIP+":8080")},
			Containers:     []corev1.Container{container("serve", "tcp:8080")},
		},
	}
	pod, err = f.client.CoreV1().Pods(namespace).Create(t.Context(), pod, metav1.CreateOptions{})
	must(t, err)
	return pod
}

// started waits for the pod, reports whether its init container reached the server, and deletes it.
func (f *fixture) started(t *testing.T, pod *corev1.Pod) bool {
	t.Helper()
	f.run(t, "kubectl", "-n", pod.Namespace, "wait", "pod/"+pod.Name, "--for=condition=Ready", "--timeout=90s")
	out := f.run(t, "kubectl", "-n", pod.Namespace, "logs", pod.Name, "-c", "reach")
	if !strings.Contains(out, `"reached":`) {
		t.Errorf("the first container of %s says %q", pod.Name, out)
	}
	f.run(t, "kubectl", "-n", pod.Namespace, "delete", "pod", pod.Name, "--wait=true")
	return strings.Contains(out, `"reached":true`)
}

// wantFirstPackets starts pods at the same time, those that are to reach the server on its own node: another
// learns of a new address from the API server, and so lets in its first packets later.
func (f *fixture) wantFirstPackets(t *testing.T, reaches map[string]bool) {
	t.Helper()
	var pods []*corev1.Pod
	for app, reach := range reaches {
		for i := range 6 {
			node := f.lab.Nodes()[1]
			if !reach {
				node = f.lab.Nodes()[i%2]
			}
			pods = append(pods, f.starter(t, "prod", fmt.Sprintf("%s-%d", app, i), app, node.Name))
		}
	}
	for _, pod := range pods {
		if want, got := reaches[pod.Labels["app"]], f.started(t, pod); got != want {
			t.Errorf("%s on %s: the first packet passed: %v, want %v", pod.Name, pod.Spec.NodeName, got, want)
		}
	}
}

func firstPacketsUnderDeny(t *testing.T, f *fixture) {
	f.wantFirstPackets(t, map[string]bool{"client": true, "stranger": false, "closed": false})
}

func firstPacketsUnderAllow(t *testing.T, f *fixture) {
	f.run(t, "helm", "upgrade", "tierwall", "../../charts/tierwall", "-n", systemNamespace, "--reuse-values", "--set", "defaultAction=Allow")
	f.await(t, "daemonset/tierwall-enforcer")
	f.wantFirstPackets(t, map[string]bool{"client": true, "stranger": false, "closed": false})
}

const conflist = "/etc/cni/net.d/10-lab.conflist"

// chainIsRewritten writes the node's chain as it was before tierwall, as network plugins do at their start.
func chainIsRewritten(t *testing.T, f *fixture) {
	node := f.lab.Nodes()[1]
	chain := func() string {
		out, err := node.Exec(t.Context(), "cat", conflist)
		must(t, err)
		return out
	}
	if !strings.Contains(chain(), "tierwall-cni") {
		t.Fatalf("the plugin is not in %s", chain())
	}
	_, err := node.Exec(t.Context(), "sh", "-c", `tr -d '\n' <`+conflist+` | sed 's/,[^{}]*{[^{}]*tierwall-cni[^{}]*}//' >/run/chain && mv /run/chain `+conflist)
	must(t, err)
	eventually(t, 10*time.Second, "the plugin is back in the chain", func() error {
		if !strings.Contains(chain(), "tierwall-cni") {
			return fmt.Errorf("it is not in %s", chain())
		}
		return nil
	})
	if !strings.Contains(chain(), "portmap") {
		t.Errorf("another plugin is gone from %s", chain())
	}
	f.wantFirstPackets(t, map[string]bool{"client": true})
}

// sandboxDies kills a pod's sandbox: the API server shows its old addresses for a moment.
func sandboxDies(t *testing.T, f *fixture) {
	node := f.lab.Nodes()[1]
	pod := f.starter(t, "prod", "reborn", "client", node.Name)
	f.run(t, "kubectl", "-n", "prod", "wait", "pod/reborn", "--for=condition=Ready", "--timeout=60s")
	shown, err := f.client.CoreV1().Pods("prod").Get(t.Context(), "reborn", metav1.GetOptions{})
	must(t, err)
	before := shown.Status.PodIP
	out, err := node.Exec(t.Context(), "sh", "-c", `for c in $(ctr -n k8s.io containers list -q \
		'labels."io.cri-containerd.kind"==sandbox,labels."io.kubernetes.pod.name"==reborn'); do ctr -n k8s.io task kill -s SIGKILL $c; done`)
	must(t, err)
	eventually(t, 60*time.Second, "the pod has another sandbox", func() error {
		shown, err := f.client.CoreV1().Pods("prod").Get(t.Context(), "reborn", metav1.GetOptions{})
		must(t, err)
		if ip := shown.Status.PodIP; ip == "" || ip == before {
			return fmt.Errorf("it has address %q, and had %q (%s)", ip, before, out)
		}
		return nil
	})
	if !f.started(t, pod) {
		t.Error("the first packet of the new sandbox was dropped")
	}
}

// agentAway takes the agent from a node with the plugin in place.
func agentAway(t *testing.T, f *fixture) {
	node := f.lab.Nodes()[1].Name
	gone := f.enforcerOn(t, node)
	selectNodes := func(patch string) {
		f.run(t, "kubectl", "-n", systemNamespace, "patch", "daemonset", "tierwall-enforcer", "--type=merge", "-p",
			`{"spec":{"template":{"spec":{"nodeSelector":{"kubernetes.io/hostname":`+patch+`}}}}}`)
	}
	selectNodes(`"` + f.lab.Nodes()[0].Name + `"`)
	f.run(t, "kubectl", "-n", systemNamespace, "wait", "pod/"+gone, "--for=delete", "--timeout=60s")
	waiting := f.starter(t, "prod", "waiting", "client", node)
	exempt := f.starter(t, "kube-system", "exempt", "exempt", node)
	f.run(t, "kubectl", "-n", "kube-system", "wait", "pod/exempt", "--for=condition=Ready", "--timeout=60s")
	f.run(t, "kubectl", "-n", "kube-system", "delete", "pod", exempt.Name, "--wait=true")
	eventually(t, time.Minute, "an event says why the pod waits, and what to do", func() error {
		out := f.run(t, "kubectl", "-n", "prod", "get", "events", "--field-selector=involvedObject.name=waiting", "-o", "jsonpath={.items[*].message}")
		if !strings.Contains(out, "the network policies of pod prod/waiting were not in force within 15s") || !strings.Contains(out, "kubectl get pods -A") {
			return fmt.Errorf("events: %s", out)
		}
		return nil
	})
	shown, err := f.client.CoreV1().Pods("prod").Get(t.Context(), "waiting", metav1.GetOptions{})
	must(t, err)
	if shown.Status.Phase != corev1.PodPending {
		t.Errorf("the pod is %s without its rules", shown.Status.Phase)
	}
	selectNodes("null")
	f.await(t, "daemonset/tierwall-enforcer")
	if !f.started(t, waiting) {
		t.Error("the pod started without its rules")
	}
}

func repairIsToldOnTheNode(t *testing.T, f *fixture) {
	node := f.lab.Nodes()[0]
	_, err := node.Exec(t.Context(), "nft", "delete", "table", "inet", "tierwall")
	must(t, err)
	eventually(t, 30*time.Second, "the node has an event", func() error {
		out := f.run(t, "kubectl", "describe", "node", node.Name)
		if !strings.Contains(out, "RulesRepaired") {
			return fmt.Errorf("described as %s", out[max(0, strings.Index(out, "Events:")):])
		}
		return nil
	})
	f.wantEnforcedBy(t, "nft")
}

// apiServerHangs stops the API server for as long as a node may be away.
func apiServerHangs(t *testing.T, f *fixture) {
	signal := func(sig syscall.Signal) {
		t.Helper()
		must(t, f.lab.Signal(t.Context(), f.lab.ControlPlane(), "kube-apiserver", sig))
	}
	node := f.lab.Nodes()[1]
	signal(syscall.SIGSTOP)
	defer signal(syscall.SIGCONT)
	_, err := node.Exec(t.Context(), "nft", "delete", "table", "inet", "tierwall")
	must(t, err)
	time.Sleep(40 * time.Second)
	f.wantEnforcedBy(t, "nft")
	f.wantReadyz(t, node, true)
	signal(syscall.SIGCONT)
	f.awaitAPI(t)
	f.run(t, "kubectl", "wait", "node", "--all", "--for=condition=Ready", "--timeout=90s")
	f.await(t, "daemonset/tierwall-enforcer")
	f.wantFirstPackets(t, map[string]bool{"client": true, "stranger": false})
}

// pluginTakenOut turns it off, which has to be said in a way that leaves no node with a plugin that
// waits for nobody, and on again.
func pluginTakenOut(t *testing.T, f *fixture) {
	upgrade := []string{"helm", "upgrade", "tierwall", "../../charts/tierwall", "-n", systemNamespace, "--reuse-values", "--set"}
	f.refused(t, []string{"enforcer.cni.remove=true"}, append(upgrade, "enforcer.cni.enabled=false")...)
	f.run(t, append(upgrade, "enforcer.cni.enabled=false,enforcer.cni.remove=true")...)
	f.await(t, "daemonset/tierwall-enforcer")
	f.wantNoPlugin(t)
	f.starter(t, "prod", "plain", "client", f.lab.Nodes()[1].Name)
	f.run(t, "kubectl", "-n", "prod", "wait", "pod/plain", "--for=condition=Ready", "--timeout=60s")
	f.run(t, append(upgrade, "enforcer.cni.enabled=true,enforcer.cni.remove=false")...)
	f.await(t, "daemonset/tierwall-enforcer")
	f.wantFirstPackets(t, map[string]bool{"client": true})
}

// wantNoPlugin looks whether the nodes' networks are as they were.
func (f *fixture) wantNoPlugin(t *testing.T) {
	t.Helper()
	for _, node := range f.lab.Nodes() {
		out, err := node.Exec(t.Context(), "sh", "-c", "ls -A /etc/cni/net.d /opt/cni/bin; cat "+conflist)
		must(t, err)
		if strings.Contains(out, "tierwall") || !strings.Contains(out, `"portmap"`) {
			t.Errorf("on %s:\n%s", node.Name, out)
		}
	}
}

func uninstallWithPlugin(t *testing.T, f *fixture) {
	f.run(t, "helm", "uninstall", "tierwall", "-n", systemNamespace, "--wait", "--timeout", "3m")
	f.wantNoPlugin(t)
	for _, node := range f.lab.Nodes() {
		out, err := node.Exec(t.Context(), "sh", "-c", "ls -A /run/tierwall; nft list tables; iptables-nft-save")
		must(t, err)
		if strings.Contains(strings.ToLower(out), "tierwall") || strings.Contains(out, "cni.sock") {
			t.Errorf("left on %s:\n%s", node.Name, out)
		}
	}
	pod := f.starter(t, "prod", "after", "client", f.lab.Nodes()[1].Name)
	if !f.started(t, pod) {
		t.Error("without tierwall, a pod does not reach the server")
	}
	f.run(t, "kubectl", "-n", "prod", "delete", "pod", "plain", "--wait=true") // attached without the plugin, or with it
}
