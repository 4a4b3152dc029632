package cli_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tierwall/tierwall/cli"
)

// manifests is a file with the text.
func manifests(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "m.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// The number of a port by name is that of a pod which does not exist yet: it can be the one that the other side has.
func TestAPortByNameAndANumberDoNotBlockEachOther(t *testing.T) {
	const policies = `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: out, namespace: hub}
spec: {podSelector: {matchLabels: {app: caller}}, policyTypes: [Egress], egress: [{to: [{podSelector: {matchLabels: {app: callee}}}], ports: [{port: %s}]}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: in, namespace: hub}
spec: {podSelector: {matchLabels: {app: callee}}, ingress: [{from: [{podSelector: {matchLabels: {app: caller}}}], ports: [{port: %s}]}]}
`
	for _, c := range []struct {
		out, in string
		blocked bool
	}{{"web", "8080", false}, {"8443", "web", false}, {"web", "web", false}, {"80", "81", true}, {"web, protocol: UDP", "53", true}} {
		file := manifests(t, fmt.Sprintf(policies, c.out, c.in))
		_, text, errs := run(t, "", "diff", "-f", file, "--all")
		if got := strings.Contains(text, "blocked by"); got != c.blocked || !strings.Contains(text, "opened") {
			t.Errorf("to %s, at %s: blocked %v, want %v\n%s%s", c.out, c.in, got, c.blocked, text, errs)
		}
	}
}

// What is beside the pods in a dump of a cluster, the workloads that made them, opens and closes nothing.
func TestWorkloadsBesideTheirPodsOpenNothing(t *testing.T) {
	const workload = `
apiVersion: apps/v1
kind: %s
metadata: {name: web, namespace: shop%s}
spec: {%s selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {serviceAccount: web, containers: [{name: c, image: x}]}}}
---
`
	const policies = `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec: {podSelector: {matchLabels: {app: web}}, ingress: [{from: [{podSelector: {}}]}]}
`
	const pod = `
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: shop, uid: p, labels: {app: web, %s}, ownerReferences: [{apiVersion: apps/v1, kind: %s, name: %s, uid: o, controller: true}]}
spec: {serviceAccountName: web, containers: [{name: c, image: x}]}
status: {phase: Running, podIPs: [{ip: 10.0.0.%d}]}
---
`
	owned := ", uid: r, ownerReferences: [{apiVersion: apps/v1, kind: Deployment, name: web, uid: o, controller: true}]"
	old := strings.Replace(fmt.Sprintf(workload, "ReplicaSet", owned, "replicas: 0,"), "name: web", "name: web-1", 1)
	stateful := fmt.Sprintf(pod, "web-0", "apps.kubernetes.io/pod-index: \"0\"", "StatefulSet", "web", 1) +
		fmt.Sprintf(pod, "web-1", "apps.kubernetes.io/pod-index: \"1\"", "StatefulSet", "web", 2)
	deployed := fmt.Sprintf(pod, "web-7f-a", "pod-template-hash: 7f", "ReplicaSet", "web-7f", 1)
	for name, c := range map[string]struct{ pods, workloads string }{
		"a Deployment with an old ReplicaSet": {deployed, fmt.Sprintf(workload, "Deployment", ", uid: o", "replicas: 1,") + strings.ReplaceAll(old, "app: web", "app: was")},
		"a StatefulSet with two pods":         {stateful, fmt.Sprintf(workload, "StatefulSet", ", uid: o", "serviceName: web, replicas: 2,")},
	} {
		status, text, errs := run(t, "", "diff", "--from", manifests(t, c.pods+policies), "--to", manifests(t, c.workloads+c.pods+policies))
		if status != cli.Fine || text != "nothing is opened or closed\n" {
			t.Errorf("%s: %d\n%s%s", name, status, text, errs)
		}
	}
}

// A folder with a kustomization is what it renders to, before the change and after it.
func TestDiffRendersKustomizations(t *testing.T) {
	const policy = `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec: {podSelector: {matchLabels: {app: web}}, ingress: [{from: [{podSelector: {matchLabels: {app: front}}}], ports: [{port: %d}]}]}
`
	folder := func(port int, kustomization string) string {
		file := manifests(t, fmt.Sprintf(policy, port))
		if kustomization != "" {
			if err := os.WriteFile(filepath.Join(filepath.Dir(file), "kustomization.yaml"), []byte(kustomization), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return filepath.Dir(file)
	}
	rendered, plain := "resources: [m.yaml]\nnamespace: stage\n", ""
	for _, c := range []struct {
		name, from, to string
		opens, closes  string
	}{
		{"both", rendered, rendered, "stage/any pod {app=web}  TCP/81", "stage/any pod {app=web}  TCP/80"},
		{"after alone", plain, rendered, "stage/any pod {app=web}  TCP/81", "shop/any pod {app=web}  TCP/80"},
		{"before alone", rendered, plain, "shop/any pod {app=web}  TCP/81", "stage/any pod {app=web}  TCP/80"},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, text, errs := run(t, "", "diff", "--all", "--sides", "--from", folder(80, c.from), "--to", folder(81, c.to))
			opened, closed, _ := strings.Cut(text, "closed")
			opened, closed = strings.Join(strings.Fields(opened), " "), strings.Join(strings.Fields(closed), " ")
			want := func(s string) string { return strings.Join(strings.Fields(s), " ") }
			if status != 0 || !strings.Contains(opened, want(c.opens)) || !strings.Contains(closed, want(c.closes)) {
				t.Errorf("exit %v\n%s%s", status, text, errs)
			}
		})
	}
}

// Networks of a family that no pod has an address of are left out and counted; where it is not known, nothing is.
func TestDiffOfAClusterOfOneFamily(t *testing.T) {
	const policy = `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec: {podSelector: {}, ingress: [{ports: [{port: 80}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: host, namespace: shop}
spec: {hostNetwork: true, containers: [{name: c, image: x}]}
status: {podIPs: [{ip: 192.0.2.9}, {ip: "2001:db8::9"}]}
`
	const running = `---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop}
spec: {containers: [{name: c, image: x}]}
status: {phase: Running, podIPs: [{ip: "%s"}]}
`
	for _, c := range []struct {
		name, pod  string
		flags      []string
		shown, not string
		counted    bool
	}{
		{"not known", "", nil, "0.0.0.0/0, ::/0", "no pod has such an address", false},
		{"IPv4 by a flag", "", []string{"--pod-cidr", "10.244.0.0/16"}, "0.0.0.0/0", "::/0", true},
		{"IPv6 by a flag", "", []string{"--pod-cidr", "fd00::/64"}, "::/0", "0.0.0.0/0", true},
		{"both by flags", "", []string{"--pod-cidr", "fd00::/64,10.244.0.0/16"}, "::/0", "no pod has such an address", false},
		{"IPv4 by a pod", fmt.Sprintf(running, "10.244.0.7"), nil, "0.0.0.0/0", "::/0", true},
		{"IPv6 by a pod", fmt.Sprintf(running, "fd00::7"), nil, "::/0", "0.0.0.0/0", true},
		{"all rows", fmt.Sprintf(running, "10.244.0.7"), []string{"--all"}, "::/0", "no pod has such an address", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, text, errs := run(t, "", append([]string{"diff", "-f", manifests(t, policy+c.pod)}, c.flags...)...)
			if status != 0 || !strings.Contains(text, c.shown) || strings.Contains(text, c.not) || strings.Contains(text, "no pod has such an address") != c.counted {
				t.Errorf("exit %v\n%s%s", status, text, errs)
			}
		})
	}
}
