package images

import (
	"fmt"
	"os"
	"path/filepath"

	"sigs.k8s.io/yaml"
)

// ChartVersion is the version of tierwall's images that the chart below the
// repository's root installs where its values name no tag: its appVersion.
func ChartVersion(root string) (string, error) {
	file := filepath.Join(root, "charts", "tierwall", "Chart.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("read the chart's appVersion: %w", err)
	}
	var chart struct {
		AppVersion string `json:"appVersion"`
	}
	if err := yaml.Unmarshal(text, &chart); err != nil {
		return "", fmt.Errorf("read the chart's appVersion: %s: %w", file, err)
	}
	if chart.AppVersion == "" {
		return "", fmt.Errorf("read the chart's appVersion: %s has none", file)
	}
	return chart.AppVersion, nil
}
