package chart

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/tierwall/tierwall/webhook/registration"
)

// tokenMounts are the containers of a pod that see a token of its service account.
func tokenMounts(pod corev1.PodSpec) []string {
	if pod.AutomountServiceAccountToken == nil || *pod.AutomountServiceAccountToken {
		var all []string
		for _, c := range pod.Containers {
			all = append(all, c.Name)
		}
		return all
	}
	tokens := map[string]bool{}
	for _, v := range pod.Volumes {
		if v.Projected == nil {
			continue
		}
		for _, s := range v.Projected.Sources {
			tokens[v.Name] = tokens[v.Name] || s.ServiceAccountToken != nil
		}
	}
	var out []string
	for _, c := range slices.Concat(pod.InitContainers, pod.Containers) {
		if slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return tokens[m.Name] }) {
			out = append(out, c.Name)
		}
	}
	return out
}

// TestOnlyTheAgentHasAToken: what parses the node's CNI configuration cannot ask the API server.
func TestOnlyTheAgentHasAToken(t *testing.T) {
	containers := 0
	forEveryVariant(t, func(t *testing.T, all []object) {
		for _, o := range all {
			pod, ok := podOf(o)
			if !ok || !isEnforcer(o) {
				continue
			}
			containers = max(containers, len(pod.Containers))
			if got := tokenMounts(pod); !slices.Equal(got, []string{"enforcer"}) {
				t.Errorf("%s: the containers %v see a token, want the agent alone", o, got)
			}
			for _, c := range pod.Containers {
				for _, m := range c.VolumeMounts {
					if m.Name == "metrics" && c.Name != "enforcer" {
						t.Errorf("%s: the container %s sees the key of the metrics", o, c.Name)
					}
				}
			}
		}
	})
	if containers < 2 {
		t.Error("no variant has the container cni")
	}
}

// monitored renders the ServiceMonitors.
func monitored(t *testing.T, args ...string) []map[string]any {
	t.Helper()
	args = append(args, "--set", "metrics.serviceMonitor.enabled=true", "--set", "metrics.serviceMonitor.labels.release=prometheus",
		"--api-versions", "monitoring.coreos.com/v1", "--show-only", "templates/metrics/servicemonitor.yaml")
	var out []map[string]any
	for _, doc := range documents(t, template(t, args...)) {
		var content map[string]any
		if err := yaml.Unmarshal(doc, &content); err != nil {
			t.Fatal(err)
		}
		out = append(out, content)
	}
	return out
}

// TestServiceMonitorsVerify: Prometheus sends its token to no server that it cannot verify, by a name and an authority
// of which the chart says where they come from.
func TestServiceMonitorsVerify(t *testing.T) {
	for _, v := range []struct {
		name, webhookCA string
		args            []string
	}{
		{"own authority", "tierwall-webhook-ca", nil},
		{"cert-manager", "tierwall-webhook-tls", []string{"--api-versions", "cert-manager.io/v1"}},
	} {
		t.Run(v.name, func(t *testing.T) {
			authorities := map[string]string{}
			for _, m := range monitored(t, v.args...) {
				spec := m["spec"].(map[string]any)
				selector, _ := json.Marshal(spec["selector"])
				for _, e := range spec["endpoints"].([]any) {
					endpoint := e.(map[string]any)
					tls, _ := endpoint["tlsConfig"].(map[string]any)
					if endpoint["scheme"] != "https" || tls["insecureSkipVerify"] != nil {
						t.Errorf("%v is not verified", endpoint)
					}
					ca, _ := tls["ca"].(map[string]any)
					secret, _ := ca["secret"].(map[string]any)
					name, _ := tls["serverName"].(string)
					authorities[name], _ = secret["name"].(string)
					component := strings.TrimSuffix(strings.TrimPrefix(name, "tierwall-"), "-metrics."+namespace+".svc")
					if secret["key"] != "ca.crt" || !strings.Contains(string(selector), `"app.kubernetes.io/component":"`+component+`"`) {
						t.Errorf("%s verifies %s by %v", selector, name, secret)
					}
				}
			}
			want := map[string]string{
				"tierwall-webhook-metrics." + namespace + ".svc":  v.webhookCA,
				"tierwall-enforcer-metrics." + namespace + ".svc": "tierwall-enforcer-metrics",
			}
			if len(authorities) != len(want) {
				t.Errorf("monitored: %v, want %v", authorities, want)
			}
			for name, secret := range want {
				if authorities[name] != secret {
					t.Errorf("%s is verified by Secret %q, want %q", name, authorities[name], secret)
				}
			}
		})
	}
}

// TestWebhooksAreFilledAsTheyArePinned: the ConfigMap and the admission policy have one source, and every webhook is in both.
func TestWebhooksAreFilledAsTheyArePinned(t *testing.T) {
	forEveryVariant(t, func(t *testing.T, all []object) {
		var hooks registration.Webhooks
		var pinned string
		for _, o := range all {
			switch o := o.Object.(type) {
			case *corev1.ConfigMap:
				if text, ok := o.Data["webhooks.yaml"]; ok {
					var err error
					if hooks, err = registration.ParseWebhooks([]byte(text)); err != nil {
						t.Fatal(err)
					}
				}
			case *admissionv1.ValidatingAdmissionPolicy:
				if o.Name == "tierwall-configurations" {
					pinned = o.Spec.Variables[0].Expression
				}
			}
		}
		if len(hooks.Validating) == 0 || len(hooks.Mutating) == 0 || pinned == "" {
			t.Fatalf("%d and %d webhooks, pinned %q", len(hooks.Validating), len(hooks.Mutating), pinned)
		}
		if strings.Contains(pinned, "caBundle") {
			t.Error("the authority is pinned, too")
		}
		for _, h := range hooks.Validating {
			if strings.Count(pinned, `"`+h.Name+`": dyn(`) != 1 || !strings.Contains(pinned, *h.ClientConfig.Service.Path) {
				t.Errorf("%s is not pinned", h.Name)
			}
		}
		for _, h := range hooks.Mutating {
			if strings.Count(pinned, `"`+h.Name+`": dyn(`) != 1 {
				t.Errorf("%s is not pinned", h.Name)
			}
		}
	})
}

// TestClientCertificatesAreAskedFor where the values have an authority, and not before.
func TestClientCertificatesAreAskedFor(t *testing.T) {
	ca := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(ca, []byte("-----BEGIN CERTIFICATE-----\nMFkwEw==\n-----END CERTIFICATE-----\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	show := []string{"--show-only", "templates/webhook/deployment.yaml", "--show-only", "templates/admission/configmap.yaml"}
	if got := template(t, show...); strings.Contains(got, "client-ca") {
		t.Error("clients are asked for certificates of no authority")
	}
	got := template(t, append(show, "--set-file", "webhook.clientCA="+ca, "--set", "webhook.clientNames={kube-apiserver,other}")...)
	for _, want := range []string{"--client-ca-file=/etc/tierwall/admission/client-ca.pem", "--client-names=kube-apiserver,other", "client-ca.pem: |", "MFkwEw=="} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is missing in\n%s", want, got)
		}
	}
}

// TestThreatsNameTestsThatExist: a threat that is said to be held has a test that can fail.
func TestThreatsNameTestsThatExist(t *testing.T) {
	text := file(t, filepath.Join(repository, "docs/design/threats.md"))
	named := regexp.MustCompile("`(Test[A-Za-z0-9_]+)`").FindAllStringSubmatch(text, -1)
	if len(named) < 10 {
		t.Fatalf("threats.md names %d tests", len(named))
	}
	there := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func (Test[A-Za-z0-9_]+)\(`)
	err := filepath.WalkDir(repository, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range declared.FindAllStringSubmatch(string(text), -1) {
			there[m[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range named {
		if !there[m[1]] {
			t.Errorf("docs/design/threats.md names %s, which does not exist", m[1])
		}
	}
}
