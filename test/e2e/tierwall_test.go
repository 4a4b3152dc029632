//go:build cluster

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tierwall/tierwall/test/cluster"
	"github.com/tierwall/tierwall/test/shop"
)

// TestTierwall installs the chart with its default values beside a shop that
// runs already, and follows it through a life: roles, isolation, mistakes,
// forgeries, outages, and its end.
func TestTierwall(t *testing.T) {
	f := boot(t, cluster.Options{})
	f.deployShop(t)
	for _, part := range []struct {
		name string
		test func(*testing.T, *fixture)
	}{
		{"before, everyone reaches everyone", everyoneReachesEveryone},
		{"installed with default values, pods are closed but for DNS", closedButForDNS},
		{"roles and policies open front end to back end to data, and nothing else", tiersOnly},
		{"a policy that opens the data tier is refused", openingDataIsRefused},
		{"forged and changed roles get nowhere", forgeriesGetNowhere},
		{"a pod under default deny passes its probes", probesPass},
		{"metrics are not open to every pod", metricsAreGuarded},
		{"helm test passes", helmTest},
		{"a change is in force within a blink", latency},
		{"a connection that a change denies is cut", revocation},
		{"a killed enforcer leaks nothing and breaks nothing", killEnforcer},
		{"nor do etcd and an API server that are killed, and policies are enforced after", controlPlaneKilled},
		{"without the webhook pods start, and policies are refused", withoutWebhook},
		{"uninstall leaves nothing", uninstall},
	} {
		if !t.Run(part.name, func(t *testing.T) { part.test(t, f) }) {
			f.logs(t)
			return // what follows builds on it
		}
	}
}

// logs shows what our workloads said, after a failure.
func (f *fixture) logs(t *testing.T) {
	for _, component := range []string{"webhook", "enforcer"} {
		out, err := f.Run(t.Context(), "kubectl", "-n", systemNamespace, "logs", "--tail=40", "--prefix",
			"-l", "app.kubernetes.io/component="+component)
		t.Logf("logs of %s: %v\n%s", component, err, out)
	}
}

// wantReach compares who reaches whom with what is wanted, pair by pair and
// for both IP families.
func (f *fixture) wantReach(t *testing.T, want func(from, to shop.Workload) bool) {
	t.Helper()
	pods, err := shop.Find(t.Context(), f.Shell)
	must(t, err)
	got := f.reach(t)
	sources := append([]shop.Workload{{Tier: "outside"}}, pods...)
	for _, from := range sources {
		name := strings.TrimPrefix(from.String(), "/")
		for _, to := range pods {
			if name == to.String() {
				continue
			}
			for _, target := range to.Targets() {
				if got[name][target] != want(from, to) {
					t.Errorf("%s to %s at %s: reached is %v, want %v", name, to, target, got[name][target], want(from, to))
				}
			}
		}
	}
}

func everyoneReachesEveryone(t *testing.T, f *fixture) {
	f.wantReach(t, func(_, _ shop.Workload) bool { return true })
}

func closedButForDNS(t *testing.T, f *fixture) {
	f.install(t)
	f.wantReach(t, func(_, _ shop.Workload) bool { return false })
	// The probe resolves before it connects: an answer of "no such host" or a
	// timeout would say that DNS is shut.
	frontend := f.pod(t, "prod/frontend")
	out := f.run(t, "kubectl", "-n", "prod", "exec", frontend.Pod, "--", "/probe", "reach", "-timeout", "2s", "tcp:backend.prod.svc.cluster.local:8080")
	if !strings.Contains(out, "i/o timeout") || strings.Contains(out, "lookup") {
		t.Errorf("want the name resolved and the connection dropped, got %s", out)
	}
}

func tiersOnly(t *testing.T, f *fixture) {
	f.run(t, "kubectl", "apply", "-f", "../../demo/shop/roles.yaml")
	f.run(t, "kubectl", "apply", "-f", "../../demo/shop/policies.yaml")
	for _, ns := range shop.Namespaces {
		for _, tier := range shop.Tiers {
			f.run(t, "kubectl", "-n", ns, "wait", "pod", "-l", "app="+tier.Name,
				`--for=jsonpath={.metadata.labels.tierwall\.io/tier-role}=`+tier.Name, "--timeout=30s")
		}
	}
	f.wantReach(t, inTiers)
	frontend := f.pod(t, "prod/frontend")
	out := f.run(t, "kubectl", "-n", "prod", "exec", frontend.Pod, "--", "/probe", "reach", "tcp:backend.prod.svc.cluster.local:8080", "tcp:data.prod.svc.cluster.local:5432")
	if !strings.Contains(out, `backend.prod.svc.cluster.local:8080","sent":`) || strings.Count(out, `"reached":true`) != 1 {
		t.Errorf("through Services, the front end should reach the back end and not the data: %s", out)
	}
}

// inTiers is what the shop's policies mean: the front end is open to all who
// may send, and in each namespace the front end reaches the back end, and that the data.
func inTiers(from, to shop.Workload) bool {
	if from.Tier == "outside" {
		return to.Tier == "frontend"
	}
	return from.Namespace == to.Namespace &&
		(from.Tier == "frontend" && to.Tier == "backend" || from.Tier == "backend" && to.Tier == "data")
}

func openingDataIsRefused(t *testing.T, f *fixture) {
	f.refused(t, []string{"Guardrail data-tier-closed", "open-data", "test"}, "kubectl", "apply", "-f", "../../demo/changes/open-data-to-test.yaml")
	f.refused(t, []string{"Guardrail data-tier-closed", "open-data"}, "kubectl", "apply", "-f", "../../demo/changes/open-data-to-world.yaml")
	f.refused(t, []string{"Guardrail data-tier-closed"}, "kubectl", "apply", "--dry-run=server", "-f", "../../demo/changes/open-data-to-world.yaml")
	f.wantReach(t, inTiers)
}

func forgeriesGetNowhere(t *testing.T, f *fixture) {
	out := f.run(t, "kubectl", "apply", "-f", "../../demo/changes/forged.yaml")
	f.run(t, "kubectl", "-n", "prod", "wait", "pod/intruder", "--for=condition=Ready", "--timeout=60s")
	role := f.run(t, "kubectl", "-n", "prod", "get", "pod", "intruder", "-o", `jsonpath={.metadata.labels.tierwall\.io/tier-role}`)
	if role != "" {
		t.Errorf("the intruder shows the role %q, want none (apply said: %s)", role, out)
	}
	data := f.pod(t, "prod/data")
	out = f.run(t, append([]string{"kubectl", "-n", "prod", "exec", "intruder", "--", "/probe", "reach", "-timeout", "700ms"}, data.Targets()...)...)
	if strings.Count(out, `"reached":false`) != len(data.Targets()) {
		t.Errorf("the intruder reached the data: %s", out)
	}
	backend := f.pod(t, "test/backend")
	for name, args := range map[string][]string{
		"label":     {"label", "pod", backend.Pod, "--overwrite", "tierwall.io/tier-role=data"},
		"unlabel":   {"label", "pod", backend.Pod, "tierwall.io/tier-role-"},
		"dry run":   {"label", "pod", backend.Pod, "--overwrite", "--dry-run=server", "tierwall.io/tier-role=data"},
		"status":    {"patch", "pod", backend.Pod, "--subresource=status", "-p", `{"metadata":{"labels":{"tierwall.io/tier-role":"data"}}}`},
		"json":      {"patch", "pod", backend.Pod, "--type=json", "-p", `[{"op":"replace","path":"/metadata/labels/tierwall.io~1tier-role","value":"data"}]`},
		"intruder":  {"label", "pod", "intruder", "-n", "prod", "tierwall.io/tier-role=backend"},
		"emptyrole": {"label", "pod", backend.Pod, "--overwrite", "tierwall.io/tier-role="},
	} {
		f.roleStays(t, name, backend, args)
	}
	f.run(t, "kubectl", "-n", "prod", "delete", "pod", "intruder", "--wait=true")
}

// roleStays tries to change labels; it must be refused, or change nothing.
func (f *fixture) roleStays(t *testing.T, name string, pod shop.Workload, args []string) {
	t.Helper()
	_, err := f.Run(t.Context(), append([]string{"kubectl", "-n", pod.Namespace}, args...)...)
	role := f.run(t, "kubectl", "-n", pod.Namespace, "get", "pod", pod.Pod, "-o", `jsonpath={.metadata.labels.tierwall\.io/tier-role}`)
	if role != pod.Tier {
		t.Errorf("%s: the pod shows the role %q, want %q", name, role, pod.Tier)
	}
	if err == nil && name != "status" {
		t.Errorf("%s: went through, and should have been refused", name)
	}
}

func probesPass(t *testing.T, f *fixture) {
	f.run(t, "kubectl", "apply", "-f", "testdata/probed.yaml")
	f.run(t, "kubectl", "-n", "prod", "wait", "pod/probed", "--for=condition=Ready", "--timeout=60s")
	f.run(t, "kubectl", "-n", "prod", "delete", "pod", "probed", "--wait=true")
}

func helmTest(t *testing.T, f *fixture) {
	f.run(t, "helm", "test", "tierwall", "-n", systemNamespace)
}

// withoutWebhook takes the webhook away: pods still start, but what it judges is refused.
func withoutWebhook(t *testing.T, f *fixture) {
	f.run(t, "kubectl", "-n", systemNamespace, "scale", "deployment/tierwall-webhook", "--replicas=0")
	f.run(t, "kubectl", "-n", systemNamespace, "wait", "pod", "-l", "app.kubernetes.io/component=webhook", "--for=delete", "--timeout=60s")
	f.refused(t, []string{"failed calling webhook"}, "kubectl", "apply", "-f", "../../demo/changes/open-data-to-world.yaml")
	f.run(t, "kubectl", "apply", "-f", "testdata/probed.yaml")
	f.run(t, "kubectl", "-n", "prod", "wait", "pod/probed", "--for=condition=Ready", "--timeout=60s")
	backend := f.pod(t, "prod/backend")
	f.refused(t, []string{"ValidatingAdmissionPolicy", "tierwall.io/tier-role"}, "kubectl", "-n", "prod", "label", "pod", backend.Pod, "--overwrite", "tierwall.io/tier-role=data")
	f.run(t, "kubectl", "-n", "prod", "delete", "pod", "probed", "--wait=true")
	f.wantReach(t, inTiers)
	for _, exempt := range []string{"kube-system", systemNamespace} {
		f.run(t, "kubectl", "-n", exempt, "apply", "-f", "testdata/unselecting.yaml")
		f.run(t, "kubectl", "-n", exempt, "delete", "-f", "testdata/unselecting.yaml")
	}
	f.run(t, "kubectl", "-n", systemNamespace, "scale", "deployment/tierwall-webhook", "--replicas=2")
	f.await(t, "deployment/tierwall-webhook")
}

// uninstall removes the release: no object, rule or set of ours stays, and the
// shop is as open as before.
func uninstall(t *testing.T, f *fixture) {
	f.run(t, "helm", "uninstall", "tierwall", "-n", systemNamespace, "--wait", "--timeout", "3m")
	for _, node := range f.lab.Nodes() {
		for _, command := range [][]string{
			{"iptables-nft-save"}, {"ip6tables-nft-save"}, {"iptables-legacy-save"}, {"ip6tables-legacy-save"}, {"ipset", "list", "-n"}, {"nft", "list", "tables"},
		} {
			out, err := node.Exec(t.Context(), command...)
			must(t, err)
			if i := strings.Index(strings.ToLower(out), "tierwall"); i >= 0 || strings.Contains(out, "tw4-") || strings.Contains(out, "tw6-") {
				t.Errorf("%s on %s still shows ours:\n%s", command[0], node.Name, out)
			}
		}
	}
	eventually(t, 30*time.Second, "objects of ours are gone", func() error {
		for _, kind := range []string{"validatingwebhookconfigurations", "mutatingwebhookconfigurations", "validatingadmissionpolicies",
			"validatingadmissionpolicybindings", "clusterroles", "clusterrolebindings", "customresourcedefinitions"} {
			out := f.run(t, "kubectl", "get", kind, "-o", "name")
			if strings.Contains(out, "tierwall") {
				return fmt.Errorf("%s: %s", kind, grep(out, "tierwall"))
			}
		}
		out := f.run(t, "kubectl", "-n", systemNamespace, "get", "all,secrets,configmaps,leases,serviceaccounts,roles,rolebindings,poddisruptionbudgets", "-o", "name")
		if out = grep(out, "tierwall"); out != "" {
			return fmt.Errorf("left in %s: %s", systemNamespace, out)
		}
		return nil
	})
	f.wantReach(t, func(_, _ shop.Workload) bool { return true })
}

// grep is the lines of a text that contain a word.
func grep(text, word string) string {
	var out []string
	for _, line := range strings.Split(text, "\n") {
		if strings.Contains(line, word) {
			out = append(out, line)
		}
	}
	return strings.Join(out, "\n")
}
