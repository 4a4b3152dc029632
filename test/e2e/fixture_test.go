//go:build cluster

// Package e2e tests tierwall as a whole: installed by Helm on the real cluster
// of the lab, with real pods and real connections between them.
package e2e

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/tierwall/tierwall/images"
	"github.com/tierwall/tierwall/test/cluster"
	"github.com/tierwall/tierwall/test/shop"
)

const systemNamespace = "tierwall-system"

// fixture is a running lab with the images loaded.
type fixture struct {
	*shop.Shell
	lab    *cluster.Cluster
	client kubernetes.Interface
	probe  shop.Probe
}

// boot boots a lab for the test and takes it down after it.
func boot(t *testing.T, o cluster.Options) *fixture {
	t.Helper()
	ctx := t.Context()
	probe, err := shop.BuildProbe(ctx, t.TempDir())
	must(t, err)
	chart, err := shop.ReadChart("../..")
	must(t, err)
	archives, err := images.Tierwall(ctx, os.Stderr, chart.AppVersion)
	must(t, err)
	o.Images = append(o.Images, append(archives, probe.Archive)...)
	start := time.Now()
	lab, err := cluster.Up(ctx, o)
	must(t, err)
	t.Cleanup(func() { must(t, lab.Down(context.Background())) })
	t.Logf("lab up in %.1f s", time.Since(start).Seconds())
	sh, err := shop.NewShell(lab)
	must(t, err)
	client, err := kubernetes.NewForConfig(lab.RESTConfig())
	must(t, err)
	return &fixture{Shell: sh, lab: lab, client: client, probe: probe}
}

// install installs the chart, with further helm arguments, and waits for both workloads.
func (f *fixture) install(t *testing.T, args ...string) {
	t.Helper()
	f.run(t, append([]string{"helm", "install", "tierwall", "../../charts/tierwall", "-n", systemNamespace, "--create-namespace"}, args...)...)
	f.await(t, "deployment/tierwall-webhook")
	f.await(t, "daemonset/tierwall-enforcer")
}

// await waits until a workload of ours is rolled out.
func (f *fixture) await(t *testing.T, workload string) {
	t.Helper()
	f.run(t, "kubectl", "-n", systemNamespace, "rollout", "status", workload, "--timeout=120s")
}

// run runs kubectl or helm, which must succeed.
func (f *fixture) run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := f.Run(t.Context(), args...)
	must(t, err)
	return out
}

// refused runs kubectl, which must fail and print all of the words.
func (f *fixture) refused(t *testing.T, words []string, args ...string) {
	t.Helper()
	out, err := f.Command(t.Context(), args[0], args[1:]...).CombinedOutput()
	if err == nil {
		t.Fatalf("%s: went through, and should have been refused", strings.Join(args, " "))
	}
	for _, word := range words {
		if !strings.Contains(string(out), word) {
			t.Errorf("%s: refused without saying %q: %s", strings.Join(args, " "), word, out)
		}
	}
}

// deployShop deploys the demonstration's shop and waits for its pods.
func (f *fixture) deployShop(t *testing.T) {
	t.Helper()
	f.run(t, "kubectl", "apply", "-f", "../../demo/shop/app.yaml")
	for _, ns := range shop.Namespaces {
		f.run(t, "kubectl", "-n", ns, "wait", "--for=condition=Available", "deployment", "--all", "--timeout=90s")
	}
	must(t, shop.AwaitOpen(t.Context(), f.Shell, f.lab, f.probe.Program))
}

// reach measures who reaches whom in the shop.
func (f *fixture) reach(t *testing.T) shop.Reachability {
	t.Helper()
	pods, err := shop.Find(t.Context(), f.Shell)
	must(t, err)
	r, err := shop.Measure(t.Context(), f.Shell, f.lab, f.probe.Program, pods)
	must(t, err)
	return r
}

// pod is the shop's pod of a tier in a namespace.
func (f *fixture) pod(t *testing.T, name string) shop.Workload {
	t.Helper()
	pods, err := shop.Find(t.Context(), f.Shell)
	must(t, err)
	for _, p := range pods {
		if p.String() == name {
			return p
		}
	}
	t.Fatalf("no pod of %s in the shop", name)
	return shop.Workload{}
}

// enforcerOn is the enforcer's pod on a node.
func (f *fixture) enforcerOn(t *testing.T, node string) string {
	t.Helper()
	pods, err := f.client.CoreV1().Pods(systemNamespace).List(t.Context(), metav1.ListOptions{
		LabelSelector: "app.kubernetes.io/component=enforcer", FieldSelector: "spec.nodeName=" + node})
	must(t, err)
	for _, p := range pods.Items {
		if p.DeletionTimestamp == nil {
			return p.Name
		}
	}
	t.Fatalf("no enforcer on node %s", node)
	return ""
}

// eventually tries until the condition holds, for at most the time given.
func eventually(t *testing.T, atMost time.Duration, what string, holds func() error) {
	t.Helper()
	deadline := time.Now().Add(atMost)
	for {
		err := holds()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v: %v", what, atMost, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
