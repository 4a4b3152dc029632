package chart

import (
	"encoding/json"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

var (
	declared = regexp.MustCompile(`"(tierwall_[a-z_]+)"`)
	named    = regexp.MustCompile(`\btierwall_[a-z_]+`)
)

// declaredMetrics are the names of all metrics in the code.
func declaredMetrics(t *testing.T) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	for _, dir := range []string{"enforcer", "webhook", "clustercache", "internal", "cmd"} {
		err := filepath.WalkDir(filepath.Join(repository, dir), func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			for _, m := range declared.FindAllStringSubmatch(string(text), -1) {
				out[m[1]] = true
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(out) < 10 {
		t.Fatalf("the code has the metrics %v alone", slices.Sorted(maps.Keys(out)))
	}
	return out
}

// namedMetrics are those that a text names; a histogram's series are the histogram.
func namedMetrics(text string) map[string]bool {
	out := map[string]bool{}
	for _, name := range named.FindAllString(text, -1) {
		for _, suffix := range []string{"_bucket", "_count", "_sum"} {
			name = strings.TrimSuffix(name, suffix)
		}
		out[name] = true
	}
	return out
}

func file(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestAlertsAndDashboardNameMetricsThatThereAre: one that is not there never fires, and shows nothing.
func TestAlertsAndDashboardNameMetricsThatThereAre(t *testing.T) {
	there := declaredMetrics(t)
	for _, name := range []string{"files/alerts.yaml", "files/dashboard.json"} {
		used := namedMetrics(file(t, filepath.Join(chartDir, name)))
		if len(used) < 5 {
			t.Errorf("%s names the metrics %v alone", name, used)
		}
		for metric := range used {
			if !there[metric] {
				t.Errorf("%s: there is no metric %s", name, metric)
			}
		}
	}
}

func TestMetricsAreDocumented(t *testing.T) {
	there, documented := declaredMetrics(t), namedMetrics(operations(t))
	for metric := range there {
		if !documented[metric] {
			t.Errorf("docs/operations.md does not say what %s is", metric)
		}
	}
	for metric := range documented {
		if !there[metric] {
			t.Errorf("docs/operations.md tells of %s, which is not there", metric)
		}
	}
}

func TestAlertsAreRendered(t *testing.T) {
	args := []string{"--set", "metrics.prometheusRule.enabled=true", "--set", "metrics.prometheusRule.labels.release=prometheus", "--show-only", "templates/metrics/prometheusrule.yaml"}
	text := template(t, append(args, "--api-versions", "monitoring.coreos.com/v1")...)
	var rule struct {
		Kind     string
		Metadata struct{ Labels map[string]string }
		Spec     struct {
			Groups []struct {
				Rules []struct {
					Alert, Expr string
					Labels      map[string]string
					Annotations map[string]string
				}
			}
		}
	}
	if err := yaml.Unmarshal([]byte(text), &rule); err != nil {
		t.Fatal(err)
	}
	if rule.Kind != "PrometheusRule" || rule.Metadata.Labels["release"] != "prometheus" || len(rule.Spec.Groups) != 1 {
		t.Fatalf("rendered\n%s", text)
	}
	for _, r := range rule.Spec.Groups[0].Rules {
		if !strings.HasPrefix(r.Alert, "Tierwall") || r.Expr == "" || r.Labels["severity"] == "" || r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
			t.Errorf("alert %+v lacks something", r)
		}
		if !strings.Contains(operations(t), "`"+r.Alert+"`") {
			t.Errorf("docs/operations.md does not say what to do about %s", r.Alert)
		}
	}
}

func TestDashboardIsRendered(t *testing.T) {
	text := template(t, "--set", "metrics.dashboard.enabled=true", "--show-only", "templates/metrics/dashboard.yaml")
	var object struct {
		Metadata struct{ Labels map[string]string }
		Data     map[string]string
	}
	if err := yaml.Unmarshal([]byte(text), &object); err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal([]byte(object.Data["tierwall.json"]), &dashboard); err != nil {
		t.Fatal(err)
	}
	if object.Metadata.Labels["grafana_dashboard"] != "1" || len(dashboard.Panels) < 10 {
		t.Errorf("labels %v, %d panels", object.Metadata.Labels, len(dashboard.Panels))
	}
	for _, p := range dashboard.Panels {
		if len(p.Targets) == 0 || p.Targets[0].Expr == "" {
			t.Errorf("panel %q shows nothing", p.Title)
		}
	}
}
