package cli_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tierwall/tierwall/cli"
	"github.com/tierwall/tierwall/cli/manifest"
)

// resources are what the API server serves: by group and version, kinds and their paths.
var resources = map[string][][2]string{
	"v1": {{"Namespace", "namespaces"}, {"Node", "nodes"}, {"Pod", "pods"}}, "networking.k8s.io/v1": {{"NetworkPolicy", "networkpolicies"}},
	"tierwall.io/v1alpha1": {{"TierRole", "tierroles"}, {"Guardrail", "guardrails"}},
}

// apiServer serves discovery and lists of the objects, two to a page, and is told of in a kubeconfig.
func apiServer(t *testing.T, objects map[string][]client.Object) (kubeconfig string) {
	t.Helper()
	mux := http.NewServeMux()
	answer := func(path string, value any) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			if err := json.NewEncoder(w).Encode(value); err != nil {
				t.Error(err)
			}
		})
	}
	groups := []map[string]any{}
	for gv, kinds := range resources {
		base := "/api/v1"
		if group, version, ok := strings.Cut(gv, "/"); ok {
			base = "/apis/" + gv
			v := map[string]string{"groupVersion": gv, "version": version}
			groups = append(groups, map[string]any{"name": group, "versions": []any{v}, "preferredVersion": v})
			answer("/apis/"+group, groups[len(groups)-1])
		}
		var list []map[string]any
		for _, k := range kinds {
			list = append(list, map[string]any{"name": k[1], "kind": k[0], "namespaced": k[0] == "Pod" || k[0] == "NetworkPolicy", "verbs": []string{"list"}})
			mux.HandleFunc("GET "+base+"/"+k[1], func(w http.ResponseWriter, r *http.Request) {
				begin, next := 0, ""
				if c := r.URL.Query().Get("continue"); c != "" {
					if _, err := fmt.Sscan(c, &begin); err != nil {
						t.Error(err)
					}
				}
				items := objects[k[0]][begin:]
				if len(items) > 2 {
					items, next = items[:2], fmt.Sprint(begin+2)
				}
				w.Header().Set("Content-Type", "application/json")
				if err := json.NewEncoder(w).Encode(map[string]any{"kind": k[0] + "List", "apiVersion": gv, "items": append([]client.Object{}, items...),
					"metadata": map[string]string{"continue": next}}); err != nil {
					t.Error(err)
				}
			})
		}
		answer(base, map[string]any{"kind": "APIResourceList", "groupVersion": gv, "resources": list})
	}
	answer("/api", map[string]any{"kind": "APIVersions", "versions": []string{"v1"}})
	answer("/apis", map[string]any{"kind": "APIGroupList", "groups": groups})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	kubeconfig = filepath.Join(t.TempDir(), "config")
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: test
contexts: [{name: test, context: {cluster: test, namespace: prod, user: test}}]
clusters: [{name: test, cluster: {server: %q}}]
users: [{name: test, user: {}}]
`, server.URL)
	if err := os.WriteFile(kubeconfig, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return kubeconfig
}

// liveShop is the shop, running: its pods have addresses and owners.
func liveShop(t *testing.T) string {
	t.Helper()
	const pods = `
apiVersion: v1
kind: Pod
metadata: {name: web-5d4-x, namespace: prod, uid: "1", labels: {app: web, pod-template-hash: 5d4}, ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: web-5d4, uid: "9", controller: true}]}
spec: {serviceAccountName: web, containers: [{name: web, ports: [{name: http, containerPort: 8080}]}]}
status: {phase: Running, podIPs: [{ip: 10.0.0.1}]}
---
apiVersion: v1
kind: Pod
metadata: {name: api-77c-y, namespace: prod, uid: "2", labels: {app: api, pod-template-hash: 77c}, ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: api-77c, uid: "8", controller: true}]}
spec: {serviceAccountName: api, containers: [{name: api}]}
status: {phase: Running, podIPs: [{ip: 10.0.0.2}]}
---
apiVersion: v1
kind: Pod
metadata: {name: db-0, namespace: prod, uid: "3", labels: {app: db}, ownerReferences: [{apiVersion: apps/v1, kind: StatefulSet, name: db, uid: "7", controller: true}]}
spec: {serviceAccountName: db, containers: [{name: db}]}
status: {phase: Running, podIPs: [{ip: 10.0.0.3}]}
`
	files, errs := manifest.Reader{}.Read("testdata/shop/app.yaml", "testdata/shop/policies.yaml", "testdata/shop/roles.json", guardrails)
	running, more := manifest.Reader{Stdin: strings.NewReader(pods)}.Read("-")
	if errs = append(errs, more...); len(errs) > 0 {
		t.Fatal(errs)
	}
	served := map[string][]client.Object{}
	for _, o := range append(files, running...) {
		if o.Value != nil {
			served[o.Kind] = append(served[o.Kind], o.Value)
		}
	}
	return apiServer(t, served)
}

func TestOnALiveCluster(t *testing.T) {
	kubeconfig := liveShop(t)
	const relabelled = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: prod}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {serviceAccountName: db, containers: [{name: web}]}
`
	for name, c := range map[string]struct {
		stdin  string
		args   []string
		status int
		says   []string
	}{
		"the guardrails are the cluster's": {text(t, bad+"/open.yaml"), []string{"check", "-f", "-"}, cli.Violated, []string{"data-tier-closed", "8 guardrails", "does not serve ClusterNetworkPolicy"}},
		"what is there already is sound":   {"", []string{"check", "-f", shop + "/policies.yaml"}, cli.Fine, []string{"nothing to object to"}},
		"a new account is a new role":      {relabelled, []string{"diff", "-f", "-"}, cli.Fine, []string{"prod/api-77c-y (backend)  →  prod/web-5d4-x (data)", "opened", "closed"}},
		"a Deployment's pod":               {"", []string{"explain", "--from", "deploy/api", "--to", "sts/db", "--port", "5432"}, cli.Fine, []string{"prod/api-77c-y → prod/db-0 on 5432/TCP: allowed"}},
		"a pod by its address":             {"", []string{"explain", "--from", "10.0.0.1", "--to", "10.0.0.3", "--port", "5432"}, cli.Violated, []string{"prod/web-5d4-x → prod/db-0", "had the role backend"}},
		"a pod of the context's namespace": {"", []string{"explain", "--from", "web-5d4-x", "--to", "api-77c-y", "--port", "8080"}, cli.Fine, []string{"allowed"}},
	} {
		status, out, errs := run(t, c.stdin, append(c.args, "--kubeconfig", kubeconfig)...)
		if status != c.status {
			t.Errorf("%s: exit status %d, want %d", name, status, c.status)
		}
		for _, says := range c.says {
			if !strings.Contains(out+errs, says) {
				t.Errorf("%s: no %q in\n%s%s", name, says, out, errs)
			}
		}
	}
}

func TestAClusterThatDoesNotAnswer(t *testing.T) {
	kubeconfig := apiServer(t, nil)
	config := strings.ReplaceAll(text(t, kubeconfig), "http://127.0.0.1:", "http://127.0.0.1:1")
	if err := os.WriteFile(kubeconfig, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	status, _, errs := run(t, "", "check", "-f", shop, "--kubeconfig", kubeconfig)
	if status != cli.Unusable || !strings.Contains(errs, "ask the API server") && !strings.Contains(errs, "list the objects") {
		t.Errorf("exit status %d: %s", status, errs)
	}
}
