package images

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestChartVersion(t *testing.T) {
	tests := []struct{ name, chart, want, says string }{
		{name: "as it should be", chart: "version: 9.9.9\nappVersion: \"1.2.3\"\n", want: "1.2.3"},
		{name: "no appVersion", chart: "version: 9.9.9\n", says: "has none"},
		{name: "no YAML", chart: "appVersion: [", says: "Chart.yaml"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			root := t.TempDir()
			dir := filepath.Join(root, "charts", "tierwall")
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "Chart.yaml"), []byte(test.chart), 0o644); err != nil {
				t.Fatal(err)
			}
			got, err := ChartVersion(root)
			if got != test.want || (err == nil) != (test.says == "") {
				t.Errorf("%q, error %v; want %q", got, err, test.want)
			}
			if err != nil && !strings.Contains(err.Error(), test.says) {
				t.Errorf("error %v does not say %q", err, test.says)
			}
		})
	}
}

func TestRepositoryHasAChart(t *testing.T) {
	if version, err := ChartVersion(".."); err != nil || version == "" {
		t.Errorf("version %q, error %v", version, err)
	}
	if _, err := ChartVersion(t.TempDir()); err == nil {
		t.Error("a directory without a chart has a version")
	}
}
