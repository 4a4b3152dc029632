//go:build cluster

package certmanager

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tierwall/tierwall/images"
	"github.com/tierwall/tierwall/test/cluster"
	"github.com/tierwall/tierwall/test/shop"
)

const (
	repository = "../../.."
	chartDir   = repository + "/charts/tierwall"
	namespace  = "tierwall-system"
)

// TestCertManager installs the chart where cert-manager is: it is found and
// used, its authority can be replaced without a policy that passes unjudged
// or is refused for want of an answer, and nothing of it stays in the end.
func TestCertManager(t *testing.T) {
	f := boot(t)
	f.apply(t, definitions(t))
	f.apply(t, foreignDefinition(t))
	f.run(t, "kubectl", "wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
	startController(t, f.kubeconfig)

	f.run(t, "helm", "install", "tierwall", chartDir, "-n", namespace, "--create-namespace", "--wait", "--timeout", "120s")
	f.run(t, "kubectl", "-n", namespace, "wait", "--for=condition=Ready", "certificate", "--all", "--timeout=30s")
	f.run(t, "helm", "test", "tierwall", "-n", namespace)
	t.Run("the authority is replaced", f.replaceAuthority)
	t.Run("uninstall leaves nothing", f.uninstall)
}

// replaceAuthority takes the authority away, then the certificate that it
// signed, and asks until the API server verifies by the next one. The
// certificate goes once the next authority is there: a request that
// cert-manager meets while its issuer has no Secret waits for a change of the
// Issuer object, and may wait for ever.
func (f *fixture) replaceAuthority(t *testing.T) {
	before := f.authority(t)
	f.run(t, "kubectl", "-n", namespace, "delete", "secret", "tierwall-webhook-ca")
	f.awaitAuthority(t, before)
	f.run(t, "kubectl", "-n", namespace, "delete", "secret", "tierwall-webhook-tls")
	deadline := time.Now().Add(3 * time.Minute)
	for judged := 0; ; judged++ {
		_, err := f.Run(t.Context(), "kubectl", "create", "--dry-run=server", "-f", "testdata/open.yaml")
		if err == nil || !strings.Contains(err.Error(), `admission webhook "policies.tierwall.io" denied the request`) {
			t.Fatalf("an open policy was not judged: %v", err)
		}
		after := f.authority(t)
		if after != "" && after != before && strings.Contains(f.bundle(t), after) {
			t.Logf("%d policies were judged meanwhile", judged)
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the API server does not verify by the new authority after three minutes")
		}
	}
}

// awaitAuthority waits for an authority other than the one before.
func (f *fixture) awaitAuthority(t *testing.T, before string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		if after := f.authority(t); after != "" && after != before {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("cert-manager has issued no new authority within a minute")
		}
	}
}

// authority is the certificate authority in PEM, or nothing while there is none.
func (f *fixture) authority(t *testing.T) string {
	t.Helper()
	return f.run(t, "kubectl", "-n", namespace, "get", "secret", "tierwall-webhook-ca", "--ignore-not-found",
		"-o", `go-template={{index .data "tls.crt" | base64decode}}`)
}

// bundle is by what the API server verifies the webhook.
func (f *fixture) bundle(t *testing.T) string {
	t.Helper()
	return f.run(t, "kubectl", "get", "validatingwebhookconfiguration", "tierwall",
		"-o", `go-template={{(index .webhooks 0).clientConfig.caBundle | base64decode}}`)
}

func (f *fixture) uninstall(t *testing.T) {
	f.run(t, "helm", "uninstall", "tierwall", "-n", namespace)
	left := f.run(t, "kubectl", "-n", namespace, "get", "all,secrets,leases,serviceaccounts,roles,rolebindings,certificates,issuers", "-o", "name")
	if strings.Contains(left, "tierwall") {
		t.Errorf("left in %s:\n%s", namespace, left)
	}
	definitions := f.run(t, "kubectl", "get", "crd", "-o", "name")
	if strings.Contains(definitions, "tierwall.io") {
		t.Errorf("definitions of ours are left:\n%s", definitions)
	}
	if !strings.Contains(definitions, "clusternetworkpolicies.policy.networking.k8s.io") {
		t.Error("a definition that was there before the chart is gone with it")
	}
}

// foreignDefinition is the standard's definition of ClusterNetworkPolicy, as
// somebody else would have installed it.
func foreignDefinition(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(chartDir, "crds/policy.networking.k8s.io_clusternetworkpolicies.yaml"))
	must(t, err)
	foreign := strings.Replace(string(text), "    tierwall.io/installed-by: chart\n", "", 1)
	if foreign == string(text) {
		t.Fatal("the chart does not mark its copy of the definition")
	}
	return foreign
}

// fixture is a running lab with tierwall's images.
type fixture struct {
	*shop.Shell
	kubeconfig string
}

func boot(t *testing.T) *fixture {
	t.Helper()
	chart, err := shop.ReadChart(repository)
	must(t, err)
	archives, err := images.Tierwall(t.Context(), os.Stderr, chart.AppVersion)
	must(t, err)
	lab, err := cluster.Up(t.Context(), cluster.Options{Images: archives})
	must(t, err)
	t.Cleanup(func() { must(t, lab.Down(context.Background())) })
	sh, err := shop.NewShell(lab)
	must(t, err)
	return &fixture{Shell: sh, kubeconfig: lab.Kubeconfig()}
}

func (f *fixture) run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := f.Run(t.Context(), args...)
	must(t, err)
	return out
}

// apply creates what a YAML text says.
func (f *fixture) apply(t *testing.T, text string) {
	t.Helper()
	cmd := f.Command(t.Context(), "kubectl", "create", "-f", "-")
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("kubectl create: %v\n%s", err, out)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
