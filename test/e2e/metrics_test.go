//go:build cluster

package e2e

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// metricsAreGuarded asks an enforcer for its metrics: without a token, with one
// of a service account that may not, and with one that may.
func metricsAreGuarded(t *testing.T, f *fixture) {
	node, err := f.client.CoreV1().Nodes().Get(t.Context(), f.lab.Nodes()[0].Name, metav1.GetOptions{})
	must(t, err)
	url := "https://" + net.JoinHostPort(internalIP(node), "9466") + "/metrics"
	f.run(t, "kubectl", "-n", "prod", "create", "serviceaccount", "nobody")
	f.run(t, "kubectl", "-n", "prod", "create", "serviceaccount", "prometheus")
	f.run(t, "kubectl", "create", "clusterrole", "e2e-metrics", "--verb=get", "--non-resource-url=/metrics")
	f.run(t, "kubectl", "create", "clusterrolebinding", "e2e-metrics", "--clusterrole=e2e-metrics", "--serviceaccount=prod:prometheus")
	for account, want := range map[string]int{"": http.StatusUnauthorized, "nobody": http.StatusForbidden, "prometheus": http.StatusOK} {
		token := ""
		if account != "" {
			token = strings.TrimSpace(f.run(t, "kubectl", "-n", "prod", "create", "token", account))
		}
		status, body, err := get(t.Context(), url, token)
		must(t, err)
		if status != want {
			t.Errorf("metrics for %q: status %d, want %d: %s", account, status, want, body)
		}
		if want == http.StatusOK && !strings.Contains(body, "tierwall_enforcer_apply_seconds_count") {
			t.Errorf("the metrics lack tierwall_enforcer_apply_seconds")
		}
	}
}

// scraper lets the service account prod/prometheus read metrics, by the role of the chart.
func (f *fixture) scraper(t *testing.T) {
	t.Helper()
	f.run(t, "kubectl", "-n", "prod", "create", "serviceaccount", "prometheus")
	f.run(t, "kubectl", "create", "clusterrolebinding", "e2e-metrics", "--clusterrole=tierwall-metrics-reader", "--serviceaccount=prod:prometheus")
}

// counted is the sum of a metric, written with its labels, of all enforcers.
func (f *fixture) counted(t *testing.T, metric string) int {
	t.Helper()
	token := strings.TrimSpace(f.run(t, "kubectl", "-n", "prod", "create", "token", "prometheus"))
	sum := 0.
	for _, node := range f.lab.Nodes() {
		status, body, err := get(t.Context(), "https://"+net.JoinHostPort(node.IPv4.String(), "9466")+"/metrics", token)
		must(t, err)
		if status != http.StatusOK {
			t.Fatalf("metrics of %s: status %d: %s", node.Name, status, body)
		}
		for line := range strings.Lines(body) {
			if value, ok := strings.CutPrefix(line, metric+" "); ok {
				n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
				must(t, err)
				sum += n
			}
		}
	}
	return int(sum)
}

func internalIP(node *corev1.Node) string {
	for _, a := range node.Status.Addresses {
		if a.Type == corev1.NodeInternalIP {
			return a.Address
		}
	}
	return ""
}

func get(ctx context.Context, url, token string) (int, string, error) {
	client := &http.Client{
		Timeout:   10 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}, //nolint:gosec // self-signed, in the lab
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", fmt.Errorf("GET %s: %w", url, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}
